//! `[accelerate]`: the way of established flows through this machine.

use toml::Spanned;

use super::lan;
use crate::config::{
    Accelerate,
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value},
};

/// Reads `[accelerate]`: the way, and the interfaces of the LAN that are left out.
pub(in crate::config) fn read(
    root: &Section,
    lan: &[Spanned<String>],
) -> (Accelerate, Vec<String>) {
    let help = "write the section [accelerate] and in it mode = \"ebpf\"";
    let Some(section) = root.section(&keys::root::ACCELERATE, help) else {
        return Default::default();
    };
    let section = section.knowing(&keys::accelerate::KEYS);
    (mode(&section), except(&section, lan))
}

fn mode(section: &Section) -> Accelerate {
    const HELP: &str = "write \"off\" (the kernel forwards each packet), \"flowtable\" (its flowtable forwards those \
             of established flows), \"ebpf\" (linkbal forwards most of those) or \"xdp\" (the same, at the \
             drivers of interfaces that can)";
    let mode = section.get(&keys::accelerate::MODE, |value| match value::word(value, HELP)? {
        "off" => Ok(Accelerate::Off),
        "flowtable" => Ok(Accelerate::Flowtable),
        "ebpf" => Ok(Accelerate::Ebpf),
        "xdp" => Ok(Accelerate::Xdp),
        other => Err(Fault::new(format!("{other:?} is unknown"), HELP)),
    });
    mode.map_or(Accelerate::default(), Spanned::into_inner)
}

fn except(section: &Section, interfaces: &[Spanned<String>]) -> Vec<String> {
    let interfaces: Vec<&str> = interfaces.iter().map(|name| name.get_ref().as_str()).collect();
    let help = "write a list of interfaces of the LAN, like except = [\"br-guest\"]";
    let known = |value| lan::interface(value, &interfaces);
    let Some(list) = section.list(&keys::accelerate::EXCEPT, help, known) else {
        return Vec::new();
    };
    section.report_repeated(&keys::accelerate::EXCEPT, &list.items);
    list.items.into_iter().map(Spanned::into_inner).collect()
}
