//! Everything that a teardown took out of the kernel, for the administrator.

use std::collections::BTreeMap;

/// Parts of linkbal that were there and are removed, and settings that are restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Interfaces that eBPF programs ran on.
    pub interfaces: Vec<String>,
    /// Number of pins on bpffs: maps, programs and links.
    pub pins: usize,
    /// Number of ip rules.
    pub rules: usize,
    /// Number of routes.
    pub routes: usize,
    /// Names of nft tables of family `inet`.
    pub tables: Vec<String>,
    /// Restored sysctls with their values, by path below `/proc/sys`.
    pub sysctls: BTreeMap<String, String>,
    /// Bonds, and interfaces that were members of some, that are restored.
    pub bonds: Vec<String>,
}

impl Removed {
    /// Returns one line for each kind of thing; empty if there was nothing.
    pub fn lines(&self) -> Vec<String> {
        let Removed { interfaces, pins, rules, routes, tables, sysctls, bonds } = self;
        let sysctl = |(path, value): (&String, &String)| format!("{} = {value}", dotted(path));
        let sysctls: Vec<String> = sysctls.iter().map(sysctl).collect();
        let named = |what: &str, names: &[String]| {
            (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
        };
        let counted = |count: usize, one: &str, many: &str| {
            (count > 0).then(|| format!("removed {count} {}", if count == 1 { one } else { many }))
        };
        let lines = [
            named("removed the eBPF programs on", interfaces),
            counted(*pins, "pin on bpffs", "pins on bpffs"),
            counted(*rules, "ip rule", "ip rules"),
            counted(*routes, "route", "routes"),
            named("removed the nft tables", &tables.iter().map(inet).collect::<Vec<_>>()),
            named("restored the sysctls", &sysctls),
            named("restored the bonds and members", bonds),
        ];
        lines.into_iter().flatten().collect()
    }
}

fn inet(name: &String) -> String {
    format!("inet {name}")
}

/// Returns the path of a sysctl with dots between its parts, and slashes for dots inside of them,
/// as `sysctl` writes it.
fn dotted(path: &str) -> String {
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    path.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_named() {
        assert!(Removed::default().lines().is_empty());
        let removed = Removed {
            interfaces: vec!["br-lan".into(), "eth0".into()],
            pins: 1,
            rules: 2,
            tables: vec!["linkbal".into()],
            sysctls: [("net/ipv4/conf/eth0.5/rp_filter".into(), "1".into())].into(),
            ..Removed::default()
        };
        let expected = [
            "removed the eBPF programs on br-lan, eth0",
            "removed 1 pin on bpffs",
            "removed 2 ip rules",
            "removed the nft tables inet linkbal",
            "restored the sysctls net.ipv4.conf.eth0/5.rp_filter = 1",
        ];
        assert_eq!(removed.lines(), expected);
    }
}
