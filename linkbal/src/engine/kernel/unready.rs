//! Lack of what an uplink needs for its packets to leave, and the remedy.

use std::fmt;

use linkbal_common::uplink::Family;
use serde_json::json;

use crate::coded::{Args, Coded, args};

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
    NoGateway(Family, String, NoGateway),
}

/// A reason why no gateway is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGateway {
    /// No default route leads there.
    NoRoute,
    /// Default routes lead elsewhere, and a DHCP client may add none then.
    RouteElsewhere,
    /// A default route names a nexthop object alone.
    NexthopObject,
}

impl fmt::Display for NoGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoGateway::NoRoute => "no default route leads there, and none is configured",
            NoGateway::RouteElsewhere => {
                "no default route leads there, and none is configured; a DHCP client that finds \
                 another one may set none: give each interface a metric of its own"
            }
            NoGateway::NexthopObject => {
                "a default route names a nexthop object alone, which is not read: set sysctl \
                 net.ipv4.nexthop_compat_mode = 1, or configure the gateway"
            }
        })
    }
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

impl Coded for Unready {
    fn code(&self) -> &'static str {
        match self {
            Unready::Off(_) => "family-off",
            Unready::Missing(_) => "interface-missing",
            Unready::LinkDown(_) => "interface-down",
            Unready::NoCarrier(_) => "no-carrier",
            Unready::NoAddress(..) => "no-address",
            Unready::NoGateway(.., NoGateway::NoRoute) => "no-gateway",
            Unready::NoGateway(.., NoGateway::RouteElsewhere) => "no-gateway-route-elsewhere",
            Unready::NoGateway(.., NoGateway::NexthopObject) => "no-gateway-nexthop-object",
        }
    }

    fn args(&self) -> Args {
        match self {
            Unready::Off(family) => args([("family", json!(family.name()))]),
            Unready::Missing(name) | Unready::LinkDown(name) | Unready::NoCarrier(name) => {
                args([("interface", json!(name))])
            }
            Unready::NoAddress(family, name) | Unready::NoGateway(family, name, _) => {
                args([("family", json!(family.name())), ("interface", json!(name))])
            }
        }
    }
}

/// An advice that brings an uplink back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Enable the uplink of this name.
    Enable(String),
    /// Run a command.
    Run(String),
    /// Create the interface, by the program that dials in.
    Dial(String),
    /// Create the interface.
    Create(String),
    /// Plug the cable in.
    PlugIn,
    /// See to the DHCP client of the interface.
    Dhcp(String),
    /// See to the router advertisements on the interface.
    RouterAdvertisements(String),
    /// See to these chains of this machine's own firewall.
    OwnFirewall(String),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remedy::Enable(uplink) => write!(f, "`linkbal enable {uplink}` brings it back"),
            Remedy::Run(command) => write!(f, "`{command}`"),
            Remedy::Dial(name) => write!(
                f,
                "see to the program that creates {name} (pppd, openvpn, wg-quick): it is used as \
                 soon as it exists"
            ),
            Remedy::Create(name) => write!(f, "create {name}: it is used as soon as it exists"),
            Remedy::PlugIn => {
                f.write_str("plug the cable in, or switch on what is at its other end")
            }
            Remedy::Dhcp(name) => write!(
                f,
                "see to the DHCP client of {name}, or to the modem: it is used as soon as it has one"
            ),
            Remedy::RouterAdvertisements(name) => write!(
                f,
                "see to the router advertisements on {name}, or to its DHCP client: it is used as soon \
                 as it has one"
            ),
            Remedy::OwnFirewall(chains) => write!(
                f,
                "this machine's own firewall is the likely cause, not the line: chain {chains} drops \
                 what is sent, or the answers to it"
            ),
        }
    }
}

impl Coded for Remedy {
    fn code(&self) -> &'static str {
        match self {
            Remedy::Enable(_) => "enable",
            Remedy::Run(_) => "run",
            Remedy::Dial(_) => "dial",
            Remedy::Create(_) => "create-interface",
            Remedy::PlugIn => "plug-in",
            Remedy::Dhcp(_) => "see-to-dhcp",
            Remedy::RouterAdvertisements(_) => "see-to-router-advertisements",
            Remedy::OwnFirewall(_) => "own-firewall",
        }
    }

    fn args(&self) -> Args {
        match self {
            Remedy::Enable(uplink) => args([("uplink", json!(uplink))]),
            Remedy::Run(command) => args([("command", json!(command))]),
            Remedy::PlugIn => Args::new(),
            Remedy::Dial(name)
            | Remedy::Create(name)
            | Remedy::Dhcp(name)
            | Remedy::RouterAdvertisements(name) => args([("interface", json!(name))]),
            Remedy::OwnFirewall(chains) => args([("chains", json!(chains))]),
        }
    }
}

impl Unready {
    /// Returns what brings the uplink back; `None` if its words already say so.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Unready::Off(_) | Unready::NoGateway(..) => None,
            Unready::Missing(name) if is_dialled(name) => Some(Remedy::Dial(name.clone())),
            Unready::Missing(name) => Some(Remedy::Create(name.clone())),
            Unready::LinkDown(name) => Some(Remedy::Run(format!("ip link set {name} up"))),
            Unready::NoCarrier(_) => Some(Remedy::PlugIn),
            Unready::NoAddress(Family::Ipv4, name) => Some(Remedy::Dhcp(name.clone())),
            Unready::NoAddress(Family::Ipv6, name) => {
                Some(Remedy::RouterAdvertisements(name.clone()))
            }
        }
    }
}

/// Beginnings of the names of interfaces that appear only once a program has dialled in.
const DIALLED: [&str; 6] = ["ppp", "tun", "tap", "wg", "wwan", "usb"];

/// Returns whether an interface of this name comes and goes with a program.
pub fn is_dialled(name: &str) -> bool {
    DIALLED.iter().any(|start| name.starts_with(start))
}

/// Returns a remedy of each kind.
#[cfg(test)]
pub(crate) fn samples() -> Vec<Remedy> {
    // A new one cannot be left out.
    let next = |remedy: &Remedy| {
        let name = || "wan-a".to_owned();
        Some(match remedy {
            Remedy::Enable(_) => Remedy::Run("ip link set wan-a up".into()),
            Remedy::Run(_) => Remedy::Dial(name()),
            Remedy::Dial(_) => Remedy::Create(name()),
            Remedy::Create(_) => Remedy::PlugIn,
            Remedy::PlugIn => Remedy::Dhcp(name()),
            Remedy::Dhcp(_) => Remedy::RouterAdvertisements(name()),
            Remedy::RouterAdvertisements(_) => Remedy::OwnFirewall(name()),
            Remedy::OwnFirewall(_) => return None,
        })
    };
    std::iter::successors(Some(Remedy::Enable("isp-a".into())), next).collect()
}
