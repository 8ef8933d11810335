//! `[lan]`: where the flows come from.

use toml::Spanned;

use super::{problem::Fault, reader::Section, value};

const HELP: &str = "write the section [lan] and in it a list, like interfaces = [\"br-lan\"]";

/// The interfaces of the LAN.
pub(super) fn read(root: &Section) -> Vec<Spanned<String>> {
    root.require("lan", none_given());
    let lan = root.section("lan", HELP).map(|lan| lan.knowing(&["interfaces"]));
    lan.map_or(Vec::new(), |lan| read_interfaces(&lan))
}

fn read_interfaces(lan: &Section) -> Vec<Spanned<String>> {
    lan.require("interfaces", none_given());
    let Some(list) = lan.list("interfaces", HELP, value::interface) else { return Vec::new() };
    if list.items.is_empty() && list.complete {
        lan.problems().report(list.span, none_given());
    }
    lan.report_repeated("interfaces", &list.items);
    list.items
}

fn none_given() -> Fault {
    Fault::new("no LAN interface is given", HELP)
}
