//! Marks by chance, `-m statistic`: the shares of the marks that flows get.
//!
//! Marks with the same other conditions that follow one another are a run. What reaches its end has one
//! mark or none, each with a known share, unless counters of several rules depend on one another.

use std::collections::BTreeMap;

use super::Marked;
use crate::import::{
    model::{Draft, LastResort, Member, Policy, Rule},
    note::{Lines, NoteKind},
    script::{
        chains::Effect,
        chance::Chance,
        conditions::MarkState,
        facts::{Facts, IpRule},
        ip_rule, iptables,
        shares::{self, policy_of},
    },
};

/// Shares that are equal up to this are the same.
const TOLERANCE: f64 = 0.005;

/// Says what to do if shares are not known.
const FILL_IN: &str = "weight: the script shares flows by `-m statistic`, in a way that cannot be worked \
                       out here: write the `weight` of each uplink, or a [[rule]] with `use`";

/// Says what to do if those of some flows are not known.
const FILL_IN_RULE: &str = "use: the script shares these flows by `-m statistic`, in a way that cannot be \
                            worked out here: write the weights of a [[rule]]";

/// Says why marks by chance are comments.
const UNKNOWN: &str = "the shares of `-m statistic` cannot be worked out here";

/// The shares of the marks of a run; those without one have the mark 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    /// The marks that later rules may replace.
    live: BTreeMap<u32, f64>,
    /// The marks of what has left the chain.
    done: BTreeMap<u32, f64>,
    /// The counters that all packets of the run reach: how many there are for one, and their places.
    counters: Vec<(u32, u32)>,
    /// The rule by whose chance the last mark was set.
    drawn: Option<(Option<*const String>, u32, f64)>,
}

impl Shares {
    fn new() -> Shares {
        Shares { live: BTreeMap::from([(0, 1.0)]), ..Shares::default() }
    }

    /// Returns all that have no mark.
    pub(super) fn rest(&self) -> f64 {
        self.live.get(&0).copied().unwrap_or_default()
    }

    /// Returns whether some flows have no mark.
    pub(super) fn is_partial(&self) -> bool {
        self.rest() > TOLERANCE
    }

    /// Returns whether all marked packets have left the chain.
    pub(super) fn is_done(&self) -> bool {
        self.live.iter().all(|(mark, share)| *mark == 0 || *share < TOLERANCE)
    }

    /// Returns whether some of the marked packets have left the chain.
    pub(super) fn is_mixed(&self) -> bool {
        !self.is_done() && !self.done.is_empty()
    }

    /// Gives the flows without a mark one.
    pub(super) fn fill(&mut self, mark: u32) {
        let rest = self.live.remove(&0).unwrap_or_default();
        *self.live.entry(mark).or_default() += rest;
    }

    /// Returns the shares with those of `other` in the place of flows without a mark.
    pub(super) fn over(&self, other: &Shares) -> Shares {
        let mut all = self.clone();
        let rest = all.live.remove(&0).unwrap_or_default();
        for (mark, share) in other.marks() {
            *all.live.entry(mark).or_default() += rest * share;
        }
        all
    }

    /// Returns the shares of a mark that all flows get.
    pub(super) fn of_one(mark: u32) -> Shares {
        Shares { live: BTreeMap::from([(mark, 1.0)]), ..Shares::default() }
    }

    /// Returns the marks with their shares.
    pub(super) fn marks(&self) -> Vec<(u32, f64)> {
        let mut all = self.live.clone();
        for (mark, share) in &self.done {
            *all.entry(*mark).or_default() += share;
        }
        all.into_iter().filter(|(_, share)| *share > 1e-9).collect()
    }

    /// Takes a rule; returns whether it could be worked out.
    fn take(&mut self, one: &Marked) -> bool {
        match (one.effect, one.state.chance) {
            (Effect::Mark(mark), chance) => self.mark(mark, chance, one),
            (Effect::End, Some(_)) => self.end_of_draw(one),
            (Effect::End, None) => {
                let rest = self.rest();
                for (mark, share) in std::mem::take(&mut self.live) {
                    if mark != 0 {
                        *self.done.entry(mark).or_default() += share;
                    }
                }
                self.live.insert(0, rest);
                self.counters.clear();
                true
            }
        }
    }

    fn mark(&mut self, mark: u32, chance: Option<Chance>, one: &Marked) -> bool {
        if chance == Some(Chance::Unknown) {
            return false;
        }
        let part = chance.map_or(1.0, Chance::part);
        if let Some((draw, before, share)) = self.drawn.filter(|_| one.draw.is_some())
            && draw == one.draw
        {
            // A second mark of the same packets.
            *self.live.entry(before).or_default() -= share;
            *self.live.entry(mark).or_default() += share;
            self.drawn = Some((draw, mark, share));
            return true;
        }
        let marked = self.live.iter().any(|(mark, share)| *mark != 0 && *share > TOLERANCE);
        let rest = self.rest();
        let share = match chance {
            _ if one.state.unmarked => {
                *self.live.entry(0).or_default() -= rest * part;
                rest * part
            }
            Some(Chance::Nth { every, packet }) if marked && !self.counters.is_empty() => {
                let same = |(other, place): &(u32, u32)| *other == every && *place != packet;
                if !self.counters.iter().all(same) {
                    return false;
                }
                // Each takes packets that the others do not.
                self.counters.push((every, packet));
                *self.live.entry(0).or_default() -= part;
                part
            }
            _ => {
                if let Some(Chance::Nth { every, packet }) = chance {
                    self.counters.push((every, packet));
                } else {
                    self.counters.clear();
                }
                let all: f64 = self.live.values().sum();
                self.live.values_mut().for_each(|share| *share *= 1.0 - part);
                all * part
            }
        };
        *self.live.entry(mark).or_default() += share;
        self.drawn = Some((one.draw, mark, share));
        self.live.values().all(|share| *share > -TOLERANCE)
    }

    /// Lets what the last rule marked by chance leave the chain.
    fn end_of_draw(&mut self, one: &Marked) -> bool {
        let Some((draw, mark, share)) = self.drawn.take() else { return false };
        if draw.is_none() || draw != one.draw {
            return false;
        }
        *self.live.entry(mark).or_default() -= share;
        *self.done.entry(mark).or_default() += share;
        self.counters.clear();
        true
    }
}

/// Puts runs of marks with a chance together, each as one with shares. Those that cannot be worked out
/// are comments.
pub(super) fn together(draft: &mut Draft, mut list: Vec<Marked>) -> Vec<Marked> {
    let mut out: Vec<Marked> = Vec::new();
    while let Some(at) = list.iter().position(|one| one.state.chance.is_some()) {
        let (from, to) = ends(&list, at);
        let behind = list.split_off(to);
        let run = list.split_off(from);
        out.append(&mut list);
        list = behind;
        let alone = out.iter().all(|one| one.effect == Effect::End);
        let last = list.iter().all(|one| one.effect == Effect::End);
        out.extend(one_of(draft, run, alone, last));
    }
    out.append(&mut list);
    out
}

/// Returns the first place of the run around a mark with a chance, and the one behind it.
fn ends(list: &[Marked], at: usize) -> (usize, usize) {
    let Some(first) = list.get(at) else { return (at, at) };
    let mark = |one: &Marked| matches!(one.effect, Effect::Mark(_)) && fits(one, first);
    let before = list.iter().take(at).rev().take_while(|one| mark(one)).count();
    let mut to = at.saturating_add(1);
    for (place, one) in list.iter().enumerate().skip(to) {
        let drawn = one.effect == Effect::End && one.state.chance.is_some() && fits(one, first);
        let freed = one.effect == Effect::End
            && one.state.marked
            && one.rule.broken.is_empty()
            && (one.rule.matches.is_empty() || one.has_conditions_of(first));
        if mark(one) || drawn {
            to = place.saturating_add(1);
        } else if !freed {
            break;
        }
    }
    (at.saturating_sub(before), to)
}

fn fits(one: &Marked, other: &Marked) -> bool {
    one.rule.broken.is_empty() && one.has_conditions_of(other)
}

/// Returns the rules that stand for a run: one with shares, or all of them as comments. `alone` says that
/// no mark comes before it, and `last` that none comes behind it.
fn one_of(draft: &mut Draft, run: Vec<Marked>, alone: bool, last: bool) -> Vec<Marked> {
    let mut shares = Shares::new();
    let marks = || run.iter().filter(|one| matches!(one.effect, Effect::Mark(_)));
    let unmarked = marks().filter(|one| one.state.unmarked).count();
    let first = marks().next().is_some_and(|one| one.state.unmarked);
    // What has no mark within the run may have an earlier one.
    let clear = unmarked == 0 || unmarked == marks().count() || alone;
    let sound = run.iter().all(|one| one.rule.broken.is_empty());
    let worked = clear && sound && run.iter().all(|one| shares.take(one));
    let worked = worked && (last || !shares.is_mixed());
    if !worked {
        return run.into_iter().map(|one| give_up(draft, one)).collect();
    }
    let lines = run.iter().fold(Lines::default(), |lines, one| lines.and(&one.rule.lines));
    let mut run = run.into_iter();
    let Some(mut one) = run.next() else { return Vec::new() };
    one.rule.lines = lines.clone();
    one.rule.matches.iter_mut().for_each(|setting| setting.lines = lines.clone());
    one.rule.title = "shares of -m statistic".into();
    one.state = MarkState { unmarked: first, ..MarkState::default() };
    one.effect = Effect::Mark(shares.marks().last().map_or(0, |(mark, _)| *mark));
    one.shares = Some(shares);
    vec![one]
}

/// Makes a comment of a rule whose share is not known, and asks for the shares.
pub(super) fn give_up(draft: &mut Draft, mut one: Marked) -> Marked {
    let said = if takes_all(&one.rule) { FILL_IN } else { FILL_IN_RULE };
    draft.note(NoteKind::FillIn, one.rule.lines.clone(), said);
    one.rule.broken.push(UNKNOWN.into());
    one.state.chance = None;
    one
}

/// Returns whether a rule takes all flows, at least those of an interface or a protocol.
fn takes_all(rule: &Rule) -> bool {
    let whole = ["\"0.0.0.0/0\"", "\"::/0\""];
    rule.matches
        .iter()
        .all(|one| matches!(&*one.key, "interface" | "protocol") || whole.contains(&&*one.value))
}

/// Returns whether shares of all flows are to be filled in.
pub(in crate::import::script) fn is_unknown(draft: &Draft) -> bool {
    draft.notes.iter().any(|note| note.why == FILL_IN || note.why == iptables::FILL_IN_HASH)
}

/// Returns the uplinks of a rule with shares.
///
/// # Errors
/// The reason why they are not known.
pub(super) fn policy(
    facts: &Facts,
    ordered: &[&IpRule],
    shares: &Shares,
    ipv6: bool,
    lines: &Lines,
) -> Result<Policy, String> {
    // What has no mark goes on to the ip rules behind.
    let behind = ordered.iter().skip_while(|ip| ip.fwmark.is_none());
    let mut plain = behind.filter(|ip| ip.fwmark.is_none() && !ip.table.is_empty());
    if shares.is_partial() && plain.any(|ip| !ip_rule::is_for_own(facts, ip)) {
        return Err("ip rules behind those of the marks take some of the other flows".into());
    }
    let leading = |mark: u32| ordered.iter().find(|ip| mark != 0 && ip.leads(mark)).copied();
    let mut parts: BTreeMap<String, f64> = BTreeMap::new();
    let mut from = lines.clone();
    for (mark, share) in shares.marks() {
        let ip = leading(mark);
        let members = members(facts, ip, mark, ipv6)?;
        from = ip.map_or(from.clone(), |ip| from.and(&ip.lines));
        let first = members.iter().map(|member| member.tier).min().unwrap_or(1);
        let members: Vec<&Member> = members.iter().filter(|member| member.tier == first).collect();
        let whole: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
        for member in members {
            let part = share * f64::from(member.weight) / whole.max(1.0);
            *parts.entry(member.uplink.clone()).or_default() += part;
            from = from.and(&member.lines);
        }
    }
    let weights = weights(&parts.values().copied().collect::<Vec<_>>());
    let members = parts.into_keys().zip(weights).filter(|(_, weight)| *weight > 0);
    let members =
        members.map(|(uplink, weight)| Member { uplink, tier: 1, weight, lines: Lines::default() });
    // Each table has one of its own there, and all of them together here.
    let tables = shares.marks().into_iter().filter_map(|(mark, _)| leading(mark));
    let mut resorts = tables.map(|ip| shares::last_resort(facts, &ip.table, ipv6));
    let last_resort = resorts.find(|one| *one != LastResort::Balance).unwrap_or_default();
    Ok(Policy { members: members.collect(), last_resort, lines: from })
}

/// Returns the uplinks that a mark leads to: those of the main table without one.
fn members(
    facts: &Facts,
    leading: Option<&IpRule>,
    mark: u32,
    ipv6: bool,
) -> Result<Vec<Member>, String> {
    let members = match leading {
        Some(ip) if !ip.words.is_empty() || !ip.broken.is_empty() => {
            return Err(format!("the ip rule of the mark {mark} has other conditions"));
        }
        Some(ip) => policy_of(facts, ip)?.map(|policy| policy.members),
        None => None,
    };
    let members = members.unwrap_or_else(|| shares::of_table(facts, "", ipv6));
    if members.is_empty() {
        return Err(format!("the uplinks of the mark {mark} are not known"));
    }
    Ok(members)
}

/// Returns whole numbers in the ratio of parts of 1, as small ones as possible.
fn weights(parts: &[f64]) -> Vec<u32> {
    let nearest = |part: f64, whole: u32| {
        (0..=whole).find(|number| f64::from(*number) >= part * f64::from(whole) - 0.5)
    };
    let of = |whole: u32| -> Vec<u32> {
        parts.iter().map(|part| nearest(*part, whole).unwrap_or(whole)).collect()
    };
    let fits = |whole: u32, tolerance: f64| {
        of(whole).iter().zip(parts).all(|(number, part)| {
            let wanted = part * f64::from(whole);
            (f64::from(*number) - wanted).abs() <= tolerance * f64::from(whole)
        })
    };
    // Probabilities as 0.33 stand for thirds.
    let exact = (1..=20).find(|whole| fits(*whole, 1e-4));
    of(exact.or_else(|| (1..=12).find(|whole| fits(*whole, TOLERANCE))).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_small_numbers() {
        assert_eq!(weights(&[0.5, 0.5]), [1, 1]);
        assert_eq!(weights(&[0.33, 0.335, 0.335]), [1, 1, 1]);
        assert_eq!(weights(&[0.7, 0.3]), [7, 3]);
        assert_eq!(weights(&[0.15, 0.85]), [3, 17]);
        assert_eq!(weights(&[0.51, 0.49]), [51, 49]);
        assert_eq!(weights(&[1.0]), [1]);
    }
}
