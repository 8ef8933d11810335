//! Names of uplinks, and their number, as linkbal takes them.

use linkbal_common::uplink::MAX_UPLINKS;

use super::model::{Draft, Uplink};
use crate::commented::uplink_name;

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
        let name = uplink_name(&uplink.id, &taken);
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
    name_exempt(draft);
    renamed.into_iter().for_each(|(lines, why)| draft.changed(lines, why));
}

/// Names the uplinks of entries of `nat.exempt` as they are called here.
fn name_exempt(draft: &mut Draft) {
    for entry in &mut draft.exempt {
        let Some((said, uplinks)) = entry.value.split_once("uplink = ") else { continue };
        // Every second part is within quotes.
        let named = uplinks.split('"').enumerate().map(|(at, part)| {
            let of = draft.uplinks.iter().find(|uplink| at % 2 == 1 && uplink.id == part);
            of.map_or(part, |uplink| &uplink.name)
        });
        entry.value = format!("{said}uplink = {}", named.collect::<Vec<_>>().join("\""));
    }
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
