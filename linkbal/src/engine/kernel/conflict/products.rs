//! Known products, by the traces that they leave in the kernel.

use super::{Conflict, reach::catches_everything, survey::Survey};
use crate::{
    config::Config,
    engine::kernel::network::{IpRule, PROTOCOL, Snapshot},
};

/// Bits of the fwmark, and tables, that products use.
const MWAN3_MASK: u32 = 0x3f00;
const TAILSCALE_MASK: u32 = 0x00ff_0000;
const TAILSCALE_TABLE: u32 = 52;
const CALICO_MASK: u32 = 0xffff_0000;
const PBR_MASK: u32 = 0x00ff_0000;

/// The name of a product that is reported as a whole, not by each of its chains.
pub(super) const CALICO: &str = "Calico";

/// Prefixes of the names of nft tables and chains, with the product that uses them.
const NAMES: [(&str, &str); 10] = [
    ("cali-", CALICO),
    ("mwan3", "mwan3"),
    ("pbr_", "pbr"),
    ("ts-", "Tailscale"),
    ("KUBE-", "Kubernetes"),
    ("DOCKER", "Docker"),
    ("firewalld", "firewalld"),
    ("fw4", "OpenWrt's firewall"),
    ("libvirt", "libvirt"),
    ("LIBVIRT", "libvirt"),
];

/// The owner of what no product is known for, and the kernel names none.
pub(super) const UNKNOWN: &str = "an unknown program";

/// Returns the product that an nft chain seems to belong to.
pub(super) fn owner(chain: &str) -> Option<&'static str> {
    let mut names = NAMES.iter();
    let known = names.find(|(part, _)| chain.split(' ').skip(1).any(|name| name.starts_with(part)));
    known.map(|(_, owner)| *owner)
}

/// Returns the products that are there.
pub(super) fn find(config: &Config, snapshot: &Snapshot, survey: &Survey) -> Vec<Conflict> {
    let foreign: Vec<&IpRule> =
        snapshot.rules.iter().filter(|rule| rule.protocol != PROTOCOL).collect();
    let first = |is: &dyn Fn(&IpRule) -> bool| foreign.iter().copied().find(|rule| is(rule));
    let each = [
        first(&is_mwan3).map(|rule| mwan3(config, rule)),
        first(&is_tailscale).map(|_| tailscale(config, snapshot, &foreign)),
        calico(config, survey),
        first(&|rule| is_wg_quick(rule)).map(|rule| wg_quick(config, snapshot, rule)),
        first(&is_pbr).map(|rule| pbr(config, rule)),
    ];
    each.into_iter().flatten().collect()
}

/// Returns whether a rule belongs to one of them.
pub(super) fn is_known(rule: &IpRule) -> bool {
    is_mwan3(rule) || is_tailscale(rule) || is_wg_quick(rule) || is_pbr(rule)
}

fn has_mask(rule: &IpRule, mask: u32) -> bool {
    rule.fwmark.is_some_and(|(_, used)| used == mask)
}

/// Returns whether a rule is one of mwan3's: from 1001 on for incoming packets, from 2001 on for
/// its marks, from 3001 on for unreachable ones.
pub(super) fn is_mwan3(rule: &IpRule) -> bool {
    (1000..4000).contains(&rule.priority) && has_mask(rule, MWAN3_MASK)
}

fn mwan3(config: &Config, rule: &IpRule) -> Conflict {
    let bits = if config.kernel.fwmark_mask & MWAN3_MASK == 0 { "differ" } else { "conflict" };
    Conflict {
        what: format!("ip rule {rule}"),
        owner: "mwan3".into(),
        meaning: format!(
            "not compatible: mwan3 spreads flows, too; its marks ({MWAN3_MASK:#x}) and linkbal's \
             {bits}, but its rules come first, so that it decides, and not linkbal"
        ),
        advice: "use one of the two: stop and disable mwan3 (`service mwan3 stop`)".into(),
        compatible: false,
    }
}

fn is_tailscale(rule: &IpRule) -> bool {
    (5200..5300).contains(&rule.priority)
        && (rule.table == TAILSCALE_TABLE || has_mask(rule, TAILSCALE_MASK))
}

fn tailscale(config: &Config, snapshot: &Snapshot, foreign: &[&IpRule]) -> Conflict {
    let exit_node = foreign.iter().any(|rule| {
        rule.table == TAILSCALE_TABLE
            && is_tailscale(rule)
            && catches_everything(config, snapshot, rule)
    });
    let common = config.kernel.fwmark_mask & TAILSCALE_MASK;
    let (meaning, advice) = if exit_node {
        (
            "not compatible as it is: an exit node is in use, so that all traffic, also that of \
             the LAN, leaves by Tailscale and by no uplink of linkbal's"
                .into(),
            "end the use of the exit node (`tailscale set --exit-node=`)".into(),
        )
    } else if common != 0 {
        (
            format!("not compatible as it is: both use bits {common:#x} of the fwmark"),
            format!("set kernel.fwmark_mask to bits outside of {TAILSCALE_MASK:#x}"),
        )
    } else {
        ("compatible: its marks differ, and only the tailnet goes by its table".into(), "".into())
    };
    Conflict {
        what: format!("ip rules 5210 to 5270 and table {TAILSCALE_TABLE}"),
        owner: "Tailscale".into(),
        compatible: String::is_empty(&advice),
        meaning,
        advice,
    }
}

fn calico(config: &Config, survey: &Survey) -> Option<Conflict> {
    let chain = survey.chains.iter().find(|chain| owner(chain) == Some(CALICO))?;
    // Which of its bits it really uses is only seen where its rules can be read.
    let seen = survey.marks.iter().filter(|change| owner(&change.chain) == Some(CALICO));
    let used = seen.map(|change| change.bits).reduce(|all, bits| all | bits);
    let used = used.filter(|bits| *bits != u32::MAX).unwrap_or(CALICO_MASK);
    let mask = config.kernel.fwmark_mask;
    let compatible = used & mask == 0;
    Some(Conflict {
        what: format!("nft chain {chain}"),
        owner: CALICO.into(),
        meaning: if compatible {
            "compatible: it uses other bits of the fwmark".into()
        } else {
            format!(
                "not compatible as it is: it uses bits {used:#x} of the fwmark, linkbal {mask:#x}"
            )
        },
        advice: if compatible {
            String::new()
        } else {
            "set Calico's iptablesMarkMask (nftablesMarkMask, bpf...) in its FelixConfiguration to \
             0xff0000, or kernel.fwmark_mask to bits that it does not use"
                .into()
        },
        compatible,
    })
}

/// Returns whether a rule is one of wg-quick(8)'s: everything that WireGuard itself did not send is
/// routed by a table that has the number of the mark, 51820 (0xca6c) unless that is taken.
fn is_wg_quick(rule: &IpRule) -> bool {
    rule.more == "not" && rule.fwmark.is_some_and(|(fwmark, _)| fwmark == rule.table && fwmark != 0)
}

fn wg_quick(config: &Config, snapshot: &Snapshot, rule: &IpRule) -> Conflict {
    let kernel = &config.kernel;
    let first = rule.priority < kernel.rule_priority && catches_everything(config, snapshot, rule);
    let (meaning, advice) = if first {
        (
            "not compatible as it is: the tunnel takes all traffic (AllowedIPs = 0.0.0.0/0), also \
             that of the LAN, since its rules come before linkbal's"
                .into(),
            format!(
                "set `Table = off` in the [Interface] section and add the routes of the tunnel \
                 yourself, name it as an uplink, or start wg-quick before linkbal with \
                 kernel.rule_priority below {}",
                rule.priority
            ),
        )
    } else {
        (
            format!(
                "its rules come after linkbal's: what {} to {} lead to an uplink does not use the \
                 tunnel, though it was to take everything",
                kernel.rule_priority,
                kernel.last_priority()
            ),
            "if the tunnel is to carry the LAN's traffic, name it as an uplink; if not, set \
             AllowedIPs to its own networks"
                .into(),
        )
    };
    Conflict {
        what: format!("ip rule {rule}"),
        owner: "wg-quick".into(),
        meaning,
        advice,
        compatible: false,
    }
}

/// Returns whether a rule is one of pbr of OpenWrt: from 29000 to 30000, with its mask.
fn is_pbr(rule: &IpRule) -> bool {
    (29_000..=30_000).contains(&rule.priority) && has_mask(rule, PBR_MASK)
}

fn pbr(config: &Config, rule: &IpRule) -> Conflict {
    let last = config.kernel.last_priority();
    Conflict {
        what: format!("ip rule {rule}"),
        owner: "pbr".into(),
        meaning: format!(
            "not compatible: its marks differ, but its rules come after linkbal's last one ({last}) \
             that takes everything, so that its policies do nothing"
        ),
        advice: "write its policies as [[rule]] of linkbal and stop pbr, or give pbr's \
                 uplink_ip_rules_priority a lower number than kernel.rule_priority"
            .into(),
        compatible: false,
    }
}
