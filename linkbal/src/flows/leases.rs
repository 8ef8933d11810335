//! Names of hosts in the lease files of DHCP servers.
//!
//! Hosts choose their names: only characters of host names are taken.

use std::{collections::HashMap, net::IpAddr};

/// Names by address.
pub type HostNames = HashMap<IpAddr, String>;

/// Format of a lease file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The format of dnsmasq.
    Dnsmasq,
    /// The format of ISC dhcpd.
    Dhcpd,
    /// The CSV files of Kea.
    Kea,
}

/// The usual places of lease files: of dnsmasq on Debian, Fedora and OpenWrt, of ISC dhcpd on Debian
/// and Fedora, and of Kea.
pub const FILES: [(&str, Format); 7] = [
    ("/var/lib/misc/dnsmasq.leases", Format::Dnsmasq),
    ("/var/lib/dnsmasq/dnsmasq.leases", Format::Dnsmasq),
    ("/tmp/dhcp.leases", Format::Dnsmasq),
    ("/var/lib/dhcp/dhcpd.leases", Format::Dhcpd),
    ("/var/lib/dhcpd/dhcpd.leases", Format::Dhcpd),
    ("/var/lib/kea/kea-leases4.csv", Format::Kea),
    ("/var/lib/kea/kea-leases6.csv", Format::Kea),
];

/// Longest name that is taken (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

/// Adds the names in a lease file to those that are known. Lines that are not understood are left out.
pub fn read(format: Format, text: &str, names: &mut HostNames) {
    match format {
        Format::Dnsmasq => text.lines().for_each(|line| dnsmasq(line, names)),
        Format::Dhcpd => dhcpd(text, names),
        Format::Kea => kea(text, names),
    }
}

/// Returns a name that is safe to show; `None` if there is none left.
pub fn clean(name: &str) -> Option<String> {
    let name = name.trim_end_matches('.');
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!name.is_empty() && name.len() <= MAX_NAME && name.chars().all(fits)).then(|| name.to_owned())
}

/// Adds the lease of a line: `EXPIRY MAC ADDRESS NAME CLIENT-ID`, with `*` for no name.
fn dnsmasq(line: &str, names: &mut HostNames) {
    let fields: Vec<&str> = line.split_whitespace().take(4).collect();
    if let [_, _, address, name] = fields[..]
        && let Ok(address) = address.parse()
        && let Some(name) = clean(name)
    {
        names.insert(address, name);
    }
}

/// Adds the leases of `lease ADDRESS { .. client-hostname "NAME"; .. }`: the last one of an address
/// counts, and only if it is in use.
fn dhcpd(text: &str, names: &mut HostNames) {
    let mut lease: Option<(IpAddr, Option<String>, bool)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("lease ") {
            let address = rest.split_whitespace().next().and_then(|text| text.parse().ok());
            lease = address.map(|address| (address, None, true));
        } else if line == "}" {
            if let Some((address, name, active)) = lease.take() {
                match name.filter(|_| active) {
                    Some(name) => drop(names.insert(address, name)),
                    None => drop(names.remove(&address)),
                }
            }
        } else if let Some((_, name, active)) = &mut lease {
            if let Some(rest) = line.strip_prefix("client-hostname ") {
                *name = clean(rest.trim_end_matches(';').trim_matches('"'));
            } else if let Some(state) = line.strip_prefix("binding state ") {
                *active = state.trim_end_matches(';') == "active";
            }
        }
    }
}

/// Adds the leases of a CSV file, whose first line names the columns: the last one of an address
/// counts, and only if it is in use (state 0).
fn kea(text: &str, names: &mut HostNames) {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (Some(address), Some(name), Some(state)) =
        (column("address"), column("hostname"), column("state"))
    else {
        return;
    };
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let Some(Ok(address)) = fields.get(address).map(|text| text.parse()) else { continue };
        let in_use = fields.get(state) == Some(&"0");
        match fields.get(name).and_then(|name| clean(name)).filter(|_| in_use) {
            Some(name) => drop(names.insert(address, name)),
            None => drop(names.remove(&address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(format: Format, text: &str) -> Vec<(String, String)> {
        let mut names = HostNames::new();
        read(format, text, &mut names);
        let mut names: Vec<_> =
            names.into_iter().map(|(address, name)| (address.to_string(), name)).collect();
        names.sort();
        names
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(address, name)| ((*address).into(), (*name).into())).collect()
    }

    #[test]
    fn dnsmasq_has_a_line_for_each_lease() {
        let text = "1764380000 aa:bb:cc:dd:ee:01 192.0.2.10 laptop 01:aa:bb:cc:dd:ee:01\n\
                    1764380001 aa:bb:cc:dd:ee:02 192.0.2.11 * *\n\
                    1764380002 aa:bb:cc:dd:ee:03 192.0.2.12 evil\u{1b}[2J *\n\
                    duid 00:01:00:01:2a\n\
                    1764380003 1234 2001:db8::10 laptop 00:01:00:01:2b\n";
        let expected = pairs(&[("192.0.2.10", "laptop"), ("2001:db8::10", "laptop")]);
        assert_eq!(names(Format::Dnsmasq, text), expected);
    }

    #[test]
    fn the_last_lease_of_dhcpd_counts() {
        let text = "# comment\nlease 192.0.2.20 {\n  starts 4 2026/11/26 10:00:00;\n  \
                    binding state active;\n  next binding state free;\n  \
                    hardware ethernet aa:bb:cc:dd:ee:01;\n  client-hostname \"printer\";\n}\n\
                    lease 192.0.2.21 {\n  binding state active;\n  client-hostname \"phone\";\n}\n\
                    lease 192.0.2.21 {\n  binding state free;\n  client-hostname \"phone\";\n}\n";
        assert_eq!(names(Format::Dhcpd, text), pairs(&[("192.0.2.20", "printer")]));
    }

    #[test]
    fn kea_names_its_columns() {
        let text = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,\
                    hostname,state,user_context,pool_id\n\
                    192.0.2.30,aa:bb,,3600,1764380000,1,0,0,tablet.lan,0,,0\n\
                    192.0.2.31,aa:bc,,3600,1764380000,1,0,0,old,0,,0\n\
                    192.0.2.31,aa:bc,,3600,1764380000,1,0,0,old,2,,0\n";
        assert_eq!(names(Format::Kea, text), pairs(&[("192.0.2.30", "tablet.lan")]));
        assert_eq!(names(Format::Kea, "x\n1,2\n"), []);
    }

    proptest! {
        #[test]
        fn any_file_is_read_and_no_name_has_control_characters(text: String, lease in "[ -~]{0,40}") {
            for format in [Format::Dnsmasq, Format::Dhcpd, Format::Kea] {
                let text = format!("{text}\n1 2 192.0.2.1 {lease} *\nlease 192.0.2.2 {{\nclient-hostname \"{lease}\";\n}}\n");
                for (_, name) in names(format, &text) {
                    prop_assert!(!name.is_empty() && !name.contains(|c: char| c.is_control() || c == ' '));
                }
            }
        }
    }
}
