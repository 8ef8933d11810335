//! The gateway from end to end: real packets, and the promises of linkbal as others see them.
//!
//! Servers report the address from which they were asked; `ip`, `nft`, `conntrack` and `bpftool`
//! report the state of the kernel. Times are compared only with generous limits.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is a failed test")]

mod addressing;
mod admin;
mod adoption;
mod api_load;
mod applications;
mod balance;
mod bound_sockets;
mod command_line;
mod conflicts;
mod descriptors;
mod dhcp;
mod dns_poisoning;
mod domains;
mod drill;
mod environment;
mod events;
mod failover;
mod firewalld;
mod fixture;
mod floods;
mod foreign_nat;
mod fragments;
mod hangs;
mod health;
mod inbound;
mod invalid_requests;
mod ipv6;
mod kernel;
mod kills;
mod lifecycle;
mod link_storm;
mod load;
mod local;
mod mtu;
mod no_nat;
mod plan;
mod probes;
mod protocols;
mod reconcile;
mod related;
mod reload;
mod repair;
mod replay;
mod reset;
mod resolvers;
mod restart;
mod return_paths;
mod rules;
mod seamless_restart;
mod service;
mod shared_segment;
mod spoofing;
mod standby;
mod state_files;
mod sticky;
mod tiers;
mod topologies;
mod tunnels;
mod udp_servers;
mod unsent_probes;
mod upgrade;
mod upstream_outage;
