//! Fast path of packets whose flow had its full lookup in the same window.

use aya_ebpf::programs::TcContext;
use linkbal_common::{recent, shortcut::ether_type, uplink::Family};

use crate::{global::global, ingress_ifindex, skb::Skb, tables::Maps};

/// Marks a packet from the LAN if its flow is one of them; returns whether it is.
#[inline(always)]
pub(crate) fn from_lan<const L3: bool>(ctx: &TcContext) -> bool {
    let skb = ctx.skb.skb;
    let done = match (family(ctx), L3) {
        (Some(Family::Ipv4), false) => recent_from_lan_v4(skb),
        (Some(Family::Ipv6), false) => recent_from_lan_v6(skb),
        (Some(Family::Ipv4), true) => recent_from_lan_l3_v4(skb),
        (Some(Family::Ipv6), true) => recent_from_lan_l3_v6(skb),
        (None, _) => 0,
    };
    done != 0
}

/// Counts a packet to the LAN if its flow is one of them; returns whether it is.
#[inline(always)]
pub(crate) fn to_lan<const L3: bool>(ctx: &TcContext) -> bool {
    let skb = ctx.skb.skb;
    let done = match (family(ctx), L3) {
        (Some(Family::Ipv4), false) => recent_to_lan_v4(skb),
        (Some(Family::Ipv6), false) => recent_to_lan_v6(skb),
        (Some(Family::Ipv4), true) => recent_to_lan_l3_v4(skb),
        (Some(Family::Ipv6), true) => recent_to_lan_l3_v6(skb),
        (None, _) => 0,
    };
    done != 0
}

/// Returns the family of a packet without tags between its Ethernet header and that of IP.
#[inline(always)]
fn family(ctx: &TcContext) -> Option<Family> {
    // SAFETY: the context is valid for the length of the program.
    let protocol = unsafe { (*ctx.skb.skb).protocol } as u16;
    Family::ALL.into_iter().find(|family| ether_type(*family) == protocol)
}

global! {
    recent_from_lan_v4 = mark::<false, false>;
    recent_from_lan_v6 = mark::<false, true>;
    recent_from_lan_l3_v4 = mark::<true, false>;
    recent_from_lan_l3_v6 = mark::<true, true>;
    recent_to_lan_v4 = count::<false, false>;
    recent_to_lan_v6 = count::<false, true>;
    recent_to_lan_l3_v4 = count::<true, false>;
    recent_to_lan_l3_v6 = count::<true, true>;
}

#[inline(always)]
fn mark<const L3: bool, const V6: bool>(ctx: &TcContext) -> i32 {
    match recent::from_lan::<V6, _, _>(&Skb::<L3>(ctx), &Maps::<_, false>(ctx)) {
        Some(fwmark) => {
            ctx.set_mark(fwmark);
            1
        }
        None => 0,
    }
}

#[inline(always)]
fn count<const L3: bool, const V6: bool>(ctx: &TcContext) -> i32 {
    let maps = Maps::<_, false>(ctx);
    recent::to_lan::<V6, _, _>(&Skb::<L3>(ctx), &maps, ingress_ifindex(ctx)).map_or(0, |()| 1)
}
