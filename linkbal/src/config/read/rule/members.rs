//! `use`: the uplinks of a rule.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::RuleScope;
use crate::config::{
    Member,
    diagnostics::problem::Fault,
    keys,
    parse::{
        reader::{Section, names_help},
        value,
    },
};

const HELP: &str = "write an uplink like \"fiber\"; or [\"cable\", \"fiber\"] for the first one \
                    that is usable; or { fiber = 30, cable = 70 } for shares";

const EMPTY_HELP: &str = "name an uplink, or leave `use` out for all of them";

/// The three forms of `use`.
enum Form<'a> {
    One(&'a str),
    Ordered,
    Weighted(&'a DeTable<'a>),
}

/// Reads the uplinks that `rule` names; none if it names none.
pub(super) fn read(rule: &Section, names: &RuleScope) -> Vec<Member> {
    let Some(form) = rule.get(&keys::rule::USE, form) else { return Vec::new() };
    let span = form.span();
    match form.into_inner() {
        Form::One(name) => {
            check_name(rule, &Spanned::new(span, name), names);
            vec![member(name, 1, 1)]
        }
        Form::Ordered => read_ordered(rule, names),
        Form::Weighted(table) => {
            read_weighted(&rule.child("use", &Spanned::new(span, table)), rule, names)
        }
    }
}

fn form<'a>(value: &'a DeValue<'a>) -> Result<Form<'a>, Fault> {
    match value {
        DeValue::String(name) => Ok(Form::One(name)),
        DeValue::Array(list) if list.is_empty() => Err(Fault::new("the list is empty", EMPTY_HELP)),
        DeValue::Array(_) => Ok(Form::Ordered),
        DeValue::Table(group) if group.is_empty() => {
            Err(Fault::new("the group is empty", EMPTY_HELP))
        }
        DeValue::Table(group) => Ok(Form::Weighted(group)),
        _ => Err(value::wrong_type("an uplink", value, HELP)),
    }
}

fn member(uplink: &str, weight: u32, tier: u32) -> Member {
    Member { uplink: uplink.to_owned(), weight, tier }
}

/// Reads a list: each uplink is a tier of its own.
fn read_ordered(rule: &Section, names: &RuleScope) -> Vec<Member> {
    let Some(list) = rule.list(&keys::rule::USE, HELP, value::text) else { return Vec::new() };
    list.items.iter().for_each(|name| check_name(rule, name, names));
    rule.report_repeated(&keys::rule::USE, &list.items);
    (1..).zip(&list.items).map(|(tier, name)| member(name.get_ref(), 1, tier)).collect()
}

/// Reads a table of weights.
fn read_weighted(group: &Section, rule: &Section, names: &RuleScope) -> Vec<Member> {
    let read_entry = |name: &str, value| {
        let weight = group.read(name, value, value::integer(1..=10_000))?;
        Some(member(name, weight.into_inner(), 1))
    };
    let mut members = Vec::new();
    for (name, value) in group.entries() {
        check_name(rule, &Spanned::new(name.span(), name.get_ref()), names);
        members.extend(read_entry(name.get_ref(), value));
    }
    members
}

fn check_name(rule: &Section, name: &Spanned<&str>, names: &RuleScope) {
    let text = *name.get_ref();
    if names.uplinks.is_empty() || names.uplinks.contains(&text) {
        return;
    }
    let help = match text.contains(',') {
        true => HELP.into(),
        false => names_help(text, "the uplinks", &names.uplinks),
    };
    let fault = Fault::new(format!("there is no uplink {text:?}"), help);
    rule.report(&keys::rule::USE, name.span(), fault);
}
