//! Numbers of tables, rules and marks that nobody else uses.

use std::collections::BTreeSet;

use super::facts::Facts;
use crate::{
    commented::with_comment,
    config::{Kernel, kernel_numbers::PRIORITIES},
    engine::kernel::{
        conflict::survey::MarkRule,
        network::{IpRule, PROTOCOL},
    },
};

/// Distance between two first tables that are tried.
const TABLE_STEP: u32 = 100;

/// Returns the lines of `[kernel]`; none if linkbal's own numbers are free.
pub(super) fn lines(facts: &Facts) -> Vec<String> {
    let rules = || facts.snapshot.rules.iter().filter(|rule| rule.protocol != PROTOCOL);
    let routes = facts.snapshot.routes.iter().filter(|route| route.protocol != PROTOCOL);
    let tables: BTreeSet<u32> =
        routes.map(|route| route.table).chain(rules().map(|rule| rule.table)).collect();
    let priorities: BTreeSet<u32> = rules().map(|rule| rule.priority).collect();
    let mut lines = Vec::new();
    let kernel = Kernel::default();
    let default = kernel.table_base;
    let are_free = |table_base: u32| {
        let kernel = Kernel { table_base, ..Kernel::default() };
        !tables.iter().any(|table| kernel.has_table(*table))
    };
    if let Some(free) = moved(are_free, default, TABLE_STEP) {
        let comment = format!("tables from {default} on are in use");
        lines.push(with_comment(&format!("table_base = {free}"), &comment));
    }
    let default = kernel.rule_priority;
    let are_free = |rule_priority: u32| {
        let kernel = Kernel { rule_priority, ..Kernel::default() };
        !priorities.iter().any(|priority| kernel.has_priority(*priority))
    };
    if let Some(free) = moved(are_free, default, PRIORITIES) {
        let comment = format!("ip rules from {default} on are in use");
        lines.push(with_comment(&format!("rule_priority = {free}"), &comment));
    }
    let used = rules().fold(0, |bits, rule| bits | bits_of(rule));
    let changed = facts.survey.marks.iter().flat_map(|change| &change.rules).map(changed_bits);
    let used = changed.fold(used, |all, bits| all | bits);
    let mask = kernel.fwmark_mask;
    let masks = [0xff00_0000_u32, 0x00ff_0000, 0x0000_ff00];
    if used & mask != 0
        && let Some(free) = masks.iter().find(|free| used & **free == 0)
    {
        let comment = format!("others use bits of {mask:#x}");
        lines.push(with_comment(&format!("fwmark_mask = {free:#010x}"), &comment));
    }
    if !lines.is_empty() {
        lines.insert(0, "[kernel]".into());
    }
    lines
}

/// Returns the bits of the mark that a rule shares with others: one that asks for the whole mark never
/// matches those of others.
fn bits_of(rule: &IpRule) -> u32 {
    rule.fwmark.map_or(0, |(_, mask)| if mask == u32::MAX { 0 } else { mask })
}

/// Returns the bits of the mark that a firewall rule of others uses: of one that sets the whole mark, those
/// of its value.
fn changed_bits(rule: &MarkRule) -> u32 {
    if rule.bits == u32::MAX { rule.value.unwrap_or_default() } else { rule.bits }
}

/// Returns another first number if those from `first` on are in use, and others are free.
fn moved(are_free: impl Fn(u32) -> bool, first: u32, step: u32) -> Option<u32> {
    if are_free(first) {
        return None;
    }
    let others = (1..20).map(|count: u32| first.saturating_sub(count.saturating_mul(step)));
    others.filter(|from| *from > 1000).find(|from| are_free(*from))
}
