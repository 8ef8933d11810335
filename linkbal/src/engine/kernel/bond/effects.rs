//! Effects of a change in the kernel, as far as the next ones depend on them.

use super::{BondChange, Bonding, Options, Port};

impl Bonding {
    /// Makes a change as the kernel would.
    pub fn apply(&mut self, change: &BondChange) {
        let name = change.interface();
        match change {
            BondChange::Note(_, record) => {
                self.records.insert(name.to_owned(), record.clone());
                return;
            }
            BondChange::Forget(_) => {
                self.records.remove(name);
                return;
            }
            BondChange::Create(_, mode) => {
                let bond = Options { mode: *mode, ..Options::default() };
                self.ports.insert(name.into(), Port { bond: Some(bond), ..Port::default() });
                return;
            }
            BondChange::Delete(_) => {
                self.ports.remove(name);
                let members = self.ports.values_mut().filter(|port| port.is_in(name));
                members.for_each(|member| member.leave(true));
                return;
            }
            BondChange::SetMtu(_, mtu) => {
                let members = self.ports.values_mut().filter(|port| port.is_in(name));
                members.for_each(|member| member.mtu = *mtu);
            }
            _ => {}
        }
        if let BondChange::Release(_) | BondChange::Enslave(..) = change {
            self.leave(name);
        }
        let master = match change {
            BondChange::Enslave(_, master) => self.ports.get(master).cloned(),
            _ => None,
        };
        if let Some(port) = self.ports.get_mut(name) {
            port.change(change, master.as_ref());
        }
    }

    fn leave(&mut self, name: &str) {
        let master = self.ports.get(name).and_then(|port| port.master.as_ref());
        let master = master.and_then(|master| self.ports.get(master));
        let of_bond = master.is_some_and(|master| master.bond.is_some());
        self.ports.get_mut(name).into_iter().for_each(|port| port.leave(of_bond));
    }
}

impl Port {
    /// Returns whether the interface is in this bond or bridge.
    pub fn is_in(&self, master: &str) -> bool {
        self.master.as_deref() == Some(master)
    }

    fn change(&mut self, change: &BondChange, master: Option<&Port>) {
        match change {
            BondChange::Enslave(_, name) => self.enslave(name, master),
            BondChange::SetOption(_, option) => {
                self.bond.get_or_insert_default().set(option);
            }
            BondChange::SetMac(_, mac) => self.mac = *mac,
            BondChange::SetMtu(_, mtu) => self.mtu = *mtu,
            BondChange::SetPromisc(_, promisc) => self.promisc = *promisc,
            BondChange::SetUp(_, up) => self.set_up(*up),
            BondChange::AddAddress(_, address) => {
                self.addresses.insert(*address);
            }
            BondChange::DeleteAddress(_, address) => {
                self.addresses.remove(address);
            }
            BondChange::Note(..)
            | BondChange::Forget(_)
            | BondChange::Create(..)
            | BondChange::Delete(_)
            | BondChange::Release(_) => {}
        }
    }

    /// Removes the interface from its bond or bridge. A bond takes it down, and gives it its own
    /// MAC address and MTU back, which are not known here.
    fn leave(&mut self, of_bond: bool) {
        self.master = None;
        self.member = None;
        if of_bond {
            self.set_up(false);
        }
    }

    /// Puts the interface into a bond or bridge. A bond takes it up, and gives it its MTU.
    fn enslave(&mut self, name: &str, master: Option<&Port>) {
        self.master = Some(name.to_owned());
        if let Some(master) = master.filter(|master| master.bond.is_some()) {
            self.mtu = master.mtu;
            self.set_up(true);
        }
    }

    /// Takes the interface up or down. One that is down loses its IPv6 addresses
    /// (net/ipv6/addrconf.c), without `keep_addr_on_down`.
    fn set_up(&mut self, up: bool) {
        self.up = up;
        if !up {
            self.addresses.retain(|address| address.addr().is_ipv4());
        }
    }
}
