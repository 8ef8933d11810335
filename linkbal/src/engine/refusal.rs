//! Refusals: what the kernel did not put in force, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::network::{Change, IpRule, PROTOCOL, Route};

/// A piece of the kernel's state that linkbal sets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Resource {
    /// A bond, or a setting of an interface for one: the change in words.
    Interface(String),
    /// A sysctl.
    Sysctl {
        /// Path below `/proc/sys`.
        path: String,
        /// The value to set.
        value: String,
    },
    /// A route.
    Route(Route),
    /// An ip rule.
    Rule(IpRule),
    /// The nft table.
    NftTable,
    /// An ip rule that is to go.
    SurplusRule(IpRule),
    /// A route that is to go.
    SurplusRoute(Route),
}

impl From<&Change> for Resource {
    fn from(change: &Change) -> Resource {
        match change {
            Change::Bond(change) => Resource::Interface(change.to_string()),
            Change::SetSysctl(path, value) => {
                Resource::Sysctl { path: path.clone(), value: value.clone() }
            }
            Change::ReplaceRoute(route) => Resource::Route(route.clone()),
            Change::AddRule(rule) => Resource::Rule(rule.clone()),
            Change::ReplaceNft(_) => Resource::NftTable,
            Change::DeleteRule(rule) => Resource::SurplusRule(rule.clone()),
            Change::DeleteRoute(route) => Resource::SurplusRoute(route.clone()),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Interface(change) => write!(f, "interface {change}"),
            Resource::Sysctl { path, value } => {
                write!(f, "sysctl {} = {value}", path.replace('/', "."))
            }
            Resource::Route(route) => write!(f, "route {route}"),
            Resource::Rule(rule) => write!(f, "ip rule {rule}"),
            Resource::NftTable => f.write_str("nft table inet linkbal"),
            Resource::SurplusRule(rule) => {
                write!(f, "surplus ip rule {rule} with protocol {PROTOCOL}")
            }
            Resource::SurplusRoute(route) => {
                write!(f, "surplus route {route} with protocol {PROTOCOL}")
            }
        }
    }
}

/// A refusal of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Deserialize, Serialize)]
#[error("{message}")]
pub struct Refusal {
    /// The resource that is not in force.
    pub resource: Resource,
    /// The error number of the system call; `None` if a program failed, such as nft.
    pub errno: Option<i32>,
    /// The error in words.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_the_name_of_its_change() {
        let change = Change::SetSysctl("net/ipv4/conf/a.1/rp_filter".into(), "2".into());
        assert_eq!(Resource::from(&change).to_string(), super::super::drift::name(&change));
        let change = Change::ReplaceNft("table inet linkbal {}".into());
        assert_eq!(Resource::from(&change).to_string(), super::super::drift::name(&change));
    }
}
