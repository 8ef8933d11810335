//! nft rules of others that change linkbal's bits of the fwmark.

use super::{
    Conflict,
    products::{CALICO, owner},
    survey::{MarkChange, Survey},
};
use crate::config::Config;

/// Chains with such rules, but for those of known products.
pub(super) fn find(config: &Config, survey: &Survey) -> Vec<Conflict> {
    let mask = config.kernel.fwmark_mask;
    let clashing = survey.marks.iter().filter(|change| change.bits & mask != 0);
    let unknown = clashing.filter(|change| owner(&change.chain) != Some(CALICO));
    let each = unknown.map(|change| {
        let bits = change.bits & mask;
        Conflict {
            what: format!("nft chain {}", change.chain),
            who: who(change),
            meaning: format!(
                "it sets bits {bits:#x} of the {} that are linkbal's ({mask:#x}): flows leave by \
                 another uplink than they were given",
                if change.of_connection { "connection mark" } else { "fwmark" }
            ),
            advice: format!(
                "let it keep these bits (`mark set mark & {mask:#x} | VALUE`), or set \
                 kernel.fwmark_mask to bits that nobody uses"
            ),
            compatible: false,
        }
    });
    each.collect()
}

fn who(change: &MarkChange) -> String {
    let by = change.by.as_ref().map(ToString::to_string);
    let known = owner(&change.chain).map(str::to_owned).or(by);
    known.unwrap_or_else(|| "the kernel does not say who made it".into())
}
