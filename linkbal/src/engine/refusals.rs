//! Refusals of the kernel, and advice on them.

use std::collections::BTreeMap;

use super::{
    context::{Context, Output},
    drift,
    message::Report,
    network::{Change, Snapshot},
};

/// What the kernel refuses, and the probes that this machine cannot send.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The changes that the kernel refused, by name, with the reason and advice.
    refused: BTreeMap<String, String>,
    /// Probes that this machine cannot send, with the reason, as reported.
    unsent_probes: BTreeMap<String, String>,
}

impl Refusals {
    /// Returns what the kernel refuses, with the reason and advice.
    pub(super) const fn refused(&self) -> &BTreeMap<String, String> {
        &self.refused
    }

    /// Returns the probes that this machine cannot send, with the reason.
    pub(super) const fn unsent_probes(&self) -> &BTreeMap<String, String> {
        &self.unsent_probes
    }

    /// Reports once which probes this machine cannot send, and when it can again.
    pub(super) fn update_unsent_probes(&mut self, context: &Context, output: &mut Output) {
        let mut unsent = BTreeMap::new();
        for uplink in context.uplinks.iter() {
            for (family, health) in uplink.health.iter() {
                let Some(found) = health.unsent_probes(context.now) else { continue };
                let name = &uplink.config.name;
                unsent.insert(format!("{} probes of {name}", family.name()), found.explain());
            }
        }
        let before = std::mem::replace(&mut self.unsent_probes, unsent);
        let news = self.unsent_probes.iter().filter(|(what, _)| !before.contains_key(*what));
        let news = news.map(|(what, problem)| (what.clone(), Some(problem.clone())));
        let over = before.keys().filter(|what| !self.unsent_probes.contains_key(*what));
        for (what, problem) in news.chain(over.map(|what| (what.clone(), None))) {
            output.report(Report::Trouble { what, problem });
        }
    }

    /// Reports each refusal once.
    pub(super) fn add(&mut self, failures: BTreeMap<String, String>, output: &mut Output) {
        for (what, reason) in failures {
            let problem = explain(&what, &reason);
            self.refuse(what, problem, output);
        }
    }

    /// Reports once each thing that can no longer be observed.
    pub(super) fn add_unobserved(&mut self, snapshot: &Snapshot, output: &mut Output) {
        for (what, reason) in &snapshot.unobserved {
            let problem =
                format!("what others do to the nft table is not seen, and not repaired: {reason}");
            self.refuse(what.clone(), problem, output);
        }
    }

    fn refuse(&mut self, what: String, problem: String, output: &mut Output) {
        if self.refused.insert(what.clone(), problem.clone()).is_none() {
            output.report(Report::Trouble { what, problem: Some(problem) });
        }
    }

    /// Forgets and reports the refusals that are over: what is neither asked for again nor
    /// unobserved is in force.
    pub(super) fn forget(&mut self, changes: &[Change], snapshot: &Snapshot, output: &mut Output) {
        if self.refused.is_empty() {
            return;
        }
        let asked: Vec<String> = changes.iter().map(drift::name).collect();
        let (still, over): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.refused)
            .into_iter()
            .partition(|(what, _)| asked.contains(what) || snapshot.unobserved.contains_key(what));
        self.refused = still;
        for (what, _) in over {
            output.report(Report::Trouble { what, problem: None });
        }
    }
}

/// Explains a refusal: what it means, the reason, and what to do.
fn explain(what: &str, reason: &str) -> String {
    let meaning = if what.contains("rp_filter") {
        "answers to an uplink's packets may be dropped"
    } else if what.contains("forward") {
        "this machine does not forward the packets of the LAN"
    } else if what.starts_with("interface") {
        "a bond is not as it is configured"
    } else if what.starts_with("nft") {
        "packets of the LAN leave without translation of their addresses"
    } else if what.starts_with("sysctl") {
        "the kernel does not behave as linkbal expects"
    } else {
        "packets may leave by another uplink than they should"
    };
    format!("{meaning}: {reason}{}", advice(what, reason))
}

fn advice(what: &str, reason: &str) -> String {
    let setting = what.strip_prefix("sysctl ").map(|setting| setting.replace(' ', ""));
    match setting {
        Some(setting) if reason.contains("Read-only file system") => format!(
            "; /proc/sys is read-only here, as in a container: set {setting} where that is made \
             (docker run --sysctl {setting}), or run it with a writable /proc/sys"
        ),
        Some(setting) if reason.contains("denied") || reason.contains("not permitted") => {
            format!("; run linkbal as root, or set {setting} yourself")
        }
        Some(setting) => format!("; set {setting} yourself"),
        None if what.starts_with("nft") => nft_advice(reason).into(),
        None if reason.contains("not permitted") => "; linkbal needs CAP_NET_ADMIN".into(),
        None => String::new(),
    }
}

/// Returns advice on an error of nft, which does not name the part of the kernel that is missing.
fn nft_advice(reason: &str) -> &'static str {
    if reason.contains("No such file or directory") || reason.contains("not supported") {
        "; the kernel lacks a part that the table needs: load the modules nf_conntrack, nf_nat, \
         nft_ct, nft_nat, nft_chain_nat, nft_masq and nft_reject_inet (modprobe), or use a kernel \
         with CONFIG_NF_CONNTRACK, CONFIG_NF_NAT, CONFIG_NFT_CT, CONFIG_NFT_NAT and CONFIG_NFT_MASQ"
    } else if reason.contains("not permitted") {
        "; linkbal needs CAP_NET_ADMIN for nftables"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_it_means_and_what_to_do() {
        let text = explain(
            "sysctl net.ipv4.ip_forward = 1",
            "failed to set sysctl net/ipv4/ip_forward to 1: Read-only file system (os error 30)",
        );
        for part in ["does not forward", "read-only here", "--sysctl net.ipv4.ip_forward=1"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = explain(
            "nft table inet linkbal",
            "failed to replace nft table inet linkbal: nft: /dev/stdin:9:5-20: Error: Could not \
             process rule: No such file or directory",
        );
        for part in ["without translation", "nf_conntrack", "CONFIG_NFT_NAT"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
