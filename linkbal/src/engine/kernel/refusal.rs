//! Refusals: what the kernel did not put in force, why, and what to do.

pub(in crate::engine) mod tracker;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    network::{ACCEPT_LOCAL, Change, IpRule, PROTOCOL, Route},
    nft_text::flowtable::FLOWTABLE,
    resource::ResourceKind,
};

/// Error numbers (include/uapi/asm-generic/errno-base.h, Linux 6.1).
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENODEV: i32 = 19;
const EROFS: i32 = 30;

/// A piece of the kernel's state that linkbal sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
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
    /// The nft table of the flowtable.
    Flowtable,
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
            Change::SetFlowtable(_) => Resource::Flowtable,
            Change::DeleteRule(rule) => Resource::SurplusRule(rule.clone()),
            Change::DeleteRoute(route) => Resource::SurplusRoute(route.clone()),
        }
    }
}

impl Resource {
    /// Returns the kind.
    pub const fn kind(&self) -> ResourceKind {
        match self {
            Resource::Interface(_) => ResourceKind::Bonds,
            Resource::Sysctl { .. } => ResourceKind::Sysctls,
            Resource::Route(_) | Resource::SurplusRoute(_) => ResourceKind::Routes,
            Resource::Rule(_) | Resource::SurplusRule(_) => ResourceKind::Rules,
            Resource::NftTable | Resource::Flowtable => ResourceKind::Nft,
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
            Resource::Flowtable => write!(f, "nft table inet {FLOWTABLE}"),
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
pub struct KernelRefusal {
    /// The resource that is not in force.
    pub resource: Resource,
    /// The error number of the system call; `None` if a program failed, such as nft.
    pub errno: Option<i32>,
    /// The error in words.
    pub message: String,
}

impl KernelRefusal {
    /// Explains it: what it means, the reason, and what to do.
    pub fn explain(&self) -> String {
        format!("{}: {}{}", self.meaning(), self.message, self.advice())
    }

    /// Returns whether the interface of a route is gone, of which the kernel is about to tell; or
    /// maybe one of the flowtable's, for which nft has the same error as for a kernel without
    /// flowtables.
    pub(in crate::engine) const fn is_outdated(&self) -> bool {
        matches!(
            (&self.resource, self.errno),
            (Resource::Route(_) | Resource::SurplusRoute(_), Some(ENODEV))
                | (Resource::Flowtable, _)
        )
    }

    fn meaning(&self) -> &'static str {
        match &self.resource {
            Resource::Sysctl { path, .. } if path.ends_with("/rp_filter") => {
                "answers to an uplink's packets may be dropped"
            }
            Resource::Sysctl { path, .. } if path.ends_with(ACCEPT_LOCAL) => {
                "the kernel looks for the route back to the source of every packet, which costs more"
            }
            Resource::Sysctl { path, .. } if path.contains("forward") => {
                "this machine does not forward the packets of the LAN"
            }
            Resource::Sysctl { .. } => "the kernel does not behave as linkbal expects",
            Resource::Interface(_) => "a bond is not as it is configured",
            Resource::Flowtable => "established flows take no shortcuts",
            Resource::NftTable => "packets of the LAN leave without translation of their addresses",
            Resource::Route(_)
            | Resource::Rule(_)
            | Resource::SurplusRoute(_)
            | Resource::SurplusRule(_) => "packets may leave by another uplink than they should",
        }
    }

    fn advice(&self) -> String {
        match (&self.resource, self.errno) {
            // It waits for the nft table.
            (Resource::Sysctl { path, .. }, None) if path.ends_with(ACCEPT_LOCAL) => {
                "; it is tried again".into()
            }
            (Resource::Sysctl { path, value }, errno) => {
                let setting = format!("{}={value}", path.replace('/', "."));
                match errno {
                    Some(EROFS) => format!(
                        "; /proc/sys is read-only here, as in a container: set {setting} where \
                         that is made (docker run --sysctl {setting}), or run it with a writable \
                         /proc/sys"
                    ),
                    Some(EPERM | EACCES) => {
                        format!("; run linkbal as root, or set {setting} yourself")
                    }
                    _ => format!("; set {setting} yourself"),
                }
            }
            (Resource::NftTable, _) => nft_advice(&self.message).into(),
            (Resource::Flowtable, _) => flowtable_advice(&self.message).into(),
            (_, Some(EPERM)) => "; linkbal needs CAP_NET_ADMIN".into(),
            _ => String::new(),
        }
    }
}

/// Returns advice on an error of nft, which tells errors in words alone, and does not name the part
/// of the kernel that is missing.
fn nft_advice(message: &str) -> &'static str {
    if message.contains("No such file or directory") || message.contains("not supported") {
        "; the kernel lacks a part that the table needs: load the modules nf_conntrack, nf_nat, \
         nft_ct, nft_nat, nft_chain_nat, nft_masq and nft_reject_inet (modprobe), or use a kernel \
         with CONFIG_NF_CONNTRACK, CONFIG_NF_NAT, CONFIG_NFT_CT, CONFIG_NFT_NAT and CONFIG_NFT_MASQ"
    } else if message.contains("not permitted") {
        "; linkbal needs CAP_NET_ADMIN for nftables"
    } else {
        ""
    }
}

/// Returns advice on an error of nft about the flowtable, as above.
fn flowtable_advice(message: &str) -> &'static str {
    if message.contains("No such file or directory") || message.contains("not supported") {
        "; the kernel lacks flowtables: load the modules nf_flow_table, nf_flow_table_inet and \
         nft_flow_offload (modprobe), use a kernel with CONFIG_NF_FLOW_TABLE, \
         CONFIG_NF_FLOW_TABLE_INET and CONFIG_NFT_FLOW_OFFLOAD, or write another mode in [accelerate]"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_it_means_and_what_to_do() {
        let refusal = KernelRefusal {
            resource: Resource::Sysctl { path: "net/ipv4/ip_forward".into(), value: "1".into() },
            errno: Some(EROFS),
            message: "failed to set sysctl net/ipv4/ip_forward to 1: Read-only file system".into(),
        };
        let text = refusal.explain();
        for part in ["does not forward", "read-only here", "--sysctl net.ipv4.ip_forward=1"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let refusal = KernelRefusal {
            resource: Resource::NftTable,
            errno: None,
            message: "failed to replace nft table inet linkbal: nft: /dev/stdin:9:5-20: Error: \
                      Could not process rule: No such file or directory"
                .into(),
        };
        let text = refusal.explain();
        for part in ["without translation", "nf_conntrack", "CONFIG_NFT_NAT"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_resource_has_the_kind_of_its_change_and_a_name() {
        let change = Change::SetSysctl("net/ipv4/conf/a.1/rp_filter".into(), "2".into());
        let resource = Resource::from(&change);
        assert_eq!(resource.kind(), ResourceKind::Sysctls);
        assert_eq!(resource.to_string(), "sysctl net.ipv4.conf.a.1.rp_filter = 2");
        let resource = Resource::from(&Change::ReplaceNft("table inet linkbal {}".into()));
        assert_eq!(resource.kind(), ResourceKind::Nft);
        assert_eq!(resource.to_string(), "nft table inet linkbal");
    }
}
