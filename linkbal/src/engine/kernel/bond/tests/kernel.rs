//! A kernel that refuses what the real one refuses (drivers/net/bonding/bond_main.c and
//! bond_options.c), and has the same side effects.

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, Debug, Default)]
pub(super) struct Kernel {
    pub(super) state: Bonding,
    /// MAC address and MTU that members had when they entered a bond.
    entered: BTreeMap<String, (Mac, u32)>,
    made: u32,
}

type Outcome = Result<(), String>;

fn ensure(holds: bool, otherwise: &str) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

impl Kernel {
    pub(super) fn add(&mut self, name: &str, port: Port) {
        self.made += 1;
        self.state.ports.insert(name.into(), Port { ifindex: self.made, ..port });
    }

    fn port(&mut self, name: &str) -> Result<&mut Port, String> {
        self.state.ports.get_mut(name).ok_or_else(|| format!("{name} does not exist"))
    }

    fn options(&mut self, name: &str) -> Result<&mut Options, String> {
        self.port(name)?.bond.as_mut().ok_or_else(|| format!("{name} is no bond"))
    }

    fn members(&self, bond: &str) -> Vec<String> {
        let members = self.state.ports.iter().filter(|(_, port)| port.is_in(bond));
        members.map(|(name, _)| name.clone()).collect()
    }

    /// Makes a change, if it is not refused.
    pub(super) fn attempt(&mut self, change: &BondChange) {
        let mut tried = self.clone();
        if tried.carry_out(change).is_ok() {
            *self = tried;
        }
    }

    pub(super) fn carry_out(&mut self, change: &BondChange) -> Outcome {
        match change {
            BondChange::Note(name, record) => {
                self.state.records.insert(name.clone(), record.clone());
            }
            BondChange::Forget(name) => drop(self.state.records.remove(name)),
            BondChange::Create(name, mode) => self.create(name, *mode)?,
            BondChange::Delete(name) => self.delete(name)?,
            BondChange::Release(name) => self.release(name)?,
            BondChange::Enslave(name, master) => self.enslave(name, master)?,
            BondChange::SetOption(name, option) => self.set_option(name, option)?,
            BondChange::SetMac(name, mac) => {
                let is_bond = self.port(name)?.bond.is_some();
                self.port(name)?.mac = *mac;
                for member in self.members(name).into_iter().filter(|_| is_bond) {
                    self.port(&member)?.mac = *mac;
                }
            }
            BondChange::SetMtu(name, mtu) => {
                let is_bond = self.port(name)?.bond.is_some();
                self.port(name)?.mtu = *mtu;
                for member in self.members(name).into_iter().filter(|_| is_bond) {
                    self.port(&member)?.mtu = *mtu;
                }
            }
            BondChange::SetPromisc(name, on) => self.port(name)?.promisc = *on,
            BondChange::SetUp(name, up) => set_up(self.port(name)?, *up),
            BondChange::AddAddress(name, address) => {
                ensure(self.port(name)?.addresses.insert(*address), "it is there")?;
            }
            BondChange::DeleteAddress(name, address) => {
                ensure(self.port(name)?.addresses.remove(address), "it is not there")?;
            }
        }
        Ok(())
    }

    fn create(&mut self, name: &str, mode: u8) -> Outcome {
        ensure(!self.state.ports.contains_key(name), "it exists")?;
        let bond = Some(Options { mode, ..Options::default() });
        let mac = [2, 255, 0, 0, 0, self.made as u8];
        self.add(name, Port { bond, mac, mtu: 1500, ..Port::default() });
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Outcome {
        self.options(name)?;
        for member in self.members(name) {
            self.release(&member)?;
        }
        self.state.ports.remove(name);
        Ok(())
    }

    fn release(&mut self, name: &str) -> Outcome {
        let master = self.port(name)?.master.take().ok_or("it is nowhere")?;
        let Ok(options) = self.options(&master) else { return Ok(()) };
        if options.primary.as_deref() == Some(name) {
            options.primary = None;
        }
        let (mac, mtu) = self.entered.remove(name).ok_or("it never entered")?;
        let port = self.port(name)?;
        (port.mac, port.mtu) = (mac, mtu);
        set_up(port, false);
        if self.members(&master).is_empty() {
            self.made += 1;
            self.port(&master)?.mac = [2, 254, 0, 0, 0, self.made as u8];
        }
        Ok(())
    }

    fn leave(&mut self, name: &str) -> Outcome {
        if self.port(name)?.master.is_some() { self.release(name) } else { Ok(()) }
    }

    fn enslave(&mut self, name: &str, master: &str) -> Outcome {
        ensure(name != master, "it cannot be in itself")?;
        let above = self.port(master)?.clone();
        if above.bond.is_none() {
            ensure(master == "br0", "it takes nothing")?;
            self.leave(name)?;
            self.port(name)?.master = Some(master.into());
            return Ok(());
        }
        let port = self.port(name)?;
        ensure(port.bond.is_none() && name != "br0", "it cannot be a member")?;
        ensure(!port.up, "it is up")?;
        self.leave(name)?;
        let first = self.members(master).is_empty();
        let port = self.port(name)?;
        let before = (port.mac, port.mtu);
        port.master = Some(master.into());
        port.mtu = above.mtu;
        set_up(port, true);
        // Except for an address that was set; without that exception the model is stricter.
        let mac = if first { before.0 } else { above.mac };
        port.mac = mac;
        self.port(master)?.mac = mac;
        self.entered.insert(name.into(), before);
        Ok(())
    }

    fn set_option(&mut self, name: &str, option: &BondOption) -> Outcome {
        let (up, members) = (self.port(name)?.up, self.members(name));
        let options = self.options(name)?;
        let mode = options.mode;
        let (arp, primary, lacp) = (mode < 4, [1, 5, 6].contains(&mode), mode == 4);
        match option {
            BondOption::Mode(mode) => {
                ensure(members.is_empty(), "it has members")?;
                ensure(!up, "it is up")?;
                options.mode = *mode;
                options.arp_validate = 0;
                if *mode >= 4 {
                    options.arp_interval = 0;
                    options.miimon = if options.miimon == 0 { 100 } else { options.miimon };
                }
            }
            BondOption::Miimon(interval) => {
                options.miimon = *interval;
                if *interval > 0 && options.arp_interval > 0 {
                    (options.arp_interval, options.arp_validate) = (0, 0);
                }
            }
            BondOption::ArpInterval(interval) => {
                ensure(arp, "the mode has no ARP")?;
                options.arp_interval = *interval;
                options.miimon = if *interval > 0 { 0 } else { options.miimon };
            }
            BondOption::ArpTargets(targets) => options.arp_targets.clone_from(targets),
            BondOption::ArpValidate(validate) => {
                ensure(arp, "the mode has no ARP")?;
                options.arp_validate = *validate;
            }
            BondOption::Primary(member) => {
                ensure(primary, "the mode has no primary")?;
                let present = member.as_ref().filter(|member| members.contains(member));
                options.primary = present.cloned();
            }
            BondOption::LacpRate(rate) => {
                ensure(lacp, "the mode has no LACP")?;
                ensure(!up, "it is up")?;
                options.lacp_rate = *rate;
            }
            BondOption::XmitHashPolicy(policy) => options.xmit_hash_policy = *policy,
        }
        Ok(())
    }
}

fn set_up(port: &mut Port, up: bool) {
    port.up = up;
    if !up {
        port.addresses.retain(|address| address.addr().is_ipv4());
    }
}

impl Kernel {
    pub(super) fn rename(&mut self, from: &str, to: &str, port: Port) {
        let entered = self.entered.remove(from);
        self.entered.extend(entered.map(|entered| (to.to_owned(), entered)));
        self.state.ports.insert(to.to_owned(), port);
    }
}
