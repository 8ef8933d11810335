//! SNAT rules of others that give an uplink's address to packets of any uplink.

use std::net::IpAddr;

use super::{
    Conflict,
    products::UNKNOWN,
    survey::{SourceChange, Survey},
};
use crate::{config::Config, engine::kernel::network::Snapshot};

/// Returns the chains that set an address of an uplink while there are other uplinks.
pub(super) fn find(config: &Config, snapshot: &Snapshot, survey: &Survey) -> Vec<Conflict> {
    let owner = |address: IpAddr| {
        let mut holding = snapshot.addresses.iter().filter(|own| own.address == address);
        let ifindex = holding.next()?.ifindex;
        let of = |name: &str| snapshot.link(name).is_some_and(|link| link.ifindex == ifindex);
        config.uplinks.iter().find(|uplink| of(&uplink.interface))
    };
    let found = survey.sources.iter().filter_map(|SourceChange { chain, address }| {
        let owner = owner(*address)?;
        let interface = &owner.interface;
        let mut others = config.uplinks.iter().filter(|other| other.interface != *interface);
        others.next()?;
        Some(Conflict {
            what: format!("chain {chain}"),
            owner: super::products::owner(chain).unwrap_or(UNKNOWN).into(),
            meaning: format!(
                "it sets the source {address}, which is uplink {}'s, whichever uplink a packet \
                 leaves by: by another one, as after a failover, no answer comes back",
                owner.name
            ),
            advice: format!(
                "add `oifname \"{interface}\"` to the rule (`-o {interface}` in iptables): linkbal \
                 translates what leaves by the others"
            ),
            compatible: false,
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(expr: &Value) -> Value {
        json!({"family": "ip", "table": "nat", "chain": "post", "expr": expr})
    }

    fn survey(base: bool, rules: &[Value]) -> Vec<String> {
        let mut chain = json!({"family": "ip", "table": "nat", "name": "post"});
        if base {
            chain["hook"] = "postrouting".into();
        }
        let rules = rules.iter().map(|expr| json!({"rule": rule(expr)}));
        let objects: Vec<_> = [json!({"chain": chain})].into_iter().chain(rules).collect();
        let survey = Survey::of(&json!({"nftables": objects}));
        survey.sources.iter().map(|change| format!("{} {}", change.chain, change.address)).collect()
    }

    #[test]
    fn rules_of_iptables_are_read_too() {
        let mut survey = Survey::default();
        let text = "*nat\n:POSTROUTING ACCEPT [0:0]\n\
            -A POSTROUTING -s 10.0.0.5/32 -j SNAT --to-source 203.0.113.2\n\
            -A POSTROUTING -s 10.0.0.6/32 -p tcp -j SNAT --to-source 203.0.113.3:1024-2048\n\
            -A vpn -j SNAT --to-source 203.0.113.4\n\
            -A POSTROUTING -s 10.0.0.5/32 -o wan-a -j SNAT --to-source 203.0.113.5\n\
            -A POSTROUTING -j SNAT --to-source 203.0.113.6\nCOMMIT\n";
        survey.read_iptables("iptables-legacy-save", text);
        let v6 = "*nat\n-A POSTROUTING -j SNAT --to-source [2001:db8::7]:1-2\n\
            -A POSTROUTING -j SNAT --to-source 2001:db8::8\n";
        survey.read_iptables("ip6tables-nft-save", v6);
        let all: Vec<_> = survey
            .sources
            .iter()
            .map(|change| format!("{} {}", change.chain, change.address))
            .collect();
        let expected = [
            "ip6 nat POSTROUTING 2001:db8::7",
            "ip6 nat POSTROUTING 2001:db8::8",
            "legacy ip nat POSTROUTING 203.0.113.2",
            "legacy ip nat POSTROUTING 203.0.113.3",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_source_that_is_set_whatever_the_way_is_noted() {
        let host = json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip",
            "field": "saddr"}}, "right": "10.0.0.5"}});
        let snat = json!({"snat": {"addr": "203.0.113.2"}});
        let by = json!({"match": {"op": "==", "left": {"meta": {"key": "oifname"}},
            "right": "wan-a"}});
        let by_mark = json!({"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, 255]},
            "right": 1}});
        let set = json!([host, snat]);
        let noted = ["ip nat post 203.0.113.2".to_owned()];
        assert_eq!(survey(true, std::slice::from_ref(&set)), noted);
        assert_eq!(survey(true, &[set.clone(), set.clone()]), noted, "once");
        assert!(survey(true, &[json!([by, host, snat])]).is_empty());
        assert!(survey(true, &[json!([by_mark, snat])]).is_empty());
        assert!(survey(false, std::slice::from_ref(&set)).is_empty(), "who jumps there may ask");
        assert!(survey(true, &[json!([by, {"return": null}]), set]).is_empty(), "others returned");
        assert!(survey(true, &[json!([host, {"masquerade": null}])]).is_empty());
    }
}
