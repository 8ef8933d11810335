//! A second gateway on the same networks, which waits for the addresses of the first.
//!
//! Each cable of the first gateway is replaced by a bridge that both gateways are plugged into. A
//! cable of their own connects the two.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;

use super::fault::set_interface;
use super::plan::{self, CLIENTS, Family};
use super::{
    CLIENT_INTERFACE, CUSTOMER_INTERFACE, LAN_INTERFACE, Lab, NEXT_INDEX, READY_LIMIT, add_address,
    set_up,
};
use crate::namespace::Namespace;
use crate::{oracle, wait};

/// The interface of both gateways towards each other.
const SYNC_INTERFACE: &str = "sync0";
/// The port of the first gateway on a bridge, and that of the second.
const PORTS: [&str; 2] = ["port0", "port1"];

/// A network that both gateways are plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The LAN.
    Lan,
    /// The line of an uplink, by its index.
    Uplink(usize),
    /// The cable between both gateways. Its interface is set down at the one, the other one loses
    /// the carrier.
    Sync,
}

/// A pair of gateways, of which one has the addresses.
#[derive(Debug)]
pub struct StandbyGateway {
    /// The second gateway.
    pub gateway: Arc<Namespace>,
}

impl StandbyGateway {
    /// Returns the address of a gateway, 0 or 1, on the cable between both.
    #[must_use]
    pub fn sync_address(gateway: usize) -> String {
        format!("192.168.255.{}", gateway + 1)
    }

    /// Returns the interface of the cable between both gateways.
    #[must_use]
    pub fn sync_interface() -> &'static str {
        SYNC_INTERFACE
    }

    /// Gives both gateways LAN addresses that they keep, as VRRP needs them.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn add_own_addresses(&self, lab: &Lab) -> Result<()> {
        for (number, gateway) in [&lab.gateway, &self.gateway].into_iter().enumerate() {
            let mut lines = String::new();
            for family in Family::ALL {
                let length = if family == Family::V4 { 24 } else { 64 };
                let own = format!("{}/{length}", plan::own_lan_address(family, number));
                add_address(&mut lines, &own, LAN_INTERFACE);
            }
            gateway.ip_batch(&lines)?;
        }
        Ok(())
    }
}

impl Lab {
    /// Adds a second gateway.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses a step.
    pub fn add_standby(&self) -> Result<StandbyGateway> {
        let gateway = Arc::new(Namespace::new("gw2")?);
        for (key, value) in [("accept_dad", "0"), ("keep_addr_on_down", "0")] {
            gateway.set_sysctl(&format!("net.ipv6.conf.all.{key}"), value)?;
            gateway.set_sysctl(&format!("net.ipv6.conf.default.{key}"), value)?;
        }
        let mut lan = String::new();
        for family in Family::ALL {
            let length = if family == Family::V4 { 24 } else { 64 };
            for number in 0..CLIENTS.into() {
                let address = format!("{}/{length}", plan::client(family, number));
                add_address(&mut lan, &address, CLIENT_INTERFACE);
            }
        }
        set_up(&mut lan, CLIENT_INTERFACE);
        for family in Family::ALL {
            let _ = writeln!(lan, "route add default via {}", plan::lan_gateway(family));
        }
        share(&self.lan, CLIENT_INTERFACE, &lan, &gateway, LAN_INTERFACE)?;
        for (index, uplink) in self.uplinks.iter().enumerate() {
            let mut isp = String::new();
            for family in Family::ALL {
                let length = family.transfer_prefix();
                let next = plan::nexthop(family, index);
                add_address(&mut isp, &format!("{next}/{length}"), CUSTOMER_INTERFACE);
            }
            set_up(&mut isp, CUSTOMER_INTERFACE);
            let interface = &uplink.spec.interface;
            share(&uplink.provider, CUSTOMER_INTERFACE, &isp, &gateway, interface)?;
        }
        let first = format!(
            "link add {SYNC_INTERFACE} type veth peer name {SYNC_INTERFACE} netns {}\n",
            gateway.name()
        );
        for (number, (gateway, lines)) in
            [(&self.gateway, first), (&gateway, String::new())].into_iter().enumerate()
        {
            let mut lines = lines;
            add_address(
                &mut lines,
                &format!("{}/24", StandbyGateway::sync_address(number)),
                SYNC_INTERFACE,
            );
            set_up(&mut lines, SYNC_INTERFACE);
            gateway.ip_batch(&lines)?;
        }
        Ok(StandbyGateway { gateway })
    }

    /// Pulls the cable of gateway `number` (0 or 1) out of a segment, or plugs it in again: its
    /// interface loses the carrier or gets it back.
    ///
    /// # Errors
    /// When the kernel refuses, or the segment does not carry packets again.
    pub fn set_cable_of(
        &self,
        standby: &StandbyGateway,
        number: usize,
        segment: Segment,
        plugged: bool,
    ) -> Result<()> {
        let (namespace, interface) = match segment {
            Segment::Lan => (&*self.lan, PORTS[number]),
            Segment::Uplink(uplink) => (&self.uplinks[uplink].provider, PORTS[number]),
            Segment::Sync => {
                (if number == 0 { &*self.gateway } else { &*standby.gateway }, SYNC_INTERFACE)
            }
        };
        let entered = namespace.enter()?;
        set_interface(interface, plugged)?;
        drop(entered);
        if plugged && segment != Segment::Sync {
            return wait_until_it_forwards(namespace);
        }
        Ok(())
    }

    /// Lets packets of gateway `number` (0 or 1) pass in no segment, or in all again. Its interfaces
    /// keep their carriers, as those of a machine that hangs do.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_forwarding_of(&self, number: usize, forwards: bool) -> Result<()> {
        let state = if forwards { "forwarding" } else { "disabled" };
        let providers = self.uplinks.iter().map(|uplink| &uplink.provider);
        for namespace in providers.chain([&*self.lan]) {
            namespace.run("bridge", &["link", "set", "dev", PORTS[number], "state", state])?;
        }
        Ok(())
    }

    /// Removes the addresses from a gateway, as the loss of mastership does.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn remove_addresses(&self, gateway: &Namespace) -> Result<()> {
        let interfaces = self.uplinks.iter().map(|uplink| uplink.spec.interface.as_str());
        for interface in [LAN_INTERFACE].into_iter().chain(interfaces) {
            gateway.run("ip", &["address", "flush", "dev", interface, "scope", "global"])?;
        }
        Ok(())
    }

    /// Sets the addresses on a gateway, that of the LAN last, and lets all neighbours know.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn assign_addresses(&self, gateway: &Namespace) -> Result<()> {
        let mut lines = String::new();
        for (index, uplink) in self.uplinks.iter().enumerate() {
            for family in Family::ALL {
                let own = plan::uplink_address(family, index);
                let address = format!("{own}/{}", family.transfer_prefix());
                add_address(&mut lines, &address, &uplink.spec.interface);
            }
        }
        for family in Family::ALL {
            let length = if family == Family::V4 { 24 } else { 64 };
            let own = format!("{}/{length}", plan::lan_gateway(family));
            add_address(&mut lines, &own, LAN_INTERFACE);
        }
        gateway.ip_batch(&lines)?;
        // The effect of gratuitous ARP and unsolicited advertisements.
        for neighbour in self.uplinks.iter().map(|uplink| &uplink.provider).chain([&*self.lan]) {
            neighbour.run("ip", &["neighbour", "flush", "all"])?;
        }
        Ok(())
    }
}

/// Replaces `interface` by a bridge, with `lines` for its addresses, and plugs a second gateway
/// into it.
fn share(
    namespace: &Namespace,
    interface: &str,
    lines: &str,
    gateway: &Namespace,
    gateway_interface: &str,
) -> Result<()> {
    let [first, second] = PORTS;
    // See `connect_customer`: the gateway's kernel reports the loss of its carrier at once.
    let index = NEXT_INDEX.fetch_add(1, Ordering::Relaxed);
    let mut batch = format!(
        "link set {interface} down
address flush dev {interface}
link set {interface} name {first}
link add {interface} type bridge
link add {second} index {index} type veth peer name {gateway_interface} netns {}
",
        gateway.name()
    );
    for port in PORTS {
        let _ = writeln!(batch, "link set {port} master {interface}");
        set_up(&mut batch, port);
    }
    namespace.ip_batch(&(batch + lines))?;
    let mut up = String::new();
    set_up(&mut up, gateway_interface);
    gateway.ip_batch(&up)?;
    wait_until_it_forwards(namespace)
}

/// Waits until a bridge forwards. The kernel may take a second to let a port do so; what comes before that
/// is lost.
fn wait_until_it_forwards(namespace: &Namespace) -> Result<()> {
    wait::until("a bridge that forwards", READY_LIMIT, || Ok(forwards(namespace)?.then_some(())))
}

/// Returns whether all ports of a bridge that are plugged in forward (`BR_STATE_FORWARDING`,
/// linux/if_bridge.h).
fn forwards(namespace: &Namespace) -> Result<bool> {
    for port in PORTS {
        let links = oracle::ip_json(namespace, &["-details", "link", "show", "dev", port])?;
        let flags = links[0]["flags"].as_array().into_iter().flatten();
        let plugged = flags.into_iter().any(|flag| flag == "UP");
        if plugged && links[0]["linkinfo"]["info_slave_data"]["state"] != "forwarding" {
            return Ok(false);
        }
    }
    Ok(true)
}
