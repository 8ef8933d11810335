//! `[local]`: the traffic of this machine itself.

use toml::Spanned;

use super::{reader::Section, value};

/// Whether it is spread.
pub(super) fn read(root: &Section) -> bool {
    let section = root.section("local", "write the section [local] and in it balance = true");
    let balance =
        section.and_then(|local| local.knowing(&["balance"]).get("balance", value::boolean));
    balance.is_none_or(Spanned::into_inner)
}
