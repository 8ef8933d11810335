//! Rules by which a flow goes on by its uplink, for the packet path and for those who list live flows.

use network_types::ip::IpProto;

use crate::maps::{
    counter::Counter,
    flow::{Flow, INBOUND},
    settings::Settings,
    uplink::{Family, UpMask},
};

/// Seconds of silence after which the flow of a LAN host is checked again. Until then the host
/// still has the tracked connection that its flow was stored for, whatever its protocol and state
/// (the shortest timeout is that of a TCP reset, `nf_conntrack_tcp_timeout_close`). Later, the same
/// ends may have begun another one from outside, by another uplink.
pub(crate) const RECHECK_S: u32 = 10;

/// Seconds of silence after which a LAN host has no tracked UDP flow any more
/// (`nf_conntrack_udp_timeout_stream`); TCP does not wait longer between its retries.
pub(crate) const FORGOTTEN_S: u32 = 120;

/// Returns whether a packet of a host that was silent for so long begins another connection of the same
/// ends, such as those between two fixed ports, whose uplink is chosen like any other's; one of TCP begins
/// with the packet that `connects`. Where the kernel still tracks the former one, its mark prevails. A
/// peer that came in by an uplink expects answers by the same one.
#[inline(always)]
pub(crate) const fn begins_anew(flow: &Flow, silent_s: u32, protocol: u8, connects: bool) -> bool {
    silent_s > FORGOTTEN_S
        && (protocol != IpProto::Tcp as u8 || connects)
        && flow.sticky_class != INBOUND
}

/// Returns how the packets of a flow are counted that goes on by its uplink, and whose epoch may be the
/// current one; `None` if it has ended with the uplink.
#[inline(always)]
pub fn goes_on(
    flow: &Flow,
    family: Family,
    now_s: u32,
    settings: &Settings,
    up: UpMask,
    is_current: impl FnOnce() -> bool,
) -> Option<Counter> {
    let usable = up.contains(flow.uplink, family);
    if usable && is_current() {
        Some(Counter::FlowKnown)
    } else if still_inbound(flow, now_s) || !usable && settings.keeps(flow.uplink) {
        Some(Counter::FlowStranded)
    } else {
        None
    }
}

/// Returns whether a flow whose uplink is down must stay there: its packets carry that uplink's
/// address for as long as it is tracked. The verdict may be wrong, or the uplink may soon be back.
#[inline(always)]
const fn still_inbound(flow: &Flow, now_s: u32) -> bool {
    // Not computed before: the verifier would walk all that follows once more.
    flow.sticky_class == INBOUND && now_s.saturating_sub(flow.last_seen_s) <= FORGOTTEN_S
}
