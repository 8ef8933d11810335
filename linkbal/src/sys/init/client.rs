//! Programs that get addresses for interfaces: their leases, and their processes.

use std::{collections::BTreeMap, fs, net::IpAddr, path::PathBuf};

use crate::{
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

/// Returns the programs by the name of the interface.
pub(super) fn clients(links: &[(u32, String)], processes: &[Process]) -> BTreeMap<String, Client> {
    let mut clients = BTreeMap::new();
    // Files are those of the machine, whatever namespace this runs in.
    if is_first_namespace() {
        for path in files() {
            let text = file::read(&path, file::SMALL).unwrap_or_default();
            let shown = path.display();
            for (interface, routers) in dhclient(&String::from_utf8_lossy(&text)) {
                let client = Client { seen: format!("dhclient ({shown})"), routers };
                clients.insert(interface, client);
            }
        }
        for (ifindex, name) in links {
            let path = format!("{NETWORKD}/{ifindex}");
            if let Ok(text) = file::read_text(path.as_ref(), file::SMALL) {
                let seen = format!("systemd-networkd ({path})");
                clients.insert(name.clone(), Client { seen, routers: networkd(&text) });
            }
        }
    }
    for (_, name) in links {
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

/// Returns the interfaces of dhclient's leases with their routers; later leases replace earlier ones
/// (dhclient.leases(5)).
fn dhclient(text: &str) -> BTreeMap<String, Vec<IpAddr>> {
    let mut found = BTreeMap::new();
    for lease in text.split("lease {").skip(1) {
        let value = |name: &str| {
            let line = lease.lines().find_map(|line| line.trim().strip_prefix(name))?;
            Some(line.trim().trim_end_matches(';').trim_matches('"').to_owned())
        };
        let Some(interface) = value("interface ") else { continue };
        let routers = value("option routers ").unwrap_or_default();
        found.insert(interface, addresses(&routers, ','));
    }
    found
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
        let expected = expected.map(|(name, routers)| (name.to_owned(), addresses(routers, ' ')));
        assert_eq!(found, expected.into());
        assert!(dhclient("lease {\n").is_empty());
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
