//! `[local]`: local traffic.

use toml::Spanned;

use crate::config::{keys, parse::reader::Section};

/// Reads whether local traffic is balanced.
pub(in crate::config) fn read(root: &Section) -> bool {
    let section =
        root.section(&keys::root::LOCAL, "write the section [local] and in it balance = true");
    let balance =
        section.and_then(|local| local.knowing(&keys::local::KEYS).value(&keys::local::BALANCE));
    balance.is_none_or(Spanned::into_inner)
}
