//! The configuration: its values, their defaults, and how they are read from a file.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use linkbal_common::{mark::DEFAULT_MASK, rule::MAX_RULES};

mod bond;
mod check;
mod dns;
mod firewall;
mod hooks;
mod ipv6;
mod kernel;
mod lan;
mod load;
mod local;
mod nat;
pub mod pattern;
mod probe;
mod problem;
mod reader;
mod report;
mod resolvers;
mod rule;
mod source;
mod sticky;
mod syntax;
mod target;
mod tunnel;
mod uplink;
mod value;

pub use bond::{ArpValidate, Bond, BondMode, LacpRate, Monitor, Named, XmitHashPolicy, name_of};
pub use firewall::{Firewall, Inbound};
pub use ipv6::{Ipv6, Npt};
pub use nat::Exempt;
pub use problem::{Location, Problem};
pub(crate) use reader::names_help;
pub use report::{ConfigError, Warnings};
pub use rule::with_parents;
pub use source::Sources;
pub use target::{Host, HttpTarget, Target};

use problem::Problems;
use reader::Section;

/// Most different domains in all rules together.
pub const MAX_DOMAINS: usize = 1024;

/// Routing tables of tunnels, one for each uplink, counted from the configured first table.
pub const TUNNEL_TABLES: u32 = 32;

/// A complete and valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interfaces that are made of several others, sorted by name.
    pub bonds: Vec<Bond>,
    /// Interfaces of the LAN, names and patterns (see [`pattern`]); at least one unless
    /// `local_balance` is on.
    pub lan_interfaces: Vec<String>,
    /// Whether the traffic of this machine itself is spread, too.
    pub local_balance: bool,
    /// Whether the weights of uplinks follow their free capacity.
    pub adaptive: bool,
    /// The uplinks, sorted by name: at least one, at most [`linkbal_common::uplink::MAX_UPLINKS`].
    pub uplinks: Vec<Uplink>,
    /// What sticks to an uplink; no port is in two classes.
    pub sticky: Vec<Sticky>,
    /// Rules, the first that matches decides; at most [`MAX_RULES`]. Those that lead to the
    /// resolvers of uplinks come first, before the user's.
    pub rules: Vec<Rule>,
    /// What is not translated.
    pub exempt: Vec<Exempt>,
    /// What connections from outside may reach.
    pub firewall: Firewall,
    /// Whose DNS replies are believed.
    pub dns: Dns,
    /// Who is told of changes.
    pub hooks: Hooks,
    /// Numbers that linkbal uses in the kernel.
    pub kernel: Kernel,
}

/// A configuration that can be used, and what is probably not meant so in it.
#[derive(Debug)]
pub struct Parsed {
    /// The values.
    pub config: Config,
    /// Empty for most configurations.
    pub warnings: Warnings,
}

const SECTIONS: [&str; 13] = [
    "lan", "local", "bond", "uplink", "nat", "firewall", "balance", "probe", "sticky", "rule",
    "dns", "hooks", "kernel",
];

/// Reads the text of a file that a configuration names.
pub type ReadFile<'a> = dyn Fn(&Path) -> io::Result<String> + 'a;

/// Where files that a configuration names come from.
struct Files<'a> {
    /// What relative names are relative to.
    folder: &'a Path,
    read: &'a ReadFile<'a>,
}

/// One uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Name: letters, digits, `-`, `_`; 1 to 32 of them.
    pub name: String,
    /// Network interface.
    pub interface: String,
    /// Share of the flows, relative to the other uplinks of its tier: 0 to 10000.
    pub weight: u32,
    /// Uplinks of a higher tier are used only while all of the lower ones are down or full: 1 to 16.
    pub tier: u32,
    /// IPv4 gateway.
    pub gateway_ipv4: Gateway,
    /// IPv6 gateway.
    pub gateway_ipv6: Gateway,
    /// The uplinks that a tunnel's outer packets may use, the best one first; none: all that are no
    /// tunnels.
    pub over: Vec<String>,
    /// Where a tunnel's outer packets are sent to; none: where the kernel says.
    pub endpoints: Vec<IpAddr>,
    /// Whether sources that are not its own are translated, if `ipv6` says nothing else.
    pub nat: bool,
    /// IPv4 prefixes that the provider routes here: their sources stay as they are, and use no
    /// other uplink. None overlaps another, of whatever uplink.
    pub prefixes_ipv4: Vec<Ipv4Net>,
    /// How it carries IPv6.
    pub ipv6: Ipv6,
    /// Addresses that move between two gateways: while they are at the other one, this one is on
    /// standby. The first one of each family is what its flows are translated to.
    pub virtual_addresses: Vec<IpAddr>,
    /// What becomes of its flows when it goes down.
    pub on_down: OnDown,
    /// What the line can carry, if it is known.
    pub capacity: Option<Capacity>,
    /// From this share of the capacity on new flows use other uplinks: 100 to 1000 thousandths, and
    /// only with a capacity.
    pub spillover: Option<u32>,
    /// What becomes of its flows when an uplink of a better tier comes up.
    pub on_up: OnUp,
    /// DNS servers that answer only its customers: what goes there goes by this uplink.
    pub resolvers: Vec<IpAddr>,
    /// How its health is found out.
    pub probe: Probe,
}

/// What a line can carry, in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// From the provider.
    pub down: u64,
    /// To the provider.
    pub up: u64,
}

/// What becomes of the flows of an uplink that goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// TCP connections are reset, so that programs reconnect at once; all other flows move.
    #[default]
    Reset,
    /// All move: for uplinks that translate no addresses, whose connections survive that.
    Move,
    /// All stay and wait.
    Keep,
}

/// What becomes of the flows of a backup when an uplink of a better tier comes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUp {
    /// They stay until they end.
    #[default]
    Drain,
    /// They are ended, to begin anew on the better one.
    Reclaim {
        /// How long the better one must have been usable.
        after: Duration,
    },
}

/// Where an uplink's gateway is known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gateway {
    /// The default route of the main table on the uplink's interface; none on point-to-point.
    #[default]
    Auto,
    /// Configured.
    Address(IpAddr),
}

/// Probing of one uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whom to ask; none means: the carrier alone decides.
    pub targets: Vec<Target>,
    /// Time between rounds; a round asks all targets.
    pub interval: Duration,
    /// Time after which an answer counts as lost; `None`: derived from the measured latency.
    pub timeout: Option<Duration>,
    /// Failed rounds in a row until the uplink is down.
    pub failure_count: u32,
    /// Good rounds in a row until a down uplink may come back.
    pub success_count: u32,
    /// Targets of a family that must answer for a round to be good.
    pub quorum: u32,
    /// How long a down uplink must answer well before it comes back.
    pub hold: Duration,
    /// How long at most, if it goes down again and again; at least `hold`.
    pub hold_max: Duration,
    /// What a usable uplink must keep to be as good as others.
    pub limits: Limits,
    /// What becomes of new flows when it does not.
    pub on_degraded: OnDegraded,
}

/// What the answers must be like. `None`: as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Share of lost probes.
    pub loss: Option<Loss>,
    /// Smoothed latency.
    pub latency: Option<Duration>,
    /// Jitter.
    pub jitter: Option<Duration>,
}

/// A share of lost probes, in tenths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss(u16);

impl Loss {
    /// So many percent.
    pub const fn percent_of(percent: u8) -> Loss {
        Loss((percent as u16).saturating_mul(10))
    }

    /// How many percent it is.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

/// What becomes of the new flows of an uplink that is degraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDegraded {
    /// They go elsewhere, as long as another uplink is usable.
    #[default]
    Avoid,
    /// They take it as ever.
    Ignore,
}

impl Default for Probe {
    fn default() -> Probe {
        Probe {
            targets: probe::default_targets(),
            interval: Duration::from_millis(200),
            timeout: None,
            failure_count: 3,
            success_count: 5,
            quorum: 1,
            hold: Duration::from_secs(5),
            hold_max: Duration::from_secs(600),
            limits: Limits::default(),
            on_degraded: OnDegraded::Avoid,
        }
    }
}

/// Who shares a sticky session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickyBy {
    /// All flows of a source.
    Source,
    /// All flows of a source to one destination.
    SourceAndDestination,
}

/// A class of sticky flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// Destination ports, of TCP and UDP; at least one.
    pub ports: Vec<u16>,
    /// Who shares a session.
    pub by: StickyBy,
    /// Time without a packet after which the session ends; whole seconds.
    pub idle: Duration,
    /// IP protocols whose flows join a session without having one of the ports: those without ports,
    /// and those to ports from 1024 on.
    pub related: Vec<u8>,
}

impl Default for Sticky {
    /// HTTPS and QUIC.
    fn default() -> Sticky {
        Sticky {
            ports: vec![443],
            by: StickyBy::SourceAndDestination,
            idle: Duration::from_secs(600),
            related: Vec::new(),
        }
    }
}

/// A rule of the user's; the first one that matches a new flow decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which flows.
    pub matches: Match,
    /// The uplinks that they use; empty: all, as without a rule.
    pub members: Vec<Member>,
    /// What becomes of them when none of `members` is usable.
    pub otherwise: Otherwise,
    /// How they stick; `None`: as `[[sticky]]` says.
    pub sticky: Option<RuleSticky>,
}

/// What a rule matches: a flow must satisfy every list that is not empty by one of its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Source prefixes.
    pub source: Vec<IpNet>,
    /// Destination prefixes.
    pub destination: Vec<IpNet>,
    /// Domains of the destination, subdomains included: in lower case, without a dot at the end.
    pub domain: Vec<String>,
    /// IP protocol numbers.
    pub protocol: Vec<u8>,
    /// Source ports: first and last of each range. Only TCP, UDP and SCTP have ports.
    pub source_port: Vec<(u16, u16)>,
    /// Destination ports: first and last of each range.
    pub destination_port: Vec<(u16, u16)>,
    /// DSCP values, 0 to 63 (RFC 2474).
    pub dscp: Vec<u8>,
    /// LAN interfaces that the packet comes in by.
    pub interface: Vec<String>,
    /// VLANs of a tagged packet, 1 to 4094.
    pub vlan: Vec<u16>,
    /// Source MAC addresses.
    pub mac: Vec<[u8; 6]>,
}

/// An uplink of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub uplink: String,
    /// Share of the rule's flows, relative to the other members of its tier.
    pub weight: u32,
    /// Members of a higher tier are used only while all of the lower ones are down.
    pub tier: u32,
}

/// What becomes of flows whose uplinks are all down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Otherwise {
    /// They use the other uplinks, as without a rule.
    #[default]
    Balance,
    /// Their packets are dropped in silence.
    Drop,
    /// They are told that the destination is unreachable.
    Reject,
}

/// How the flows of one rule stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSticky {
    /// Who shares a session.
    pub by: StickyBy,
    /// Time without a packet after which the session ends.
    pub idle: Duration,
    /// Leading bits of IPv4 and IPv6 source addresses that count: neighbours share a session.
    pub source_bits: (u8, u8),
}

/// Where the addresses of domains are learned from, beside this machine's own DNS server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// DNS servers whose replies are believed; `None`: those of `/etc/resolv.conf`.
    pub resolvers: Option<Vec<IpAddr>>,
}

/// Programs of the user's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// What is run for every event: a program with its absolute path, and its arguments.
    pub on_change: Option<Vec<String>>,
}

/// Numbers in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// linkbal's bits of the fwmark.
    pub fwmark_mask: u32,
    /// Table of the best uplink; uplink `i` has this plus one plus `i`.
    pub table_base: u32,
    /// Priority of the first ip rule; the next 199 are linkbal's too.
    pub rule_priority: u32,
    /// Entries of the flow table; `None`: by the memory of the machine.
    pub flow_table_size: Option<u32>,
    /// Where the seed of the hash is, which two gateways share; without it, one is drawn.
    pub hash_seed_file: Option<PathBuf>,
}

impl Default for Kernel {
    fn default() -> Kernel {
        Kernel {
            fwmark_mask: DEFAULT_MASK,
            table_base: 2600,
            rule_priority: 26_000,
            flow_table_size: None,
            hash_seed_file: None,
        }
    }
}

impl Config {
    /// Reads the configuration in `text`; `name` is what problems call the file. Warnings are not
    /// given, and files that the text names are not read: they are problems.
    ///
    /// # Errors
    /// As [`Config::parse_with`].
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
        let no_files = |_: &Path| Err(io::ErrorKind::Unsupported.into());
        Config::parse_with(text, Path::new(name), &no_files).map(|parsed| parsed.config)
    }

    /// Reads the configuration in `text`, which stands in the file at `path`. Files that it names
    /// are relative to the folder of `path`, and come from `read_file`.
    ///
    /// # Errors
    /// All problems of the text in the order in which they stand there. Broken TOML syntax hides
    /// the problems of the values: what a broken line was meant to say is not guessed.
    pub fn parse_with(
        text: &str,
        path: &Path,
        read_file: &ReadFile,
    ) -> Result<Parsed, ConfigError> {
        let name = path.display().to_string();
        let folder = path.parent().unwrap_or(Path::new(""));
        let problems = Problems::new(text);
        let config = syntax::parse(text, &problems).map(|tree| {
            let root = Section::root(&tree, &problems);
            read(&root.knowing(&SECTIONS), &Files { folder, read: read_file })
        });
        match config {
            Some(config) if problems.is_empty() => {
                Ok(Parsed { config, warnings: problems.into_warnings(&name) })
            }
            _ => Err(problems.into_error(&name)),
        }
    }

    /// Reads the configuration file at `path`, and the files that it names.
    ///
    /// # Errors
    /// As [`Config::parse_with`], and one problem without a location if the file cannot be read.
    pub fn load(path: &Path) -> Result<Parsed, ConfigError> {
        Sources::load(path).map(|(parsed, _)| parsed)
    }
}

/// The configuration as far as it can be read; a value with a problem becomes its default, so
/// that it does not cause others.
fn read(root: &Section, files: &Files) -> Config {
    let local_balance = local::read(root);
    let lan_interfaces = lan::read(root, !local_balance);
    let adaptive = load::read_adaptive(root);
    let probe = probe::read_defaults(root);
    let uplinks = uplink::read(root, &probe);
    let sticky = sticky::read(root);
    let rules = rule::read(root, &lan_interfaces, &uplinks, files);
    let exempt = nat::read(root, &uplinks);
    let firewall = firewall::read(root);
    let dns = dns::read(root);
    let hooks = hooks::read(root);
    let kernel = kernel::read(root);
    let bonds = bond::read(root);
    bond::check_bonds(&bonds, root);
    bond::check_members(&bonds, &lan_interfaces, &uplinks, root);
    check::interfaces(&lan_interfaces, &uplinks, root);
    check::tiers(&uplinks, root);
    tunnel::check(&uplinks, root);
    check::prefixes(&uplinks, root);
    let rules = resolvers::with_rules(rules, &uplinks, root);
    let mut uplinks: Vec<Uplink> = uplinks.into_iter().map(|read| read.uplink).collect();
    uplinks.sort_by(|a, b| a.name.cmp(&b.name));
    let mut bonds: Vec<Bond> = bonds.into_iter().map(|read| read.bond).collect();
    bonds.sort_by(|a, b| a.name.cmp(&b.name));
    let lan_interfaces = lan_interfaces.into_iter().map(toml::Spanned::into_inner).collect();
    Config {
        bonds,
        lan_interfaces,
        local_balance,
        adaptive,
        uplinks,
        sticky,
        rules,
        exempt,
        firewall,
        dns,
        hooks,
        kernel,
    }
}

#[cfg(test)]
mod tests;
