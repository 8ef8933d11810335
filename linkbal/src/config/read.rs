//! The sections of a configuration, and how they are read: a file for each.

pub(in crate::config) mod accelerate;
pub(in crate::config) mod api;
pub(in crate::config) mod bond;
pub(in crate::config) mod check;
pub(in crate::config) mod dns;
pub(in crate::config) mod firewall;
pub(in crate::config) mod hooks;
pub(in crate::config) mod ipv6;
pub(in crate::config) mod kernel;
pub(in crate::config) mod lan;
pub(in crate::config) mod load;
pub(in crate::config) mod local;
pub(in crate::config) mod nat;
pub(in crate::config) mod notify;
pub(in crate::config) mod probe;
pub(in crate::config) mod probe_target;
pub(in crate::config) mod read_uplink;
pub(in crate::config) mod resolvers;
pub(in crate::config) mod rule;
pub(in crate::config) mod sticky;
pub(in crate::config) mod tunnel;
pub(in crate::config) mod uplink;
