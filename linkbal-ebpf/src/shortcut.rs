//! The way out of a packet that takes a shortcut.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{
        bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_skb_change_head,
        bpf_skb_change_tail,
    },
    programs::TcContext,
};
use linkbal_common::{
    packet::ETHERNET_LENGTH,
    shortcut::{self, Taken, Target},
    slow::Request,
    tables::Tables as _,
    uplink::Family,
};

use crate::{
    global::global,
    ingress_ifindex,
    rewrite::{Ipv4, Ipv6},
    skb::Skb,
    tables::Maps,
};

/// `PACKET_HOST` of include/uapi/linux/if_packet.h: a packet for this machine.
const PACKET_HOST: u32 = 0;

/// 1 if there are shortcuts. User space sets it before the programs are loaded, and the verifier
/// leaves out what is not needed then.
#[unsafe(no_mangle)]
static SHORTCUTS: u32 = 0;

/// Returns whether there are shortcuts.
#[inline(always)]
pub(crate) fn exist() -> bool {
    // SAFETY: a static; volatile, since the compiler would take its value for final.
    unsafe { (&raw const SHORTCUTS).read_volatile() != 0 }
}

/// Sends a packet from the LAN by the shortcut of its flow.
#[inline(always)]
pub(crate) fn up<const L3: bool>(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    match (family(ctx), L3) {
        (Some(Family::Ipv4), false) => shortcut_up_v4(skb),
        (Some(Family::Ipv6), false) => shortcut_up_v6(skb),
        (Some(Family::Ipv4), true) => shortcut_up_l3_v4(skb),
        (Some(Family::Ipv6), true) => shortcut_up_l3_v6(skb),
        (None, _) => TC_ACT_UNSPEC,
    }
}

/// Sends a packet from an uplink by the shortcut of its flow.
#[inline(always)]
pub(crate) fn down<const L3: bool>(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    match (family(ctx), L3) {
        (Some(Family::Ipv4), false) => shortcut_down_v4(skb),
        (Some(Family::Ipv6), false) => shortcut_down_v6(skb),
        (Some(Family::Ipv4), true) => shortcut_down_l3_v4(skb),
        (Some(Family::Ipv6), true) => shortcut_down_l3_v6(skb),
        (None, _) => TC_ACT_UNSPEC,
    }
}

/// Returns the family of a packet for this machine without tags between its Ethernet header and that of
/// IP. An interface in promiscuous mode gets those for other machines, too. A tag that only has a
/// priority would leave with the packet.
#[inline(always)]
fn family(ctx: &TcContext) -> Option<Family> {
    // SAFETY: the context is valid for the length of the program.
    let skb = unsafe { &*ctx.skb.skb };
    if skb.pkt_type != PACKET_HOST || skb.vlan_present != 0 {
        return None;
    }
    let ether_type = skb.protocol as u16;
    Family::ALL.into_iter().find(|family| shortcut::ether_type(*family) == ether_type)
}

/// Stores the shortcut from the LAN of a packet that is about to leave by its uplink.
#[inline(always)]
pub(crate) fn store_up<const L3: bool>(ctx: &TcContext) {
    if L3 {
        shortcut_store_up_l3(ctx.skb.skb)
    } else {
        shortcut_store_up(ctx.skb.skb)
    };
}

/// Stores the shortcut to the LAN of an answer that is about to leave, whose key is in the request.
#[inline(always)]
pub(crate) fn store_down<const L3: bool>(ctx: &TcContext) {
    if L3 {
        shortcut_store_down_l3(ctx.skb.skb)
    } else {
        shortcut_store_down(ctx.skb.skb)
    };
}

global! {
    shortcut_up_v4 = way_of::<false, true, false>;
    shortcut_up_v6 = way_of::<false, true, true>;
    shortcut_up_l3_v4 = way_of::<true, true, false>;
    shortcut_up_l3_v6 = way_of::<true, true, true>;
    shortcut_down_v4 = way_of::<false, false, false>;
    shortcut_down_v6 = way_of::<false, false, true>;
    shortcut_down_l3_v4 = way_of::<true, false, false>;
    shortcut_down_l3_v6 = way_of::<true, false, true>;
    shortcut_store_up = store_up_of::<false>;
    shortcut_store_up_l3 = store_up_of::<true>;
    shortcut_store_down = store_down_of::<false>;
    shortcut_store_down_l3 = store_down_of::<true>;
}

#[inline(always)]
fn store_up_of<const L3: bool>(ctx: &TcContext) -> i32 {
    shortcut::store_up(&Skb::<L3>(ctx), &Maps::<_, false>(ctx), ingress_ifindex(ctx));
    0
}

#[inline(always)]
fn store_down_of<const L3: bool>(ctx: &TcContext) -> i32 {
    let maps = Maps::<_, false>(ctx);
    let store = |request: &mut Request| {
        shortcut::store_down(&Skb::<L3>(ctx), &maps, &request.key, ingress_ifindex(ctx));
    };
    maps.with_request(store).map_or(1, |()| 0)
}

#[inline(always)]
fn way_of<const L3: bool, const UP: bool, const V6: bool>(ctx: &TcContext) -> i32 {
    let taken = shortcut::take::<UP, V6, _, _>(&Skb::<L3>(ctx), &Maps::<_, false>(ctx));
    let Some(Taken { udp, fwmark, target }) = taken else { return TC_ACT_UNSPEC };
    // A word of the address is enough: if one begins like that, its driver pads the frame again.
    let to_l3 = target.mac[0] == 0;
    // SAFETY: the whole header lies inside the packet, which nobody else has; for its alignment, see
    // `skb`.
    let ports = unsafe {
        if V6 {
            place::<Ipv6, L3>(ctx, &target).map(|header| (*header).rewrite::<UP>(&target))
        } else {
            place::<Ipv4, L3>(ctx, &target).map(|header| (*header).rewrite::<UP>(&target))
        }
    };
    let Some(ports) = ports else { return TC_ACT_UNSPEC };
    // SAFETY: the context is valid for the length of the program.
    let skb = unsafe { &mut *ctx.skb.skb };
    (skb.mark, skb.priority) = (fwmark, target.priority);
    let network = if L3 { 0 } else { ETHERNET_LENGTH };
    let transport = network + if V6 { Ipv6::HEADER } else { Ipv4::HEADER };
    update_checksum(ctx, udp, transport, target.address_change, ports);
    if V6 {
        // A sum of the whole packet that the network card gave (CHECKSUM_COMPLETE): the line above takes
        // the address for one of IPv4, whose header has a checksum of its own, so that its sum is the same.
        // SAFETY: the context is valid for the length of the program.
        unsafe { bpf_csum_update(skb, target.header_change.into()) };
    }
    let family = if V6 { Family::Ipv6 } else { Family::Ipv4 };
    if L3 && target.mac != [0; 3] && !add_ethernet(ctx, target.mac, family) {
        // It is changed already.
        return TC_ACT_SHOT;
    }
    if !L3 && to_l3 {
        trim::<V6>(ctx);
    }
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_redirect(target.ifindex, 0) as i32 }
}

/// Takes off what Ethernet pads short frames with (IEEE 802.3 section 3.2.8), as the kernel does
/// (`ip_rcv_core` in net/ipv4/ip_input.c), of a packet that leaves without Ethernet: compressors of PPP
/// headers (RFC 1144) take the length from the frame. If it cannot be taken off, it stays.
#[inline(always)]
fn trim<const V6: bool>(ctx: &TcContext) {
    // SAFETY: the context is valid for the length of the program.
    let skb = unsafe { &*ctx.skb.skb };
    let start = ctx.data() + ETHERNET_LENGTH;
    if skb.gso_size != 0 || start + size_of::<Ipv4>() > ctx.data_end() {
        return;
    }
    // SAFETY: the verifier has just seen that the header lies inside the packet.
    let words = unsafe { (*(start as *const Ipv4)).version_to_fragment };
    let length = if V6 {
        u32::from(u16::from_be(words[2])) + Ipv6::HEADER as u32
    } else {
        u32::from(u16::from_be(words[1]))
    } + ETHERNET_LENGTH as u32;
    if length < skb.len {
        // SAFETY: as above.
        unsafe { bpf_skb_change_tail(ctx.skb.skb, length, 0) };
    }
}

/// Changes the checksum of a transport header with the address and the port, before and after.
#[inline(always)]
fn update_checksum(
    ctx: &TcContext,
    udp: bool,
    transport: usize,
    address_change: u16,
    ports: [u16; 2],
) {
    let (offset, flags) =
        if udp { (transport + 6, u64::from(BPF_F_MARK_MANGLED_0)) } else { (transport + 16, 0) };
    // SAFETY: the context is valid for the length of the program; the helpers check the offset.
    unsafe {
        let skb = ctx.skb.skb;
        if address_change != 0 {
            let flags = flags | u64::from(BPF_F_PSEUDO_HDR);
            bpf_l4_csum_replace(skb, offset as u32, 0, address_change.into(), flags);
        }
        if ports[0] != ports[1] {
            let [before, after] = ports.map(u64::from);
            bpf_l4_csum_replace(skb, offset as u32, before, after, flags | 2);
        }
    }
}

/// Puts an Ethernet header before a packet without one; returns whether there was room. The kernel
/// takes one off that is too much (`__bpf_redirect_no_mac` in net/core/filter.c).
#[inline(always)]
fn add_ethernet(ctx: &TcContext, mac: [u32; 3], family: Family) -> bool {
    // SAFETY: the context is valid for the length of the program.
    if unsafe { bpf_skb_change_head(ctx.skb.skb, ETHERNET_LENGTH as u32, 0) } != 0 {
        return false;
    }
    let start = ctx.data();
    if start + ETHERNET_LENGTH > ctx.data_end() {
        return false;
    }
    // SAFETY: the verifier has just seen that the header lies inside the packet.
    unsafe {
        *(start as *mut [u32; 3]) = mac;
        *((start + size_of::<[u32; 3]>()) as *mut u16) = shortcut::ether_type(family);
    }
    true
}

/// Returns the place of a header that can be written, if all of it is in the linear part, and writes
/// the addresses of the link-layer header before it.
#[inline(always)]
fn place<T, const L3: bool>(ctx: &TcContext, target: &Target) -> Option<*mut T> {
    let network = if L3 { 0 } else { ETHERNET_LENGTH };
    let start = ctx.data();
    if start + network + size_of::<T>() > ctx.data_end() {
        return None;
    }
    if !L3 {
        // SAFETY: the verifier has just seen that the header lies inside the packet.
        unsafe { *(start as *mut [u32; 3]) = target.mac };
    }
    Some((start + network) as *mut T)
}
