//! The loaded eBPF program against packets (`BPF_PROG_TEST_RUN`), beside the same code on the host.
#![allow(missing_docs, reason = "a test suite has no users")]

mod attach;
mod bare;
mod capacity;
mod differential;
mod dns;
mod drill;
mod egress;
mod fixture;
mod ipv6;
mod memory;
mod numbered;
mod packets;
mod pins;
mod rules;
mod shapes;
