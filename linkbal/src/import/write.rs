//! The output: TOML with the origin of each line, tried by the reader of configurations.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Translation,
    model::{Bond, Device, Draft, Setting, Settled, Uplink},
    note::{Lines, Note, NoteKind, quoted},
    tool::Tool,
    values::{is_device, list, quote},
};
use crate::{
    commented::{item, key, with_comment},
    config::Config,
};

/// Most attempts to leave out what the reader refuses.
const ATTEMPTS: usize = 64;

/// Lines that belong together.
#[derive(Default)]
struct Block {
    lines: Vec<OutputLine>,
    /// Set if one refused line takes the whole block with it.
    whole: bool,
}

/// A line of the output.
struct OutputLine {
    text: String,
    origin: Lines,
    /// Set if the configuration is one without it.
    removable: bool,
}

impl Block {
    fn fixed(&mut self, text: impl Into<String>) {
        self.lines.push(OutputLine {
            text: text.into(),
            origin: Lines::default(),
            removable: false,
        });
    }

    fn header(&mut self, text: &str, lines: &Lines) {
        let text = with_origin(text, lines, "");
        self.lines.push(OutputLine { text, origin: lines.clone(), removable: false });
    }

    fn setting(&mut self, prefix: &str, setting: &Setting) {
        let text = format!("{prefix}{} = {}", setting.key, setting.value);
        let text = with_origin(&text, &setting.lines, &setting.remark);
        self.lines.push(OutputLine { text, origin: setting.lines.clone(), removable: true });
    }
}

/// Returns a line of TOML with its origin in a comment.
fn with_origin(text: &str, lines: &Lines, remark: &str) -> String {
    let origin = if lines.is_empty() { String::new() } else { lines.to_string() };
    let comment = match (origin.is_empty(), remark.is_empty()) {
        (false, false) => format!("{origin}: {remark}"),
        (false, true) => origin,
        (true, _) => remark.to_owned(),
    };
    with_comment(text, &comment)
}

/// Writes a draft; `name` and `input` are the input's name and text.
pub(super) fn write(mut draft: Draft, kind: Tool, name: &str, input: &str) -> Translation {
    let mut blocks = vec![head(kind, name), lan(&mut draft)];
    blocks.extend(local(&mut draft));
    blocks.extend(draft.bonds.iter().map(bond));
    let settled = std::mem::take(&mut draft.settled);
    let uplinks = std::mem::take(&mut draft.uplinks);
    for one in &uplinks {
        blocks.push(uplink(one, &mut draft));
    }
    blocks.extend(probe(&draft));
    blocks.extend(exempt(&draft));
    blocks.extend(settled.iter().map(|one| rule(one, &mut draft)));
    let mut refused = Vec::new();
    for _ in 0..ATTEMPTS {
        if !leave_out_refused(&mut blocks, &mut refused) {
            break;
        }
    }
    draft.notes.extend(refused);
    let rules = blocks.iter().flat_map(|block| &block.lines);
    let rules = rules.filter(|line| line.text.starts_with("[[rule]]")).count();
    add_forgotten(&mut draft, &blocks);
    let notes = joined(draft.notes);
    let lines: Vec<&str> = input.lines().collect();
    let text = text_of(&blocks) + &comments(&notes, &lines);
    Translation { text, notes, uplinks: uplinks.len(), rules, removal: Vec::new() }
}

fn head(kind: Tool, name: &str) -> Block {
    let mut block = Block::default();
    let (name, tool) = (quoted(name), kind.tool());
    block.fixed(format!(
        "# Translated from {name}, a configuration of {tool}, whose lines are named"
    ));
    block.fixed("# behind each line. What could not be said is at the end, with the reason.");
    block
}

fn lan(draft: &mut Draft) -> Block {
    let taken = |name: &str| draft.uplinks.iter().any(|uplink| uplink.device.name() == Some(name));
    let (clash, lan): (Vec<Setting>, Vec<Setting>) =
        std::mem::take(&mut draft.lan).into_iter().partition(|one| taken(&one.value));
    for one in clash {
        let why = format!("{} is the device of an uplink, and no interface of the LAN", one.value);
        draft.untranslated(one.lines, why);
    }
    let (lan, odd): (Vec<Setting>, Vec<Setting>) =
        lan.into_iter().partition(|one| is_pattern_or_device(&one.value));
    for one in odd {
        draft.untranslated(one.lines, "no name of an interface of the LAN");
    }
    let mut block = Block::default();
    block.fixed("[lan]");
    if lan.is_empty() {
        block.fixed(
            "# interfaces = [\"br-lan\"]                  # FILL IN: where your network comes in",
        );
        let why = "[lan] interfaces: the input does not say by which interfaces your network comes in; \
                   until you write them only the gateway's own connections are balanced (`linkbal \
                   check --machine` names what looks like a LAN)";
        draft.note(NoteKind::FillIn, Lines::default(), why);
    } else {
        let lines = lan.iter().fold(Lines::default(), |lines, one| lines.and(&one.lines));
        let names: Vec<String> = lan.iter().map(|one| quote(&one.value)).collect();
        let setting = Setting::new("interfaces", list(&names), lines);
        let setting = setting.remark(lan.first().map_or("", |one| &one.remark));
        block.setting("", &setting);
    }
    draft.lan = lan;
    block
}

/// Returns whether a text can be the name of an interface, or a pattern of some.
fn is_pattern_or_device(text: &str) -> bool {
    let rest = text.replace('*', "");
    rest.len() < text.len() && rest.is_empty() || is_device(&rest)
}

fn local(draft: &mut Draft) -> Option<Block> {
    let setting = draft.local_off.clone()?;
    let mut block = Block::default();
    block.fixed("[local]");
    if draft.lan.is_empty() {
        // Without a LAN, nothing would be balanced at all.
        let why = "the gateway's own connections are balanced until [lan] is filled in: then write \
                   balance = false in [local]";
        draft.note(NoteKind::FillIn, setting.lines, why);
        block.fixed("# balance = false");
    } else {
        block.setting("", &setting);
    }
    Some(block)
}

fn bond(bond: &Bond) -> Block {
    let mut block = Block { whole: true, ..Block::default() };
    block.header(&format!("[bond.{}]", key(&bond.name)), &bond.lines);
    bond.settings.iter().for_each(|setting| block.setting("", setting));
    block
}

fn uplink(uplink: &Uplink, draft: &mut Draft) -> Block {
    let mut block = Block::default();
    block.header(&format!("[uplink.{}]", key(&uplink.name)), &uplink.lines);
    match &uplink.device {
        Device::Known(name, lines) => {
            let text = with_origin(&format!("interface = {}", quote(name)), lines, "");
            block.lines.push(OutputLine { text, origin: lines.clone(), removable: false });
        }
        Device::Guessed(name, lines) => {
            let text = format!("interface = {}", quote(name));
            block.fixed(with_origin(&text, lines, "LOOK AT IT: the device may have another name"));
            let why = format!(
                "[uplink.{}] interface: the input names a network, no device; write what `ip link` \
                 shows if that is not {name}",
                uplink.name
            );
            draft.note(NoteKind::FillIn, lines.clone(), why);
        }
        Device::Unknown => {
            block.fixed("# interface = \"eth0\"                       # FILL IN: the device");
            let why = format!(
                "[uplink.{}] interface: the input does not say the device; `linkbal check` asks for it",
                uplink.name
            );
            draft.note(NoteKind::FillIn, uplink.lines.clone(), why);
        }
    }
    uplink.settings.iter().for_each(|setting| block.setting("", setting));
    uplink.probe.iter().for_each(|setting| block.setting("probe.", setting));
    block
}

fn probe(draft: &Draft) -> Option<Block> {
    if draft.probe.is_empty() {
        return None;
    }
    let mut block = Block::default();
    block.fixed("[probe]");
    draft.probe.iter().for_each(|setting| block.setting("", setting));
    Some(block)
}

fn exempt(draft: &Draft) -> Option<Block> {
    if draft.exempt.is_empty() {
        return None;
    }
    let mut block = Block::default();
    block.fixed("[nat]");
    block.fixed("exempt = [");
    for entry in &draft.exempt {
        let text = with_origin(&format!("    {},", entry.value), &entry.lines, &entry.remark);
        block.lines.push(OutputLine { text, origin: entry.lines.clone(), removable: true });
    }
    block.fixed("]");
    Some(block)
}

fn rule(settled: &Settled, draft: &mut Draft) -> Block {
    let Settled { rule, settings } = settled;
    let mut block = Block { whole: true, ..Block::default() };
    let title = quoted(&rule.title);
    block.lines.push(OutputLine {
        text: with_origin("[[rule]]", &rule.lines, &title),
        origin: rule.lines.clone(),
        removable: true,
    });
    rule.matches.iter().for_each(|setting| block.setting("match.", setting));
    settings.iter().for_each(|setting| block.setting("", setting));
    rule.sticky.iter().for_each(|setting| block.setting("", setting));
    if !rule.broken.is_empty() {
        comment_out(&mut block);
        draft.untranslated(
            rule.lines.clone(),
            format!("the rule is a comment: {}", rule.broken.join("; ")),
        );
    }
    block
}

fn comment_out(block: &mut Block) {
    for line in &mut block.lines {
        if !line.text.starts_with('#') {
            line.text.insert_str(0, "# ");
        }
    }
}

/// Makes comments of lines that the reader of configurations refuses; returns whether there were any.
/// Values that it misses stay: they are to be filled in.
fn leave_out_refused(blocks: &mut [Block], notes: &mut Vec<Note>) -> bool {
    let Err(error) = Config::parse(&text_of(blocks), "") else { return false };
    let mut any = false;
    for problem in error.problems() {
        let Some(location) = &problem.location else { continue };
        let mut first = 1_usize;
        for block in blocks.iter_mut() {
            let after = first.saturating_add(block.lines.len());
            if (first..after).contains(&location.line) {
                let at = location.line.saturating_sub(first);
                any |= refuse(block, at, &problem.message, notes);
            }
            // One empty line is between two blocks.
            first = after.saturating_add(1);
        }
    }
    any
}

fn refuse(block: &mut Block, at: usize, message: &str, notes: &mut Vec<Note>) -> bool {
    let Some(line) = block.lines.get(at) else { return false };
    if line.text.starts_with('#') || !(line.removable || block.whole) {
        return false;
    }
    let lines = block.lines.iter().map(|line| &line.origin);
    let origin = match block.whole {
        true => lines.fold(Lines::default(), Lines::and),
        false => line.origin.clone(),
    };
    notes.push(Note {
        kind: NoteKind::Untranslated,
        lines: origin,
        why: format!("a comment here, since linkbal refuses it: {message}"),
    });
    if block.whole {
        comment_out(block);
    } else if let Some(line) = block.lines.get_mut(at) {
        line.text.insert_str(0, "# ");
    }
    true
}

fn text_of(blocks: &[Block]) -> String {
    let texts = blocks
        .iter()
        .map(|block| block.lines.iter().map(|line| format!("{}\n", line.text)).collect::<String>());
    texts.collect::<Vec<_>>().join("\n")
}

/// Notes significant lines of which neither the output nor a note speaks.
fn add_forgotten(draft: &mut Draft, blocks: &[Block]) {
    let written = blocks.iter().flat_map(|block| &block.lines).map(|line| &line.origin);
    let noted = draft.notes.iter().map(|note| &note.lines);
    let told: BTreeSet<usize> =
        written.chain(noted).chain(&draft.covered).flat_map(Lines::iter).collect();
    let forgotten: Lines = draft.significant.iter().filter(|line| !told.contains(line)).collect();
    if !forgotten.is_empty() {
        draft.untranslated(forgotten, "not understood");
    }
}

/// Returns the notes with equal ones as one, sorted by kind and line.
fn joined(notes: Vec<Note>) -> Vec<Note> {
    let mut equal: BTreeMap<(NoteKind, String), Lines> = BTreeMap::new();
    for note in notes {
        let lines = equal.entry((note.kind, note.why)).or_default();
        *lines = std::mem::take(lines).and(&note.lines);
    }
    let joined = equal.into_iter().map(|((kind, why), lines)| Note { kind, lines, why });
    let mut all: Vec<Note> = joined.collect();
    all.sort_by(|a, b| (a.kind, &a.lines, &a.why).cmp(&(b.kind, &b.lines, &b.why)));
    all
}

/// Returns the notes as comments.
fn comments(notes: &[Note], input: &[&str]) -> String {
    let mut text = String::new();
    for kind in NoteKind::ALL {
        let of_kind: Vec<&Note> = notes.iter().filter(|note| note.kind == kind).collect();
        if !of_kind.is_empty() {
            text.push_str(&format!("\n# {}:\n", kind.heading()));
        }
        for note in of_kind {
            text.push_str(&item(&note.show(input)));
        }
    }
    text
}
