//! Tests that need kernel modules which a developer's machine may lack: bad lines by netem, bonds,
//! VLANs, WireGuard, flowtables, PPPoE. And tests that need a machine of their own: systemd as its
//! process 1, with linkbal's unit, networkd, and the services of two gateways; dhclient.
//!
//! Only `cargo xtask vm` runs it, in a guest:
//!
//! ```sh
//! cargo xtask vm vm                        # the suite, on both kernels
//! cargo xtask vm --kernel 6.1 vm::netem    # a module of it, or one test, on one of them
//! ```
//!
//! A new file here needs a module below, and nothing else. Modules of the kernel are listed in
//! `xtask/src/vm/modules.rs`, programs in `xtask/src/vm/image.rs`, those of packages that are not
//! installed in `xtask/src/vm/packages.rs`. Files that a test writes to the folder
//! `$LINKBAL_RESULTS` are afterwards in `target/vm/KERNEL/results/`. Guests without an accelerator
//! are slow: few flows, and probes as in [`lines::with_slow_probes`], do.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is a failed test")]

mod accelerate;
mod bond;
mod clsact;
mod dhclient;
#[path = "../gateway/fixture.rs"]
#[expect(dead_code, reason = "what only the gateway's suite uses")]
mod fixture;
mod flowtable;
mod high_availability;
mod init;
mod ipsec;
#[path = "../gateway/kernel.rs"]
#[expect(dead_code, reason = "what only the gateway's suite uses")]
mod kernel;
mod leases;
mod lines;
mod machine;
mod netem;
mod networkd;
mod package;
mod pppoe;
#[path = "../gateway/shipped.rs"]
mod shipped;
#[path = "../gateway/shortcuts.rs"]
#[expect(dead_code, reason = "what only the gateway's suite uses")]
mod shortcuts;
mod systemd;
#[path = "../gateway/tunnels.rs"]
mod tunnels;
mod vlan;
mod wireguard;
