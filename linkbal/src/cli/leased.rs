//! Names of hosts in the lease files of this machine's DHCP servers.

use std::{net::IpAddr, path::Path};

use crate::{
    flows::leases::{self, HostNames},
    sys::host::file,
};

/// Returns the names in all lease files that there are and that may be read.
pub(super) fn leased_names() -> HostNames {
    let mut names = HostNames::new();
    for (path, format) in leases::FILES {
        // Most of them are not there.
        if let Ok(bytes) = file::read(Path::new(path), file::LARGE) {
            leases::read(format, &String::from_utf8_lossy(&bytes), &mut names);
        }
    }
    names
}

/// Returns the address of the host that a DHCP lease names so; the lowest one, if there are several.
pub(super) fn leased_address(name: &str) -> Option<IpAddr> {
    named(&leased_names(), name)
}

fn named(names: &HostNames, name: &str) -> Option<IpAddr> {
    let same = names.iter().filter(|(_, known)| known.eq_ignore_ascii_case(name));
    same.map(|(address, _)| *address).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_lowest_address() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let names = [("10.0.0.9", "tv"), ("10.0.0.7", "TV"), ("10.0.0.1", "pc")];
        let names = names.map(|(ip, name)| (address(ip), name.to_owned())).into();
        assert_eq!(named(&names, "tv"), Some(address("10.0.0.7")));
        assert_eq!(named(&names, "phone"), None);
    }
}
