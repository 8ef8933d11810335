//! The lab: a small internet made of network namespaces, in which linkbal runs as it does at home.
//!
//! - [`namespace`]: namespaces and the processes in them, gone when dropped.
//! - [`topology`]: a LAN, the gateway, one provider per uplink, servers behind all of them; and
//!   faults.
//! - [`traffic`]: servers that return the address they see, clients, long-lived flows, packet
//!   clock.
//! - [`dhcp`]: providers that give out addresses, and their clients.
//! - [`daemon`]: `linkbal` itself, started in the gateway.
//! - [`browser`]: a real browser that shows the page of the gateway.
//! - [`oracle`]: the state of the kernel, read by tools that share no code with linkbal.
//! - [`record`]: outages, recorded for `linkbal replay`.
//! - [`screenshots`]: pictures of the page, for the documents.
//! - [`demo`]: the guided tour which the `linkbal-lab` program shows.
//!
//! Everything needs root and happens inside namespaces which the lab made: the host's network is
//! never touched.

pub mod browser;
pub mod daemon;
pub mod demo;
pub mod dhcp;
pub mod interrupt;
pub mod mounts;
pub mod namespace;
pub mod oracle;
pub mod record;
pub mod screenshots;
pub mod soak;
pub mod topology;
pub mod traffic;
pub mod turn;
pub mod wait;
