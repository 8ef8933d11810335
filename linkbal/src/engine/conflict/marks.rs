//! nft rules of others that change linkbal's bits of the fwmark.

use super::{Conflict, products::owner, survey::Survey};
use crate::config::Config;

/// Named as a whole, by `products`.
const PRODUCT: &str = "Calico";

/// Chains with such rules, but for those of known products.
pub(super) fn find(config: &Config, survey: &Survey) -> Vec<Conflict> {
    let mask = config.kernel.fwmark_mask;
    let clashing = survey.marks.iter().filter(|change| change.bits & mask != 0);
    let unknown = clashing.filter(|change| owner(&change.chain) != PRODUCT);
    let each = unknown.map(|change| {
        let bits = change.bits & mask;
        Conflict {
            what: format!("nft chain {}", change.chain),
            who: owner(&change.chain),
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
