//! The configuration: its values, their defaults, and how they are read from a file.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{io, path::Path};

use linkbal_common::rule::MAX_RULES;

mod diagnostics;
mod difference;
mod dscp;
mod explain;
mod file_only;
pub mod kernel_numbers;
mod key_table;
mod keys;
mod model;
pub mod outline;
mod parse;
pub mod pattern;
mod read;
pub mod schema;
mod trust;
mod words;

pub use diagnostics::{
    finding::{Finding, Findings, LocatedFinding, Place, Severity},
    problem::{Location, Problem},
    report::{ConfigError, Warnings},
};
pub use difference::difference;
pub use dscp::dscp_named;
pub use explain::{COMMENTED, explain};
pub use file_only::FileOnly;
pub use key_table::{key_defaults, key_table};
pub use model::{
    Accelerate, Api, ArpValidate, Bond, BondMode, Capacity, Config, Destination, Dns, Encryption,
    Exempt, Firewall, Gateway, Hooks, Host, HttpTarget, Inbound, Ipv6, Kernel, LacpRate, Limits,
    Loss, Mail, Match, Member, Monitor, Named, Npt, OnDegraded, OnDown, OnUp, Otherwise, Post,
    Probe, Profile, Receiver, Rule, RuleSticky, Server, Sticky, StickyBy, Target, Uplink,
    XmitHashPolicy, name_of,
};
pub(crate) use parse::reader::names_help;
pub use parse::source::Sources;
pub use read::rule::with_parents;
pub use words::EVENT_WORDS;

use diagnostics::problem::Problems;
use parse::{reader::Section, syntax, value};
use read::{
    accelerate, api, bond, check, dns, firewall, hooks, kernel, lan, load, local, nat, notify,
    probe, resolvers, rule, sticky, tunnel, uplink,
};

/// Most different domains in all rules together.
pub const MAX_DOMAINS: usize = 1024;

/// Default path of the configuration.
pub const DEFAULT_PATH: &str = "/etc/linkbal/linkbal.toml";

/// Returns whether `name` can be that of an interface of the LAN or of an uplink.
pub(crate) fn is_interface_name(name: &str) -> bool {
    value::interface_name(name).is_ok()
}

/// A valid configuration, and warnings about it.
#[derive(Debug)]
pub struct Parsed {
    /// The values.
    pub config: Config,
    /// The warnings; empty for most configurations.
    pub warnings: Warnings,
}

/// A function that reads the text of a file that a configuration names.
pub type ReadFile<'a> = dyn Fn(&Path) -> io::Result<String> + 'a;

/// The origin of files that a configuration names.
struct Files<'a> {
    /// The folder of relative names.
    folder: &'a Path,
    read: &'a ReadFile<'a>,
    /// The file of the configuration; `None` for a text that was kept.
    itself: Option<&'a Path>,
}

impl Config {
    /// Reads the configuration in `text`; `name` is the name of the file in problems. Warnings are
    /// dropped, and files that the text names are not read: they are problems.
    ///
    /// # Errors
    /// As [`Config::parse_with`].
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
        let no_files = |_: &Path| Err(io::ErrorKind::Unsupported.into());
        Config::parse_with(text, Path::new(name), &no_files).map(|parsed| parsed.config)
    }

    /// Reads the configuration in `text`, the contents of the file at `path`. Files that it names
    /// are relative to the folder of `path`, and are read by `read_file`.
    ///
    /// # Errors
    /// All problems of the text in the order in which they stand there. Broken TOML syntax hides
    /// the problems of the values: what a broken line was meant to say is not guessed.
    pub fn parse_with(
        text: &str,
        path: &Path,
        read_file: &ReadFile,
    ) -> Result<Parsed, ConfigError> {
        Config::parse_of(text, path, read_file, None)
    }

    /// Reads like [`Config::parse_with`]; `itself` is the file of the text, if it is one, which others
    /// must not be able to change.
    fn parse_of(
        text: &str,
        path: &Path,
        read_file: &ReadFile,
        itself: Option<&Path>,
    ) -> Result<Parsed, ConfigError> {
        let name = path.display().to_string();
        let folder = path.parent().unwrap_or(Path::new(""));
        let problems = Problems::new(text);
        let config = syntax::parse(text, &problems).map(|tree| {
            let root = Section::root(&tree, &problems);
            read(&root.knowing(&keys::root::KEYS), &Files { folder, read: read_file, itself })
        });
        match config {
            Some(config) if problems.is_empty() => {
                Ok(Parsed { config, warnings: Warnings::of(problems, &name) })
            }
            _ => Err(ConfigError::of(problems, &name)),
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

/// Reads the configuration as far as possible; a value with a problem is replaced by its default,
/// so that it does not cause further problems.
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
    let (accelerate, accelerate_except) = accelerate::read(root, &lan_interfaces);
    let dns = dns::read(root);
    let api = api::read(root);
    let hooks = hooks::read(root, files);
    let receivers = notify::read(root);
    let kernel = kernel::read(root);
    let bonds = bond::read(root);
    bond::check_bonds(&bonds, root);
    bond::check_members(&bonds, &lan_interfaces, &uplinks, root);
    check::interfaces(&lan_interfaces, &uplinks, root);
    check::tiers(&uplinks, root);
    check::reclaims(&uplinks, root);
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
        accelerate,
        accelerate_except,
        dns,
        api,
        hooks,
        receivers,
        kernel,
    }
}

#[cfg(test)]
mod tests;
