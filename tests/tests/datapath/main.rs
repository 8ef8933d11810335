//! The loaded eBPF program against packets (`BPF_PROG_TEST_RUN`), beside the same code on the host.
#![allow(missing_docs, reason = "a test suite has no users")]

mod attach;
mod capacity;
mod differential;
mod dns;
mod drill;
mod egress;
mod explain;
mod fixture;
mod flow_packet;
mod instance;
mod ipv6;
mod l3;
mod memory;
mod mss;
mod packets;
mod rules;
mod shapes;
