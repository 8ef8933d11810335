//! The values of a proposal, each with the fact that it comes from.

use std::collections::BTreeMap;

use linkbal_common::uplink::Family;

use super::{facts::family_name, way::KnownGateway};

/// Answers of a person; those that are missing are left to the facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The interfaces that lead to the internet.
    pub uplinks: Option<Vec<String>>,
    /// The interfaces where machines of the network come in.
    pub lan: Option<Vec<String>>,
    /// Weights by the names of uplinks.
    pub weights: BTreeMap<String, u32>,
}

/// A value with the fact that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) value: u32,
    pub(super) why: String,
}

/// An uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uplink {
    pub(super) name: String,
    pub(super) interface: String,
    /// The address of the interface, and what else is to say of it.
    pub(super) about: String,
    /// The gateways of IPv4 and IPv6, as far as there are any.
    pub(super) ways: [Option<KnownGateway>; 2],
    /// The tier, if it is not the first.
    pub(super) tier: Option<Value>,
    pub(super) weight: Value,
    /// Further remarks.
    pub(super) remarks: Vec<String>,
}

/// A proposed configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    pub(super) host: String,
    pub(super) uplinks: Vec<Uplink>,
    /// Interfaces of the LAN, each with the reason.
    pub(super) lan: Vec<(String, String)>,
    /// Interfaces that are neither, each with the reason.
    pub(super) left_out: Vec<(String, String)>,
    /// Lines of `[kernel]`.
    pub(super) kernel: Vec<String>,
    /// Sentences about the machine.
    pub(super) machine: Vec<String>,
}

impl Uplink {
    /// Returns the tier.
    pub(super) fn tier_number(&self) -> u32 {
        self.tier.as_ref().map_or(1, |tier| tier.value)
    }

    /// Returns the value of `gateway`, and where it is known from, in lines.
    pub(super) fn gateway(&self) -> (String, Vec<String>) {
        let fixed = |at: usize| self.ways.get(at)?.as_ref()?.address();
        let value = match (fixed(0), fixed(1)) {
            (None, None) => "\"auto\"".into(),
            (Some(ipv4), None) => format!("\"{ipv4}\""),
            (None, Some(ipv6)) => format!("\"{ipv6}\""),
            (Some(ipv4), Some(ipv6)) => format!("{{ ipv4 = \"{ipv4}\", ipv6 = \"{ipv6}\" }}"),
        };
        let origins = Family::ALL.into_iter().zip(&self.ways).filter_map(|(family, way)| {
            way.as_ref().map(|way| (family_name(family), way.origin().to_owned()))
        });
        let origins: Vec<(&str, String)> = origins.collect();
        let why = match &origins[..] {
            [] => vec!["no default route leads by it now".into()],
            [(_, origin)] => vec![origin.clone()],
            several => {
                several.iter().map(|(family, origin)| format!("{family}: {origin}")).collect()
            }
        };
        (value, why)
    }
}
