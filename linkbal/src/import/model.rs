//! The common form of all dialects: uplinks, policies, rules and notes, with the lines they come from.

use super::note::{Lines, Note, NoteKind};
use crate::removal::Step;

/// A value of a key, as TOML.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) key: String,
    /// The value as it is written in TOML.
    pub(super) value: String,
    pub(super) lines: Lines,
    /// A remark behind the line's origin; empty for most.
    pub(super) remark: String,
}

impl Setting {
    pub(super) fn new(key: &str, value: String, lines: impl Into<Lines>) -> Setting {
        Setting { key: key.into(), value, lines: lines.into(), remark: String::new() }
    }

    pub(super) fn remark(self, remark: &str) -> Setting {
        Setting { remark: remark.into(), ..self }
    }
}

/// The device of an uplink.
#[derive(Clone, Debug)]
pub(super) enum Device {
    /// A device that the input names.
    Known(String, Lines),
    /// A name that may be that of a device; it is to be looked at.
    Guessed(String, Lines),
    /// Nothing: the key is left out, which `linkbal check` reports.
    Unknown,
}

impl Device {
    /// Returns the name, if there is one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Device::Known(name, _) | Device::Guessed(name, _) => Some(name),
            Device::Unknown => None,
        }
    }
}

/// An uplink.
#[derive(Clone, Debug)]
pub(super) struct Uplink {
    /// Name in the input, by which members refer to it.
    pub(super) id: String,
    /// Name in the output.
    pub(super) name: String,
    pub(super) lines: Lines,
    pub(super) device: Device,
    /// Keys of its section but `interface`.
    pub(super) settings: Vec<Setting>,
    /// Keys of its `probe`.
    pub(super) probe: Vec<Setting>,
}

impl Uplink {
    pub(super) fn new(id: &str, lines: impl Into<Lines>, device: Device) -> Uplink {
        Uplink {
            id: id.into(),
            name: id.into(),
            lines: lines.into(),
            device,
            settings: Vec::new(),
            probe: Vec::new(),
        }
    }
}

/// A bond.
#[derive(Clone, Debug, Default)]
pub(super) struct Bond {
    pub(super) name: String,
    pub(super) lines: Lines,
    pub(super) settings: Vec<Setting>,
}

/// An uplink within a policy.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The uplink's `id`.
    pub(super) uplink: String,
    /// Lower tiers come first; any number.
    pub(super) tier: u32,
    pub(super) weight: u32,
    pub(super) lines: Lines,
}

/// Treatment of flows while no member of a policy is usable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum LastResort {
    /// The other uplinks, or the main table.
    #[default]
    Balance,
    /// Refused or dropped, as the input says: the word of `otherwise`.
    Said(&'static str, Lines),
    /// Refused, as the tool does unless told otherwise.
    Implied(&'static str),
}

/// The uplinks of flows.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    pub(super) members: Vec<Member>,
    pub(super) last_resort: LastResort,
    pub(super) lines: Lines,
}

/// A rule: which flows use which uplinks.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    /// Purpose, in a comment.
    pub(super) title: String,
    pub(super) lines: Lines,
    /// Keys of `match`.
    pub(super) matches: Vec<Setting>,
    /// `None`: all uplinks.
    pub(super) policy: Option<Policy>,
    /// The value of `sticky`.
    pub(super) sticky: Option<Setting>,
    /// Reasons for which it can only be a comment: parts that cannot be said.
    pub(super) broken: Vec<String>,
}

impl Rule {
    /// Returns its own lines, without those of its policy.
    pub(super) fn own_lines(&self) -> Lines {
        let settings = self.matches.iter().chain(&self.sticky);
        settings.fold(self.lines.clone(), |lines, one| lines.and(&one.lines))
    }

    /// Returns all lines that it is made of.
    pub(super) fn all_lines(&self) -> Lines {
        let lines = self.own_lines();
        let Some(policy) = &self.policy else { return lines };
        let members = policy.members.iter();
        members.fold(lines.and(&policy.lines), |lines, member| lines.and(&member.lines))
    }
}

/// A choice of uplinks, settled.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    pub(super) rule: Rule,
    /// `use` and `otherwise`.
    pub(super) settings: Vec<Setting>,
}

/// A configuration as far as it is read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Interfaces of the LAN; `value` is a name.
    pub(super) lan: Vec<Setting>,
    /// The value `false` of `local.balance`, if the gateway's own traffic is not balanced.
    pub(super) local_off: Option<Setting>,
    pub(super) bonds: Vec<Bond>,
    pub(super) uplinks: Vec<Uplink>,
    /// Keys of `[probe]`.
    pub(super) probe: Vec<Setting>,
    /// In the order of the tool.
    pub(super) rules: Vec<Rule>,
    /// The shares of flows without a rule, if they are known other than by a rule.
    pub(super) default: Option<Policy>,
    /// Entries of `nat.exempt`, as inline tables.
    pub(super) exempt: Vec<Setting>,
    /// Rules as they are written; made of `rules`.
    pub(super) settled: Vec<Settled>,
    pub(super) notes: Vec<Note>,
    /// Lines that need no note: they say what the output says, or what is so without them.
    pub(super) covered: Vec<Lines>,
    /// Lines that say something.
    pub(super) significant: Lines,
    /// Steps that take away what is translated, as far as the input says them.
    pub(super) removal: Vec<Step>,
}

impl Draft {
    pub(super) fn note(&mut self, kind: NoteKind, lines: impl Into<Lines>, why: impl Into<String>) {
        self.notes.push(Note { kind, lines: lines.into(), why: why.into() });
    }

    pub(super) fn untranslated(&mut self, lines: impl Into<Lines>, why: impl Into<String>) {
        self.note(NoteKind::Untranslated, lines, why);
    }

    pub(super) fn changed(&mut self, lines: impl Into<Lines>, why: impl Into<String>) {
        self.note(NoteKind::Changed, lines, why);
    }

    pub(super) fn unneeded(&mut self, lines: impl Into<Lines>, why: impl Into<String>) {
        self.note(NoteKind::Unneeded, lines, why);
    }

    pub(super) fn cover(&mut self, lines: impl Into<Lines>) {
        self.covered.push(lines.into());
    }

    /// Adds an entry of `nat.exempt` once, up to the most that linkbal takes.
    pub(super) fn add_exempt(&mut self, entry: Setting) {
        const MAX_EXEMPT: usize = 64;
        if self.exempt.iter().any(|known| known.value == entry.value) {
            self.cover(entry.lines);
        } else if self.exempt.len() >= MAX_EXEMPT {
            let why = format!("nat.exempt has at most {MAX_EXEMPT} entries");
            self.untranslated(entry.lines, why);
        } else {
            self.exempt.push(entry);
        }
    }

    /// Adds an interface of the LAN once.
    pub(super) fn add_lan(&mut self, name: &str, lines: impl Into<Lines>) {
        let lines = lines.into();
        match self.lan.iter_mut().find(|known| known.value == name) {
            Some(known) => known.lines = known.lines.clone().and(&lines),
            None => self.lan.push(Setting::new("interfaces", name.into(), lines)),
        }
    }

    pub(super) fn uplink(&self, id: &str) -> Option<&Uplink> {
        self.uplinks.iter().find(|uplink| uplink.id == id)
    }
}
