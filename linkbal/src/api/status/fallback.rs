//! Fall back of new flows to a tier that is not the best one.

use linkbal_common::uplink::{Family, UpMask};

use super::{Fallback, Missing, Unused};
use crate::engine::{
    admin::AdminState,
    health::{Health, State},
    uplinks::{UplinkState, Uplinks},
};

/// Returns the tiers that new flows without a rule fall back to; `avoided` are the uplinks that they
/// avoid. Families that fall back in the same way are named together.
pub(super) fn fallbacks(uplinks: &Uplinks, avoided: UpMask) -> Vec<Fallback> {
    let mut fallbacks: Vec<Fallback> = Vec::new();
    for family in Family::ALL {
        let each = uplinks.iter().filter_map(|uplink| Candidate::new(uplink, family, avoided));
        let Some(mut found) = fallback(each.collect()) else { continue };
        let same = fallbacks
            .iter_mut()
            .find(|other| (other.tier, &other.instead_of) == (found.tier, &found.instead_of));
        match same {
            Some(other) => other.families.push(family.name().into()),
            None => {
                found.families.push(family.name().into());
                fallbacks.push(found);
            }
        }
    }
    fallbacks
}

/// An uplink in one family.
#[derive(Clone, Debug)]
struct Candidate {
    name: String,
    tier: u32,
    /// Reason for which new flows do not use it.
    obstacle: Option<Unused>,
    /// Set if they would, if there were no other one.
    is_up: bool,
}

impl Candidate {
    /// Returns an uplink as new flows of a family see it; `None` if it has none of them.
    fn new(uplink: &UplinkState, family: Family, avoided: UpMask) -> Option<Candidate> {
        let state = uplink.family(family).map(Health::state)?;
        let obstacle = match state {
            State::Up if !avoided.contains(uplink.index, family) => None,
            State::Up if uplink.admin == AdminState::Drained => Some(Unused::Draining),
            State::Up => Some(Unused::Avoided),
            other => Some(Unused::NotUp(other)),
        };
        let (name, tier) = (uplink.config.name.clone(), uplink.config.tier);
        Some(Candidate { name, tier, obstacle, is_up: state == State::Up })
    }
}

/// Returns the fall back among uplinks; `None` if the best tier serves.
fn fallback(mut uplinks: Vec<Candidate>) -> Option<Fallback> {
    uplinks.sort_by(|a, b| (a.tier, &a.name).cmp(&(b.tier, &b.name)));
    let best = uplinks.first()?.tier;
    let chosen = uplinks.iter().find(|uplink| uplink.obstacle.is_none());
    // With nothing better, flows use what they would rather avoid.
    let chosen = chosen.or_else(|| uplinks.iter().find(|uplink| uplink.is_up));
    let tier = chosen.map(|uplink| uplink.tier);
    if tier == Some(best) {
        return None;
    }
    let missing = uplinks.iter().take_while(|uplink| tier.is_none_or(|tier| uplink.tier < tier));
    let missing = missing.filter_map(|uplink| {
        Some(Missing { uplink: uplink.name.clone(), tier: uplink.tier, state: uplink.obstacle? })
    });
    Some(Fallback { families: Vec::new(), tier, instead_of: missing.collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOWN: Unused = Unused::NotUp(State::Down);

    fn uplink(name: &str, tier: u32, obstacle: Option<Unused>) -> Candidate {
        let is_up = matches!(obstacle, None | Some(Unused::Draining | Unused::Avoided));
        Candidate { name: name.into(), tier, obstacle, is_up }
    }

    fn missing(name: &str, tier: u32, state: Unused) -> Missing {
        Missing { uplink: name.into(), tier, state }
    }

    #[test]
    fn a_better_tier_without_a_usable_uplink_is_named() {
        let lte = uplink("lte", 2, None);
        let both =
            vec![uplink("b", 1, Some(Unused::Draining)), uplink("a", 1, Some(DOWN)), lte.clone()];
        let found = fallback(both).expect("a fall back");
        assert_eq!(found.tier, Some(2));
        assert_eq!(found.instead_of, [missing("a", 1, DOWN), missing("b", 1, Unused::Draining)]);
        assert_eq!(fallback(vec![uplink("a", 1, Some(DOWN)), uplink("b", 1, None), lte]), None);
        assert_eq!(fallback(Vec::new()), None);
    }

    #[test]
    fn an_uplink_that_is_avoided_is_used_if_all_others_are_down() {
        let [a, lte] = [uplink("a", 1, Some(Unused::Avoided)), uplink("lte", 2, Some(DOWN))];
        assert_eq!(fallback(vec![a.clone(), lte]), None);
        let found = fallback(vec![a, uplink("lte", 2, None)]).expect("a fall back");
        assert_eq!((found.tier, found.instead_of.len()), (Some(2), 1));
    }

    #[test]
    fn with_all_down_there_is_no_tier() {
        let found = fallback(vec![uplink("a", 1, Some(DOWN))]).expect("a fall back");
        assert_eq!((found.tier, found.instead_of), (None, vec![missing("a", 1, DOWN)]));
    }

    proptest! {
        #[test]
        fn the_tier_in_use_is_the_best_one_with_a_usable_uplink(
            all in prop::collection::vec((1u32..4, 0usize..4), 1..8),
        ) {
            let states = [None, Some(DOWN), Some(Unused::Draining), Some(Unused::Avoided)];
            let uplinks: Vec<Candidate> =
                all.iter().map(|(tier, state)| uplink("x", *tier, states[*state])).collect();
            let usable = |wanted: usize| all.iter().filter(|(_, state)| *state == wanted).map(|(tier, _)| *tier).min();
            let used = usable(0).or(usable(2).into_iter().chain(usable(3)).min());
            let best = all.iter().map(|(tier, _)| *tier).min();
            match fallback(uplinks) {
                None => prop_assert_eq!(used, best),
                Some(found) => {
                    prop_assert!(used != best && found.tier == used);
                    prop_assert!(found.instead_of.iter().all(|missing| used.is_none_or(|used| missing.tier < used)));
                }
            }
        }
    }
}
