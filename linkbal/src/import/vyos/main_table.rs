//! `protocols static`: the routes of the main table.

use crate::import::{
    excluded::MainTable,
    model::Draft,
    tree::{Node, Tree},
    values,
};

/// The routes to all destinations.
const DEFAULT: &str = "0.0.0.0/0";

/// Reads the static routes.
pub(in crate::import) fn read(draft: &Draft, tree: &Tree) -> MainTable {
    let Some(routes) = tree.root.at(&["protocols", "static"]) else {
        return MainTable::default();
    };
    let kinds = ["route", "route6", "interface-route", "interface-route6"];
    let all = kinds.iter().flat_map(|kind| routes.values(kind));
    let nets = all.filter_map(|node| node.word.parse::<ipnet::IpNet>().ok());
    let nets = nets.filter(|net| !values::is_whole_family(net)).collect();
    MainTable { uplink: uplink(draft, routes), routes: nets }
}

/// Returns the uplink of the default route: that of the least distance. Several with it share the
/// flows, and are none.
fn uplink(draft: &Draft, routes: &Node) -> Option<String> {
    let hops =
        ["route", "interface-route"].into_iter().filter_map(|kind| routes.at(&[kind, DEFAULT]));
    let hops: Vec<(u32, Option<String>)> = hops.flat_map(|route| ways(draft, route)).collect();
    let least = hops.iter().map(|(distance, _)| *distance).min()?;
    let mut best = hops.into_iter().filter(|(distance, _)| *distance == least).map(|(_, id)| id);
    let first = best.next()?;
    best.all(|other| other == first).then_some(first)?
}

/// Returns the ways of a route that are not disabled: their distances, and uplinks if they are known.
fn ways(draft: &Draft, route: &Node) -> Vec<(u32, Option<String>)> {
    let kinds = ["next-hop", "interface", "next-hop-interface", "dhcp-interface"];
    let nodes = kinds.into_iter().flat_map(|kind| {
        route.values(kind).into_iter().map(move |node| (kind == "next-hop", node))
    });
    let enabled = nodes.filter(|(_, node)| node.get("disable").is_none());
    enabled
        .map(|(by_router, node)| {
            let distance = node.value("distance").and_then(|(text, _)| text.parse().ok());
            let device = if by_router {
                node.value("interface").map(|(device, _)| device)
            } else {
                Some(&*node.word)
            };
            let quoted = values::quote(&node.word);
            let found = draft.uplinks.iter().find(|uplink| {
                let of_router = |one: &crate::import::model::Setting| {
                    by_router && one.key == "gateway" && one.value == quoted
                };
                device == Some(&uplink.id) || uplink.settings.iter().any(of_router)
            });
            (distance.unwrap_or(1), found.map(|uplink| uplink.id.clone()))
        })
        .collect()
}
