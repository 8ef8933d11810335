//! The text of a proposal.

use super::model::{Proposal, Uplink};
use crate::commented::{item, key, list, paragraph, quote, with_comment};

/// Returns the configuration.
pub(super) fn text(proposal: &Proposal) -> String {
    let mut blocks = vec![head(proposal), lan(proposal)];
    if proposal.uplinks.is_empty() {
        blocks.push(no_uplink());
    }
    blocks.extend(proposal.uplinks.iter().map(uplink));
    if let [_] = proposal.uplinks[..] {
        blocks.push(second_uplink());
    }
    if !proposal.kernel.is_empty() {
        blocks.push(proposal.kernel.join("\n") + "\n");
    }
    blocks.join("\n")
}

fn head(proposal: &Proposal) -> String {
    let host = match proposal.host.is_empty() {
        true => String::new(),
        false => format!(" for {}", proposal.host),
    };
    let mut text = paragraph(&format!(
        "Proposed by `linkbal init`{host}: the comments say which fact each value comes from. `linkbal \
         example` prints all keys, `linkbal check --explain KEY` explains one."
    ));
    if !proposal.machine.is_empty() {
        text.push_str("#\n# This machine:\n");
        proposal.machine.iter().for_each(|sentence| text.push_str(&item(sentence)));
    }
    text
}

fn lan(proposal: &Proposal) -> String {
    let mut text = String::new();
    if proposal.lan.is_empty() {
        text.push_str(&paragraph(
            "Nothing here looks like a LAN: an interface that is up, with a private address and without a \
             default route. Then the connections of this machine alone are balanced. For a gateway, write \
             where your machines come in, and remove the #:",
        ));
        text.push_str("# [lan]\n# interfaces = [\"br-lan\"]\n");
    } else {
        let names: Vec<String> = proposal.lan.iter().map(|(name, _)| quote(name)).collect();
        let about: Vec<String> = match &proposal.lan[..] {
            [(_, about)] => vec![about.clone()],
            several => several.iter().map(|(name, about)| format!("{name}: {about}")).collect(),
        };
        let comment = format!("{}; no default route", about.join(", "));
        text.push_str("[lan]\n");
        text.push_str(&line(&format!("interfaces = {}", list(&names)), &comment));
    }
    if !proposal.left_out.is_empty() {
        text.push_str("# Neither LAN nor uplink:\n");
        for (name, why) in &proposal.left_out {
            text.push_str(&item(&format!("{name}: {why}")));
        }
    }
    text
}

/// Longest line on which a comment still stands behind its value.
const WIDTH: usize = 98;

/// Returns a line with its comment, which stands above it if it is long.
fn line(text: &str, comment: &str) -> String {
    let whole = with_comment(text, comment);
    match whole.chars().count() > WIDTH {
        true => format!("{}{text}\n", paragraph(comment)),
        false => whole + "\n",
    }
}

fn uplink(uplink: &Uplink) -> String {
    let mut text = format!("[uplink.{}]\n", key(&uplink.name));
    text.push_str(&line(&format!("interface = {}", quote(&uplink.interface)), &uplink.about));
    let (gateway, why) = uplink.gateway();
    let gateway = format!("gateway = {gateway}");
    match &why[..] {
        [why] => text.push_str(&line(&gateway, why)),
        several => {
            several.iter().for_each(|why| text.push_str(&paragraph(why)));
            text.push_str(&format!("{gateway}\n"));
        }
    }
    if let Some(tier) = &uplink.tier {
        text.push_str(&line(&format!("tier = {}", tier.value), &tier.why));
    }
    text.push_str(&line(&format!("weight = {}", uplink.weight.value), &uplink.weight.why));
    uplink.remarks.iter().for_each(|remark| text.push_str(&paragraph(remark)));
    text
}

fn no_uplink() -> String {
    paragraph(
        "Nothing here leads to the internet: no interface has a default route, a lease with a router, or \
         PPP. Connect the lines, or write them here and remove the #:",
    ) + "# [uplink.fiber]\n# interface = \"eth0\"\n# gateway = \"auto\"\n"
}

fn second_uplink() -> String {
    paragraph(
        "Only one line was found, and there is nothing to balance yet. Connect the second one and run \
         `linkbal init` again, or write it here and remove the #:",
    ) + "# [uplink.second]\n# interface = \"eth1\"\n# gateway = \"auto\"\n# weight = 1\n"
}
