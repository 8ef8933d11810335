//! `[local]`: local traffic.

use toml::Spanned;

use super::{reader::Section, value};

/// Reads whether local traffic is balanced.
pub(super) fn read(root: &Section) -> bool {
    let section = root.section("local", "write the section [local] and in it balance = true");
    let balance =
        section.and_then(|local| local.knowing(&["balance"]).get("balance", value::boolean));
    balance.is_none_or(Spanned::into_inner)
}
