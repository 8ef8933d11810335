//! Programs that get addresses for interfaces: their leases, and their processes.

use std::{collections::BTreeMap, fs, net::IpAddr, path::PathBuf};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::{
    engine::kernel::network::Snapshot,
    init::Client,
    sys::{doctor::Process, host::file},
};

/// Folders of leases in the format of dhclient, and the beginnings of the names of such files.
const DHCLIENT: [(&str, &str); 3] = [
    ("/var/lib/dhcp", "dhclient"),
    ("/var/lib/dhclient", "dhclient"),
    ("/var/lib/NetworkManager", "dhclient"),
];

/// Folder of systemd-networkd's leases, by the index of the interface.
const NETWORKD: &str = "/run/systemd/netif/leases";

/// Programs that ask for leases.
const PROGRAMS: [&str; 3] = ["dhclient", "udhcpc", "dhcpcd"];

/// A lease in a file of dhclient, which may be an old one.
#[derive(Debug, PartialEq, Eq)]
struct Lease {
    address: Option<IpAddr>,
    /// The end, if the file says one.
    expires: Option<Timestamp>,
    routers: Vec<IpAddr>,
}

impl Lease {
    /// Returns whether it still holds for an interface with such addresses.
    fn holds(&self, own: &[IpAddr], now: Timestamp) -> bool {
        let over = self.expires.is_some_and(|expires| expires < now);
        !over && self.address.is_some_and(|address| own.contains(&address))
    }
}

/// Returns the programs by the name of the interface.
pub(super) fn clients(snapshot: &Snapshot, processes: &[Process]) -> BTreeMap<String, Client> {
    let links: Vec<(u32, String)> =
        snapshot.links.values().map(|link| (link.ifindex, link.name.clone())).collect();
    let addresses = |interface: &str| -> Vec<IpAddr> {
        let index = snapshot.link(interface).map(|link| link.ifindex);
        let own = snapshot.addresses.iter().filter(|own| Some(own.ifindex) == index);
        own.map(|own| own.address).collect()
    };
    let mut clients = BTreeMap::new();
    // Files are those of the machine, whatever namespace this runs in.
    if is_first_namespace() {
        for path in files() {
            let text = file::read(&path, file::SMALL).unwrap_or_default();
            let shown = path.display();
            for (interface, lease) in dhclient(&String::from_utf8_lossy(&text)) {
                let served = processes.iter().any(|process| serves(process, &interface).is_some());
                if served || lease.holds(&addresses(&interface), Timestamp::now()) {
                    let seen = format!("dhclient ({shown})");
                    clients.insert(interface, Client { seen, routers: lease.routers });
                }
            }
        }
        for (ifindex, name) in &links {
            let path = format!("{NETWORKD}/{ifindex}");
            if let Ok(text) = file::read_text(path.as_ref(), file::SMALL) {
                let seen = format!("systemd-networkd ({path})");
                clients.insert(name.clone(), Client { seen, routers: networkd(&text) });
            }
        }
    }
    for (_, name) in &links {
        let mut of_name =
            processes.iter().filter_map(|process| Some((process, serves(process, name)?)));
        if let Some((process, program)) = of_name.next() {
            let client = clients.entry(name.clone()).or_default();
            client.seen = format!("{program} (process {})", process.pid);
        }
    }
    clients.retain(|interface, _| links.iter().any(|(_, name)| name == interface));
    clients
}

/// Returns whether this is the network namespace of process 1; true if that cannot be seen.
fn is_first_namespace() -> bool {
    let first = fs::read_link("/proc/1/ns/net").ok();
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    first.is_none() || first == own
}

fn files() -> Vec<PathBuf> {
    let in_folder = |(folder, start): (&str, &'static str)| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(move |path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(start) && !name.contains('6'))
        })
    };
    DHCLIENT.into_iter().flat_map(in_folder).collect()
}

/// Returns dhclient's leases by interface; later leases replace earlier ones (dhclient.leases(5)).
fn dhclient(text: &str) -> BTreeMap<String, Lease> {
    let mut found = BTreeMap::new();
    for lease in text.split("lease {").skip(1) {
        let value = |name: &str| {
            let line = lease.lines().find_map(|line| line.trim().strip_prefix(name))?;
            Some(line.trim().trim_end_matches(';').trim_matches('"').to_owned())
        };
        let Some(interface) = value("interface ") else { continue };
        let routers = value("option routers ").unwrap_or_default();
        let lease = Lease {
            address: value("fixed-address ").and_then(|address| address.parse().ok()),
            expires: value("expire ").and_then(|text| end(&text)),
            routers: addresses(&routers, ','),
        };
        found.insert(interface, lease);
    }
    found
}

/// Returns the time of `4 2026/11/29 12:00:00`, which is in UTC, or of `epoch 1796040000; # ..`.
fn end(text: &str) -> Option<Timestamp> {
    let (first, rest) = text.split_once(' ')?;
    if first == "epoch" {
        let seconds = rest.split(';').next()?.trim().parse().ok()?;
        return Timestamp::from_second(seconds).ok();
    }
    let time = DateTime::strptime("%Y/%m/%d %H:%M:%S", rest).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
}

/// Returns the routers of a lease of systemd-networkd.
fn networkd(text: &str) -> Vec<IpAddr> {
    let line = text.lines().find_map(|line| line.strip_prefix("ROUTER="));
    addresses(line.unwrap_or_default(), ' ')
}

fn addresses(text: &str, separator: char) -> Vec<IpAddr> {
    text.split(separator).filter_map(|word| word.trim().parse().ok()).collect()
}

/// Returns the program of a process that asks for leases for an interface.
fn serves(process: &Process, interface: &str) -> Option<&'static str> {
    let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    // The second word is the program of a busybox.
    let mut programs = process.words.iter().take(2).map(name);
    let program = programs.find_map(|word| PROGRAMS.into_iter().find(|known| *known == word))?;
    let glued = |word: &String| word.strip_prefix("-i").is_some_and(|rest| rest == interface);
    let named = process.words.iter().skip(1).any(|word| word == interface || glued(word));
    named.then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lease_of_an_interface_counts() {
        let lease = |interface: &str, router: &str| {
            format!(
                "lease {{\n  interface \"{interface}\";\n  fixed-address 192.0.2.9;\n  \
                     option routers {router};\n  expire 4 2026/11/29 12:00:00;\n}}\n"
            )
        };
        let text = lease("eth0", "192.0.2.1")
            + &lease("eth1", "198.51.100.1,198.51.100.2")
            + &lease("eth0", "192.0.2.7");
        let found = dhclient(&text);
        let expected = [("eth0", "192.0.2.7"), ("eth1", "198.51.100.1 198.51.100.2")];
        let expected = expected.map(|(name, routers)| {
            let address = "192.0.2.9".parse().ok();
            let expires = "2026-11-29T12:00:00Z".parse().ok();
            (name.to_owned(), Lease { address, expires, routers: addresses(routers, ' ') })
        });
        assert_eq!(found, expected.into());
        assert!(dhclient("lease {\n").is_empty());
    }

    #[test]
    fn an_old_lease_does_not_count() {
        let own = addresses("192.0.2.9", ' ');
        let lease = |expires| Lease { address: own.first().copied(), expires, routers: vec![] };
        let now = Timestamp::from_second(1_796_000_000).expect("a time");
        let written = |text: &str| lease(Some(end(text).expect("a time")));
        for lease in [lease(None), written("4 2027/01/01 00:00:00")] {
            assert!(lease.holds(&own, now) && !lease.holds(&[], now), "{lease:?}");
        }
        for text in ["6 2020/02/29 12:00:00", "epoch 1582977600; # Sat Feb 29 12:00:00 2020"] {
            assert!(!written(text).holds(&own, now), "{text}");
        }
        assert_eq!(end("never"), None);
    }

    #[test]
    fn a_lease_of_networkd_names_the_router() {
        let text = "# This is private data. Do not parse.\nADDRESS=192.0.2.9\nROUTER=192.0.2.1\n";
        assert_eq!(networkd(text), ["192.0.2.1".parse::<IpAddr>().expect("an address")]);
    }

    #[test]
    fn processes_are_of_the_interface_that_they_name() {
        let process =
            |line: &str| Process { pid: 7, words: line.split(' ').map(str::to_owned).collect() };
        assert_eq!(serves(&process("busybox udhcpc -f -i wan-a"), "wan-a"), Some("udhcpc"));
        assert_eq!(serves(&process("/sbin/dhclient -4 eth0"), "eth0"), Some("dhclient"));
        assert_eq!(serves(&process("udhcpc -ieth0"), "eth0"), Some("udhcpc"));
        assert_eq!(serves(&process("dhclient eth1"), "eth0"), None);
        assert_eq!(serves(&process("ping -I eth0"), "eth0"), None);
    }
}
