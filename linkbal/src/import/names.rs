//! Names of uplinks, and their number, as linkbal takes them.

use linkbal_common::uplink::MAX_UPLINKS;

use super::model::{Draft, Uplink};

/// Longest name of an uplink, in bytes.
const NAME_LENGTH: usize = 32;

/// Gives each uplink a name that linkbal takes, and leaves out those beyond the last possible one.
pub(super) fn settle(draft: &mut Draft) {
    drop_twins(draft);
    while draft.uplinks.len() > MAX_UPLINKS {
        if let Some(extra) = draft.uplinks.pop() {
            let why =
                format!("linkbal has at most {MAX_UPLINKS} uplinks: {} is left out", extra.id);
            draft.untranslated(extra.lines, why);
        }
    }
    let mut taken: Vec<String> = Vec::new();
    let mut renamed = Vec::new();
    for uplink in &mut draft.uplinks {
        let name = unique(&possible(&uplink.id), &taken);
        if name != uplink.id {
            let why = format!(
                "the uplink {:?} is called {name} here: its name is not possible",
                uplink.id
            );
            renamed.push((uplink.lines.clone(), why));
        }
        taken.push(name.clone());
        uplink.name = name;
    }
    renamed.into_iter().for_each(|(lines, why)| draft.changed(lines, why));
}

/// Leaves out uplinks with the device and the gateway of an earlier one: no packet tells them apart.
fn drop_twins(draft: &mut Draft) {
    let mut kept: Vec<Uplink> = Vec::new();
    for uplink in std::mem::take(&mut draft.uplinks) {
        let device = uplink.device.name();
        let same = |other: &&Uplink| {
            device.is_some() && other.device.name() == device && gateway(other) == gateway(&uplink)
        };
        match kept.iter().find(same) {
            Some(first) => {
                let why = format!(
                    "{} is left out: it has the device and the gateway of {}",
                    uplink.id, first.id
                );
                draft.untranslated(uplink.lines, why);
            }
            None => kept.push(uplink),
        }
    }
    draft.uplinks = kept;
}

/// Returns the gateway as it is written.
fn gateway(uplink: &Uplink) -> &str {
    let written = uplink.settings.iter().rfind(|setting| setting.key == "gateway");
    written.map_or("\"auto\"", |setting| &setting.value)
}

/// Returns the name with everything but letters, digits, `-` and `_` replaced.
fn possible(id: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = id.chars().map(|c| if fits(c) { c } else { '-' });
    let name: String = name.take(NAME_LENGTH).collect();
    if name.is_empty() { "uplink".into() } else { name }
}

fn unique(name: &str, taken: &[String]) -> String {
    if !taken.iter().any(|known| known == name) {
        return name.to_owned();
    }
    let short: String = name.chars().take(NAME_LENGTH.saturating_sub(3)).collect();
    let numbered = (2..100).map(|number| format!("{short}-{number}"));
    numbered.into_iter().find(|name| !taken.contains(name)).unwrap_or(short)
}
