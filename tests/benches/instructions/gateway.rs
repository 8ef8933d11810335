//! A gateway of one contender, in a network namespace of its own.

use std::{fs, net::IpAddr, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use linkbal_lab::{
    daemon::Daemon,
    namespace::{Entered, Namespace},
    wait,
};
use nix::{net::if_::if_nametoindex, sys::signal::Signal};

use crate::{
    bpf::Program,
    frame::{CLIENTS, Family, client},
    plan::Contender,
    programs::Programs,
};

/// Maximum time until linkbal has taken over.
const LIMIT: Duration = Duration::from_secs(120);

/// The priority of the sink's filter: behind all others.
const SINK_PRIORITY: &str = "60000";

pub(crate) const LAN: &str = "lan";

/// An interface of the gateway.
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) index: u32,
    /// The index of the interface where the sink is: its far end, if it has one.
    pub(crate) sink: u32,
    /// The program in its driver.
    pub(crate) program: Option<Program>,
    pub(crate) mac: [u8; 6],
    /// The address that flows are translated to.
    pub(crate) address: IpAddr,
}

/// The gateway; dropping it removes everything.
pub(crate) struct Gateway {
    pub(crate) lan: Interface,
    pub(crate) uplinks: Vec<Interface>,
    /// A process that is stopped while packets are counted.
    _daemon: Option<Daemon>,
    _sinks: Vec<OwnedFd>,
    pin: PathBuf,
    // The last one: what is in the namespace goes first.
    _entered: Entered,
    _namespace: Arc<Namespace>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.pin);
    }
}

impl Gateway {
    /// Creates the gateway, with the calling thread inside.
    pub(crate) fn new(contender: &Contender, programs: &Programs) -> Result<Self> {
        let namespace = Arc::new(Namespace::new("bench")?);
        namespace.ip_batch(&base(contender))?;
        for (key, value) in &contender.sysctls {
            namespace.set_sysctl(key, value)?;
        }
        namespace.ip_batch(&contender.ip)?;
        if !contender.nft.is_empty() {
            namespace.load_nft(&contender.nft)?;
        }
        if !contender.shell.is_empty() {
            namespace.run_with_input("bash", &["-e"], &contender.shell)?;
        }
        let pin = PathBuf::from(format!("/sys/fs/bpf/{}", namespace.name()));
        programs.sink.pin(&pin)?;
        let mut sinks = Vec::new();
        let names = (1..=contender.uplinks).map(uplink_name);
        for name in names.chain([LAN.to_owned()]) {
            if contender.drivers {
                let entered = namespace.enter()?;
                sinks.push(programs.driver_sink.attach_xdp(if_nametoindex(far(&name).as_str())?)?);
                drop(entered);
            } else {
                attach(&namespace, &name, &pin.to_string_lossy())?;
            }
        }
        let daemon = match &contender.linkbal {
            Some(config) => Some(start(&namespace, config)?),
            None => None,
        };
        let entered = namespace.enter()?;
        let interface = |name: String, number: usize| -> Result<Interface> {
            let end = if contender.drivers { far(&name) } else { name.clone() };
            let (index, sink) = (if_nametoindex(name.as_str())?, if_nametoindex(end.as_str())?);
            let program = match &contender.linkbal {
                _ if !contender.drivers => None,
                Some(_) => {
                    Some(Program::of_link(&namespace.bpf_dir().join(format!("xdp_{index}")))?)
                }
                None => {
                    programs.devices.add(index)?;
                    Some(programs.forwarder.again()?)
                }
            };
            let address = address(number, contender.family)?;
            Ok(Interface { name, index, sink, program, mac: mac(number), address })
        };
        let lan = interface(LAN.to_owned(), 0)?;
        let uplinks = (1..=contender.uplinks).map(|number| interface(uplink_name(number), number));
        let uplinks = uplinks.collect::<Result<_>>()?;
        Ok(Self {
            lan,
            uplinks,
            _daemon: daemon,
            _sinks: sinks,
            pin,
            _entered: entered,
            _namespace: namespace,
        })
    }
}

fn attach(namespace: &Namespace, interface: &str, pin: &str) -> Result<()> {
    namespace.run("tc", &["qdisc", "add", "dev", interface, "clsact"])?;
    let filter = ["filter", "add", "dev", interface, "egress", "pref", SINK_PRIORITY];
    let program = ["bpf", "direct-action", "object-pinned", pin];
    namespace.run("tc", &[&filter[..], &program].concat()).map(drop)
}

/// Starts linkbal and stops its process as soon as it has set up everything: what it does beside
/// the packets is not measured here.
fn start(namespace: &Arc<Namespace>, config: &str) -> Result<Daemon> {
    let mut daemon = Daemon::start_in(namespace, config)?;
    daemon.wait_until_up(LIMIT)?;
    // The last commands to the kernel come after it is up.
    let config = daemon.config_path();
    let config = config.to_string_lossy();
    let mut last = None;
    let done = wait::until("linkbal do what it plans", LIMIT, || {
        // Exit code 4 is that of no differences, on a machine whose gateways are silent.
        let is_done = |error: &anyhow::Error| format!("{error:#}").contains("exit status: 4:");
        last = daemon.run(&["plan", "--config", &config]).err().filter(|error| !is_done(error));
        Ok(last.is_none().then_some(()))
    });
    done.with_context(|| format!("linkbal still plans: {last:?}"))?;
    daemon.signal(Signal::SIGSTOP)?;
    Ok(daemon)
}

/// Returns the commands of `ip` that make the interfaces, with static neighbours on all of them.
///
/// Dummy devices, or pairs: the sink drops what leaves by them, and nothing has to answer ARP.
fn base(contender: &Contender) -> String {
    let interface = |name: &str, number, ipv4: &str, ipv6: &str| {
        let made = if contender.drivers { pair(name, number) } else { dummy(name, number) };
        made + &addresses(name, ipv4, ipv6)
    };
    let uplinks = contender.uplinks;
    let mut lines = interface(LAN, 0, "10.0.0.1/16", "fd00::1/64");
    for number in 0..CLIENTS {
        for family in [Family::Ipv4, Family::Ipv6] {
            lines += &neighbour(&client(number, family).to_string(), LAN, 0);
        }
    }
    for number in 1..=uplinks {
        let name = uplink_name(number);
        let addresses = [format!("198.51.{number}.2/24"), format!("2001:db8:{number}::2/64")];
        lines += &interface(&name, number, &addresses[0], &addresses[1]);
        for gateway in [format!("198.51.{number}.1"), format!("2001:db8:{number}::1")] {
            lines += &neighbour(&gateway, &name, number);
        }
    }
    lines
}

fn dummy(name: &str, number: usize) -> String {
    let mac = written(mac(number));
    format!("link add {name} address {mac} type dummy\nlink set {name} arp on\n")
}

fn pair(name: &str, number: usize) -> String {
    let (mac, far_mac, far) = (written(mac(number)), written(peer_mac(number)), far(name));
    format!(
        "link add {name} address {mac} type veth peer name {far} address {far_mac}\n\
         link set {far} addrgenmode none\n\
         link set {far} up\n"
    )
}

fn addresses(name: &str, ipv4: &str, ipv6: &str) -> String {
    format!(
        "link set {name} addrgenmode none\n\
         link set {name} up\n\
         address add {ipv4} dev {name}\n\
         address add {ipv6} dev {name} nodad\n"
    )
}

/// Returns the name of the far end of an interface.
fn far(name: &str) -> String {
    format!("far-{name}")
}

fn written(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn neighbour(address: &str, interface: &str, number: usize) -> String {
    let mac = written(peer_mac(number));
    format!("neigh add {address} lladdr {mac} dev {interface} nud permanent\n")
}

fn uplink_name(number: usize) -> String {
    format!("wan{number}")
}

fn mac(number: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, number as u8]
}

/// Returns the MAC address of all neighbours on an interface.
pub(crate) fn peer_mac(number: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, number as u8]
}

fn address(number: usize, family: Family) -> Result<IpAddr> {
    let text = match (number, family) {
        (0, Family::Ipv4) => "10.0.0.1".to_owned(),
        (0, Family::Ipv6) => "fd00::1".to_owned(),
        (_, Family::Ipv4) => format!("198.51.{number}.2"),
        (_, Family::Ipv6) => format!("2001:db8:{number}::2"),
    };
    Ok(text.parse()?)
}
