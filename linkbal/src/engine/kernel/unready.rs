//! Lack of what an uplink needs for its packets to leave, and the remedy.

use std::fmt;

use linkbal_common::uplink::Family;

/// The first thing that an uplink lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unready {
    /// The configuration wants nothing of this family there.
    Off(Family),
    /// The interface of this name does not exist.
    Missing(String),
    /// The interface is down.
    LinkDown(String),
    /// The interface has no carrier.
    NoCarrier(String),
    /// The interface has no address.
    NoAddress(Family, String),
    /// No gateway is known: the family, the interface, and why.
    NoGateway(Family, String, &'static str),
}

impl fmt::Display for Unready {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unready::Off(family) => write!(out, "{} is off in the configuration", family.name()),
            Unready::Missing(name) => write!(out, "interface {name} does not exist"),
            Unready::LinkDown(name) => write!(out, "interface {name} is down"),
            Unready::NoCarrier(name) => write!(out, "no carrier on {name}"),
            Unready::NoAddress(family, name) => {
                write!(out, "no {} address on {name}", family.name())
            }
            Unready::NoGateway(family, name, why) => {
                write!(out, "no {} gateway known on {name}: {why}", family.name())
            }
        }
    }
}

impl Unready {
    /// Returns what brings the uplink back; `None` if its words already say so.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Unready::Off(_) | Unready::NoGateway(..) => None,
            Unready::Missing(name) if is_dialled(name) => Some(format!(
                "see to the program that creates {name} (pppd, openvpn, wg-quick): it is used as \
                 soon as it exists"
            )),
            Unready::Missing(name) => {
                Some(format!("create {name}: it is used as soon as it exists"))
            }
            Unready::LinkDown(name) => Some(format!("`ip link set {name} up`")),
            Unready::NoCarrier(_) => {
                Some("plug the cable in, or switch on what is at its other end".into())
            }
            Unready::NoAddress(Family::Ipv4, name) => Some(format!(
                "see to the DHCP client of {name}, or to the modem: it is used as soon as it has one"
            )),
            Unready::NoAddress(Family::Ipv6, name) => Some(format!(
                "see to the router advertisements on {name}, or to its DHCP client: it is used as soon \
                 as it has one"
            )),
        }
    }
}

/// Beginnings of the names of interfaces that appear only once a program has dialled in.
const DIALLED: [&str; 6] = ["ppp", "tun", "tap", "wg", "wwan", "usb"];

/// Returns whether an interface of this name comes and goes with a program.
pub fn is_dialled(name: &str) -> bool {
    DIALLED.iter().any(|start| name.starts_with(start))
}
