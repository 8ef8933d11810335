//! The gateway from end to end: real packets, and the promises of linkbal as others see them.
//!
//! Servers report the address from which they were asked; `ip`, `nft`, `conntrack` and `bpftool`
//! report the state of the kernel. Times are compared only with generous limits.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is a failed test")]

mod admin;
mod adopted;
mod answers;
mod balance;
mod command_line;
mod dead_end;
mod descriptors;
mod devices;
mod dhcp;
mod domains;
mod drill;
mod events;
mod exempt;
mod failover;
mod firewalld;
mod fixture;
mod floods;
mod fragments;
mod ground;
mod hangs;
mod health;
mod inbound;
mod ipv6;
mod kernel;
mod kills;
mod leftovers;
mod lifecycle;
mod load;
mod local;
mod others_nat;
mod outside;
mod partner;
mod paths;
mod plan;
mod poison;
mod probes;
mod programs;
mod protocols;
mod reconcile;
mod related;
mod reload;
mod repair;
mod replay;
mod reset;
mod resolvers;
mod restart;
mod rules;
mod segment;
mod service;
mod shapes;
mod spoofed;
mod state_files;
mod steady;
mod sticky;
mod storm;
mod tiers;
mod troubles;
mod tunnels;
mod upgrade;
