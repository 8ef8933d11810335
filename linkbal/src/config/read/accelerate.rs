//! `[accelerate]`: the way of established flows through this machine.

use toml::Spanned;

use crate::config::{
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value},
};

/// The way of established flows through this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerate {
    /// Each packet is forwarded by the kernel.
    #[default]
    Off,
    /// The kernel's flowtable forwards the packets.
    Flowtable,
    /// The datapath itself forwards the packets, but one a second and way.
    Ebpf,
}

/// Reads `[accelerate]`.
pub(in crate::config) fn read(root: &Section) -> Accelerate {
    let help = "write the section [accelerate] and in it mode = \"ebpf\"";
    let Some(section) = root.section(&keys::root::ACCELERATE, help) else {
        return Accelerate::default();
    };
    let section = section.knowing(&keys::accelerate::KEYS);
    let mode = section.get(&keys::accelerate::MODE, |value| match value::text(value)? {
        "off" => Ok(Accelerate::Off),
        "flowtable" => Ok(Accelerate::Flowtable),
        "ebpf" => Ok(Accelerate::Ebpf),
        other => Err(Fault::new(
            format!("{other:?} is unknown"),
            "write \"off\" (the kernel forwards each packet), \"flowtable\" (its flowtable forwards those \
             of established flows) or \"ebpf\" (linkbal forwards most of those)",
        )),
    });
    mode.map_or(Accelerate::default(), Spanned::into_inner)
}
