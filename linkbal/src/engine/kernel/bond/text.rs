//! Text of changes of interfaces, for people.

use std::fmt;

use super::{BondChange, BondOption, Mac};
use crate::config::{ArpValidate, BondMode, LacpRate, XmitHashPolicy, name_of};

/// The change in one line, as `INTERFACE: CHANGE`.
impl fmt::Display for BondChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.interface())?;
        match self {
            BondChange::Note(..) => f.write_str("remembered as it is"),
            BondChange::Forget(_) => f.write_str("forgotten"),
            BondChange::Create(_, mode) => {
                write!(f, "made as a bond of mode {}", name_of::<BondMode>(*mode))
            }
            BondChange::Delete(_) => f.write_str("deleted"),
            BondChange::Release(_) => f.write_str("taken out of its bond"),
            BondChange::Enslave(_, master) => write!(f, "put into {master}"),
            BondChange::SetOption(_, option) => write!(f, "{option}"),
            BondChange::SetMac(_, mac) => write!(f, "mac becomes {}", mac_text(mac)),
            BondChange::SetMtu(_, mtu) => write!(f, "mtu becomes {mtu}"),
            BondChange::SetPromisc(_, true) => f.write_str("promisc turned on"),
            BondChange::SetPromisc(_, false) => f.write_str("promisc turned off"),
            BondChange::SetUp(_, true) => f.write_str("taken up"),
            BondChange::SetUp(_, false) => f.write_str("taken down"),
            BondChange::AddAddress(_, address) => write!(f, "gets the address {address}"),
            BondChange::DeleteAddress(_, address) => write!(f, "loses the address {address}"),
        }
    }
}

impl fmt::Display for BondOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BondOption::Mode(mode) => write!(f, "mode becomes {}", name_of::<BondMode>(*mode)),
            BondOption::Miimon(interval) => write!(f, "miimon becomes {interval}"),
            BondOption::ArpInterval(interval) => write!(f, "arp_interval becomes {interval}"),
            BondOption::ArpTargets(targets) => {
                let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
                write!(f, "arp_ip_targets become [{}]", targets.join(", "))
            }
            BondOption::ArpValidate(validate) => {
                write!(f, "arp_validate becomes {}", name_of::<ArpValidate>(*validate))
            }
            BondOption::Primary(primary) => {
                write!(f, "primary becomes {}", primary.as_deref().unwrap_or("none"))
            }
            BondOption::LacpRate(rate) => {
                write!(f, "lacp_rate becomes {}", name_of::<LacpRate>(*rate))
            }
            BondOption::XmitHashPolicy(policy) => {
                write!(f, "xmit_hash_policy becomes {}", name_of::<XmitHashPolicy>(*policy))
            }
        }
    }
}

fn mac_text(mac: &Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
