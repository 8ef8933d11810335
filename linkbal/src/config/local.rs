//! `[local]`: local traffic.

use toml::Spanned;

use super::keys;
use super::reader::Section;

/// Reads whether local traffic is balanced.
pub(super) fn read(root: &Section) -> bool {
    let section =
        root.section(&keys::root::LOCAL, "write the section [local] and in it balance = true");
    let balance =
        section.and_then(|local| local.knowing(&keys::local::KEYS).value(&keys::local::BALANCE));
    balance.is_none_or(Spanned::into_inner)
}
