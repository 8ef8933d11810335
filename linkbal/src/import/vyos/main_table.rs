//! `protocols static`: the routes of the main table.

use crate::import::{
    excluded::MainTable,
    model::{Draft, LastResort},
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

/// The default route of a table.
pub(in crate::import) struct TableRoute {
    /// The uplinks, each with its distance.
    pub(in crate::import) ways: Vec<(u32, String)>,
    /// Set if some of its ways are by no uplink that is known.
    pub(in crate::import) partial: bool,
    pub(in crate::import) last_resort: LastResort,
}

/// Returns the default route of a table but the main one.
pub(in crate::import) fn of_table(draft: &Draft, root: &Node, table: &str) -> Option<TableRoute> {
    let table = root.at(&["protocols", "static", "table", table])?;
    let routes = ["route", "interface-route"].map(|kind| table.at(&[kind, DEFAULT]));
    let near = |hop: &str| {
        let hop = hop.parse::<std::net::IpAddr>().ok();
        let contains =
            |id: &str| address_of(root, id).zip(hop).is_some_and(|(net, hop)| net.contains(&hop));
        draft.uplinks.iter().find(|uplink| contains(&uplink.id)).map(|uplink| uplink.id.clone())
    };
    let mut found =
        TableRoute { ways: Vec::new(), partial: false, last_resort: LastResort::Balance };
    for route in routes.into_iter().flatten() {
        for (word, id, distance) in named_ways(draft, route) {
            match id.or_else(|| near(&word)) {
                Some(id) => found.ways.push((distance, id)),
                None => found.partial = true,
            }
        }
        for (kind, word) in [("blackhole", "drop"), ("unreachable", "reject"), ("reject", "reject")]
        {
            if let Some(node) = route.get(kind).filter(|node| node.get("disable").is_none()) {
                found.last_resort = LastResort::Said(word, node.lines());
            }
        }
    }
    (!found.ways.is_empty()).then_some(found)
}

/// Returns the network of an interface's own address.
fn address_of(root: &Node, device: &str) -> Option<ipnet::IpNet> {
    let device = root.values("interfaces").into_iter().find_map(|kind| kind.get(device))?;
    device.value("address")?.0.parse().ok()
}

/// Returns the ways of a route that are not disabled: their distances, and uplinks if they are known.
fn ways(draft: &Draft, route: &Node) -> Vec<(u32, Option<String>)> {
    named_ways(draft, route).into_iter().map(|(_, id, distance)| (distance, id)).collect()
}

/// Returns the same with the words that name the routers or devices.
fn named_ways(draft: &Draft, route: &Node) -> Vec<(String, Option<String>, u32)> {
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
            (node.word.clone(), found.map(|uplink| uplink.id.clone()), distance.unwrap_or(1))
        })
        .collect()
}
