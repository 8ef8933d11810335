//! A master of two gateways that lacks virtual addresses of some uplinks: keepalived sets them up again only
//! when it becomes the master once more.

use linkbal_common::uplink::Family;

use super::Complaint;
use crate::{
    config::{Config, Severity, Uplink},
    engine::kernel::{network::Snapshot, standby::is_standby},
};

/// Finds uplinks that wait for their addresses while those of others are here.
pub(super) fn find(config: &Config, snapshot: &Snapshot) -> Vec<Complaint> {
    Family::ALL.into_iter().flat_map(|family| of_family(config, snapshot, family)).collect()
}

fn of_family(config: &Config, snapshot: &Snapshot, family: Family) -> Vec<Complaint> {
    let Some(other) = config.uplinks.iter().find(|uplink| is_here(snapshot, uplink, family)) else {
        return Vec::new();
    };
    let waiting = config.uplinks.iter().filter(|uplink| is_standby(snapshot, uplink, family));
    let each = waiting.map(|uplink| {
        let (name, other, family) = (&uplink.name, &other.name, family.name());
        let what = format!(
            "{name} {family} waits for its virtual address, though that of {other} is here: another \
             program has removed it"
        );
        let advice =
            "hand over to the other gateway: keepalived sets it up again with the next handover";
        Complaint::new(Severity::Error, what, advice, "systemctl restart keepalived")
    });
    each.collect()
}

fn is_here(snapshot: &Snapshot, uplink: &Uplink, family: Family) -> bool {
    let mut own = snapshot.addresses.iter();
    own.any(|own| uplink.virtual_of(family).any(|address| *address == own.address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernel::network::{Address, Link};

    const CONFIG: &str = "[uplink.a]\ninterface = \"wan-a\"\nvirtual_addresses = [\"192.0.2.2\"]\n\
        [uplink.b]\ninterface = \"wan-b\"\nvirtual_addresses = [\"198.51.100.2\"]\n\
        [uplink.c]\ninterface = \"wan-c\"\n";

    fn found(addresses: &[(u32, &str)]) -> Vec<Complaint> {
        let mut snapshot = Snapshot::default();
        for (ifindex, name) in [(3, "wan-a"), (4, "wan-b"), (5, "wan-c")] {
            snapshot.links.insert(ifindex, Link::ethernet(ifindex, name));
        }
        snapshot.addresses.extend(addresses.iter().map(|(ifindex, address)| Address {
            ifindex: *ifindex,
            address: address.parse().expect("an address"),
            prefix_length: 24,
            deprecated: false,
            temporary: false,
            held: false,
        }));
        find(&Config::parse(CONFIG, "test").expect("a valid configuration"), &snapshot)
    }

    #[test]
    fn a_master_has_the_addresses_of_all_uplinks() {
        assert_eq!(found(&[(3, "192.0.2.2"), (4, "198.51.100.2")]), []);
        // On standby there are none, but of an uplink that is this gateway's own.
        assert_eq!(found(&[(5, "203.0.113.2")]), []);
        let [lost] = &found(&[(3, "192.0.2.2")])[..] else { panic!("one") };
        assert!(lost.what.starts_with("b ipv4 waits for its virtual address, though that of a"));
    }
}
