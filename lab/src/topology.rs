//! The lab's little internet.
//!
//! ```text
//!  lan            gw                 isp-a                net
//!  eth0 ------- lan0  wan-a ------- cust0  core0 ------- isp-a   servers
//!  clients            wan-b ------- cust0  core0 ------- isp-b
//!                                    isp-b
//! ```

mod addressing;
mod fault;
pub mod plan;
mod point_to_point;
mod source_filter;
mod standby;

use std::env;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

pub use self::fault::UpstreamOutage;
use self::plan::{CLIENTS, Family, MAX_UPLINKS, SERVERS};
pub use self::point_to_point::PointToPointLink;
pub use self::standby::{Segment, StandbyGateway};
use crate::namespace::offload::Offload;
use crate::namespace::{self, Namespace};
use crate::turn::{self, Turn};
use crate::{oracle, wait};

/// The gateway's interface towards the clients.
pub const LAN_INTERFACE: &str = "lan0";
/// The clients' interface.
pub const CLIENT_INTERFACE: &str = "eth0";
/// A provider's interface towards the gateway.
pub const CUSTOMER_INTERFACE: &str = "cust0";
/// Index of the next interface that a gateway gets.
static NEXT_INDEX: AtomicU32 = AtomicU32::new(1000);
/// A provider's interface towards the servers.
const CORE_INTERFACE: &str = "core0";
/// Time that interfaces may take to work.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// The name, interface and weight of an uplink of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkSpec {
    /// The provider's name, also the role of its namespace.
    pub name: String,
    /// The gateway's interface.
    pub interface: String,
    /// The weight in linkbal's configuration.
    pub weight: u32,
}

impl UplinkSpec {
    /// Creates an uplink `name` at the gateway's `interface`.
    #[must_use]
    pub fn new(name: &str, interface: &str, weight: u32) -> Self {
        Self { name: name.to_owned(), interface: interface.to_owned(), weight }
    }

    /// Returns the usual pair: isp-a at wan-a with 30 %, isp-b at wan-b with 70 %.
    #[must_use]
    pub fn pair() -> [Self; 2] {
        [Self::new("isp-a", "wan-a", 30), Self::new("isp-b", "wan-b", 70)]
    }
}

/// An uplink of a running lab.
#[derive(Debug)]
pub struct Uplink {
    /// The name, interface and weight.
    pub spec: UplinkSpec,
    /// The provider at its other end.
    pub provider: Namespace,
}

/// The namespaces, connected and addressed. Uplinks are named by their index, in the order given.
#[derive(Debug)]
pub struct Lab {
    /// The clients, all on one interface.
    pub lan: Arc<Namespace>,
    /// The gateway: forwards nothing until linkbal tells it to.
    pub gateway: Arc<Namespace>,
    /// The uplinks.
    pub uplinks: Vec<Uplink>,
    /// The servers, behind all providers.
    pub net: Arc<Namespace>,
    /// The turn on this machine, which ends after everything else.
    _turn: Turn,
}

/// Returns the section of linkbal's configuration with the mode that the variable `LAB_ACCELERATE` names, if any.
#[must_use]
pub fn accelerate() -> String {
    let mode = env::var("LAB_ACCELERATE");
    mode.map(|mode| format!("[accelerate]\nmode = \"{mode}\"\n\n")).unwrap_or_default()
}

impl Lab {
    /// Builds the lab; namespaces left by labs that were killed are removed first.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses a step; what was built is removed.
    ///
    /// # Panics
    /// Without root.
    pub fn new(uplinks: &[UplinkSpec]) -> Result<Self> {
        namespace::require_root();
        ensure!(uplinks.len() <= MAX_UPLINKS, "the lab has at most {MAX_UPLINKS} uplinks");
        let turn = turn::shared();
        namespace::purge_stale()?;
        let lab = Self {
            lan: Arc::new(Namespace::new("lan")?),
            gateway: Arc::new(Namespace::new("gw")?),
            uplinks: uplinks
                .iter()
                .map(|spec| {
                    Ok(Uplink { spec: spec.clone(), provider: Namespace::new(&spec.name)? })
                })
                .collect::<Result<_>>()?,
            net: Arc::new(Namespace::new("net")?),
            _turn: turn,
        };
        lab.set_sysctls()?;
        lab.connect_lan()?;
        for index in 0..lab.uplinks.len() {
            lab.connect_uplink(index)?;
        }
        lab.add_servers()?;
        if env::var("LAB_ACCELERATE").is_ok_and(|mode| mode == "xdp") {
            lab.use_drivers()?;
        }
        for namespace in lab.namespaces() {
            wait::until("working interfaces", READY_LIMIT, || {
                Ok(is_ready(namespace)?.then_some(()))
            })?;
        }
        Ok(lab)
    }

    /// Returns all namespaces: clients, gateway, servers, then the providers.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        let providers = self.uplinks.iter().map(|uplink| &uplink.provider);
        [&*self.lan, &*self.gateway, &*self.net].into_iter().chain(providers)
    }

    /// Returns linkbal's configuration for this lab, with the shortcuts that the variable
    /// `LAB_ACCELERATE` asks for: `ebpf`, `xdp` or `flowtable`. It ends inside `[probe]`, with that table's
    /// defaults.
    #[must_use]
    pub fn config(&self) -> String {
        let mut text = accelerate();
        let _ = writeln!(text, "[lan]\ninterfaces = [\"{LAN_INTERFACE}\"]\n");
        for Uplink { spec, .. } in &self.uplinks {
            let UplinkSpec { name, interface, weight } = spec;
            let _ = writeln!(text, "[uplink.{name}]");
            let _ = writeln!(text, "interface = \"{interface}\"\nweight = {weight}\n");
        }
        let targets = Family::ALL.map(|family| {
            format!("\"{}\", \"{}\"", plan::server(family, 0), plan::server(family, 1))
        });
        let _ = writeln!(text, "[probe]\ntargets = [{}]", targets.join(", "));
        text
    }

    /// Returns the share of new flows which uplink `index` shall get, from 0 to 1.
    #[must_use]
    pub fn share(&self, index: usize) -> f64 {
        let total: u32 = self.uplinks.iter().map(|uplink| uplink.spec.weight).sum();
        f64::from(self.uplinks[index].spec.weight) / f64::from(total)
    }

    /// Makes the interfaces at the other ends of the gateway's behave as network cards do, so that its
    /// drivers can send frames: they take such frames, and leave no checksum unfinished.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn use_drivers(&self) -> Result<()> {
        let lan = (&*self.lan, CLIENT_INTERFACE);
        let providers = self.uplinks.iter().map(|uplink| (&uplink.provider, CUSTOMER_INTERFACE));
        for (namespace, interface) in [lan].into_iter().chain(providers) {
            namespace.set_offload(interface, Offload::Gro, true)?;
            namespace.set_offload(interface, Offload::TxChecksum, false)?;
        }
        Ok(())
    }

    fn set_sysctls(&self) -> Result<()> {
        for namespace in self.namespaces() {
            // Addresses shall be usable at once.
            namespace.set_sysctl("net.ipv6.conf.all.accept_dad", "0")?;
            namespace.set_sysctl("net.ipv6.conf.default.accept_dad", "0")?;
            namespace.set_sysctl("net.ipv4.conf.all.rp_filter", "0")?;
            namespace.set_sysctl("net.ipv4.conf.default.rp_filter", "0")?;
        }
        for Uplink { provider, .. } in &self.uplinks {
            provider.set_sysctl("net.ipv4.ip_forward", "1")?;
            provider.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
            // A cable that is plugged in again shall find its addresses.
            provider.set_sysctl("net.ipv6.conf.all.keep_addr_on_down", "1")?;
            provider.set_sysctl("net.ipv6.conf.default.keep_addr_on_down", "1")?;
        }
        // The gateway starts as some distributions leave it: no forwarding, strict source checks.
        self.gateway.set_sysctl("net.ipv4.ip_forward", "0")?;
        self.gateway.set_sysctl("net.ipv4.conf.default.rp_filter", "1")
    }

    /// Makes the link between the clients and the gateway, also again after the gateway's interface
    /// was deleted.
    ///
    /// # Errors
    /// When `ip` refuses, as it does while the interface exists.
    pub fn connect_lan(&self) -> Result<()> {
        let peer = self.lan.name();
        // As in `connect_customer`.
        let number = NEXT_INDEX.fetch_add(1, Ordering::Relaxed);
        let mut gateway = format!(
            "link add {LAN_INTERFACE} index {number} type veth peer name {CLIENT_INTERFACE} netns {peer}\n"
        );
        let mut lan = String::new();
        for family in Family::ALL {
            let length = if family == Family::V4 { 24 } else { 64 };
            let router = plan::lan_gateway(family);
            add_address(&mut gateway, &format!("{router}/{length}"), LAN_INTERFACE);
            for number in 0..CLIENTS.into() {
                let address = format!("{}/{length}", plan::client(family, number));
                add_address(&mut lan, &address, CLIENT_INTERFACE);
            }
        }
        set_up(&mut gateway, LAN_INTERFACE);
        set_up(&mut lan, CLIENT_INTERFACE);
        for family in Family::ALL {
            let _ = writeln!(lan, "route add default via {}", plan::lan_gateway(family));
        }
        self.gateway.ip_batch(&gateway)?;
        self.lan.ip_batch(&lan)
    }

    fn connect_uplink(&self, index: usize) -> Result<()> {
        self.connect_core(index)?;
        self.connect_customer(index)
    }

    /// Makes the link between a provider and the servers.
    fn connect_core(&self, index: usize) -> Result<()> {
        let Uplink { spec: UplinkSpec { name, .. }, provider } = &self.uplinks[index];
        let peer = provider.name();
        let mut net =
            format!("link add {name} type veth peer name {CORE_INTERFACE} netns {peer}\n");
        let mut isp = String::new();
        for family in Family::ALL {
            let length = family.transfer_prefix();
            let core = format!("{}/{length}", plan::core_net(family, index, 1));
            add_address(&mut net, &core, name);
            let own = format!("{}/{length}", plan::core_net(family, index, 2));
            add_address(&mut isp, &own, CORE_INTERFACE);
        }
        set_up(&mut net, name);
        set_up(&mut isp, CORE_INTERFACE);
        for family in Family::ALL {
            let customers = plan::customer_prefix(family, index);
            let core = plan::core_net(family, index, 1);
            let own = plan::core_net(family, index, 2);
            let _ = writeln!(net, "route add {customers} via {own}");
            let _ = writeln!(isp, "route add {} via {core}", plan::server_prefix(family));
        }
        self.net.ip_batch(&net)?;
        provider.ip_batch(&isp)
    }

    /// Makes the link between the gateway and a provider, with the routes that DHCP would bring,
    /// also again after the gateway's interface was deleted.
    ///
    /// # Errors
    /// When `ip` refuses, as it does while the interface exists.
    pub fn connect_customer(&self, index: usize) -> Result<()> {
        let Uplink { spec: UplinkSpec { interface, .. }, provider } = &self.uplinks[index];
        let peer = provider.name();
        // The kernel reports the carrier loss of a veth at once only if its two ends have different
        // indexes (linkwatch_urgent_event in net/core/link_watch.c): one that the far end, which is
        // among the first interfaces of its namespace, cannot have.
        let number = NEXT_INDEX.fetch_add(1, Ordering::Relaxed);
        let mut gateway = format!(
            "link add {interface} index {number} type veth peer name {CUSTOMER_INTERFACE} netns {peer}\n"
        );
        let mut isp = String::new();
        for family in Family::ALL {
            let length = family.transfer_prefix();
            let (up, next) = (plan::uplink_address(family, index), plan::nexthop(family, index));
            add_address(&mut gateway, &format!("{up}/{length}"), interface);
            add_address(&mut isp, &format!("{next}/{length}"), CUSTOMER_INTERFACE);
        }
        set_up(&mut gateway, interface);
        set_up(&mut isp, CUSTOMER_INTERFACE);
        let metric = 100 * (index + 1);
        for family in Family::ALL {
            let next = plan::nexthop(family, index);
            let _ = writeln!(
                gateway,
                "route add default via {next} dev {interface} proto dhcp metric {metric}"
            );
        }
        self.gateway.ip_batch(&gateway)?;
        provider.ip_batch(&isp)
    }

    /// Adds `count` networks of the internet, with a server each.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn add_networks(&self, count: u8) -> Result<()> {
        let mut net = String::new();
        for number in 0..count {
            add_address(&mut net, &format!("{}/32", plan::far_server(Family::V4, number)), "lo");
            add_address(&mut net, &format!("{}/128", plan::far_server(Family::V6, number)), "lo");
        }
        self.net.ip_batch(&net)?;
        for (index, uplink) in self.uplinks.iter().enumerate() {
            let route = |family| {
                let core = plan::core_net(family, index, 1);
                format!("route add {} via {core}\n", plan::far_prefix(family))
            };
            uplink.provider.ip_batch(&Family::ALL.map(route).concat())?;
        }
        Ok(())
    }

    fn add_servers(&self) -> Result<()> {
        let mut text = String::new();
        for number in 0..SERVERS.into() {
            add_address(&mut text, &format!("{}/32", plan::server(Family::V4, number)), "lo");
            add_address(&mut text, &format!("{}/128", plan::server(Family::V6, number)), "lo");
        }
        self.net.ip_batch(&text)
    }
}

/// Returns whether every enabled interface is up and has its link-local address. The kernel tells
/// IPv6 of a new carrier up to a second late; until then neighbour solicitations go unanswered.
fn is_ready(namespace: &Namespace) -> Result<bool> {
    let interfaces = oracle::ip_json(namespace, &["address", "show"])?;
    let ready = |interface: &Value| {
        let addresses = interface["addr_info"].as_array().into_iter().flatten();
        let mut own = addresses.filter(|a| a["family"] == "inet6" && a["scope"] == "link");
        // Modules of tunnels leave an interface of their own in each namespace, which is down.
        let flags = interface["flags"].as_array().into_iter().flatten();
        interface["link_type"] == "loopback"
            || flags.into_iter().all(|flag| flag != "UP")
            || (interface["operstate"] == "UP" && own.any(|a| a["tentative"] != true))
    };
    Ok(interfaces.as_array().is_some_and(|all| all.iter().all(ready)))
}

fn add_address(batch: &mut String, address: &str, interface: &str) {
    let nodad = if address.contains(':') { " nodad" } else { "" };
    let _ = writeln!(batch, "address add {address} dev {interface}{nodad}");
}

fn set_up(batch: &mut String, interface: &str) {
    let _ = writeln!(batch, "link set {interface} up");
}
