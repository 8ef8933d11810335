//! The way out of a packet that takes a shortcut.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{bpf_l4_csum_replace, bpf_redirect, bpf_skb_change_head},
    programs::TcContext,
};
use linkbal_common::{
    shortcut::{self, Rewrite, Taken, Way, adjusted, changed_sum},
    slow::Request,
    tables::Tables as _,
    uplink::Family,
};

use crate::{ingress_ifindex, skb::Skb, tables::Maps};

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

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

/// Returns the family of a packet without tags between its Ethernet header and that of IP.
#[inline(always)]
fn family(ctx: &TcContext) -> Option<Family> {
    // SAFETY: the context is valid for the length of the program.
    let ether_type = unsafe { (*ctx.skb.skb).protocol } as u16;
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

/// Hands a function over to the verifier on its own, as a global one; they return a number.
macro_rules! global {
    ($($name:ident = $of:expr;)*) => {
        $(
            #[inline(never)]
            #[unsafe(no_mangle)]
            extern "C" fn $name(skb: *mut __sk_buff) -> i32 {
                $of(&TcContext::new(skb))
            }
        )*
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
    let Some(Taken { fwmark, rewrite }) = taken else { return TC_ACT_UNSPEC };
    let way = if UP { Way::Up } else { Way::Down };
    let changed = if V6 {
        change_ipv6::<L3>(ctx, way, &rewrite)
    } else {
        change_ipv4::<L3>(ctx, way, &rewrite)
    };
    match changed {
        Some(changed) => {
            ctx.set_mark(fwmark);
            send::<L3>(ctx, &changed, &rewrite)
        }
        None => TC_ACT_UNSPEC,
    }
}

/// Sends a packet out that is changed but for the checksum of its transport header.
#[inline(always)]
fn send<const L3: bool>(ctx: &TcContext, changed: &Changed, rewrite: &Rewrite) -> i32 {
    let network = if L3 { 0 } else { ETHERNET };
    let Changed { transport, address, ports } = *changed;
    let (checksum, flags) = if rewrite.udp {
        (network + transport + 6, u64::from(BPF_F_MARK_MANGLED_0))
    } else {
        (network + transport + 16, 0)
    };
    // SAFETY: the context is valid for the length of the program; the helpers check the offset.
    unsafe {
        let skb = ctx.skb.skb;
        if address != 0 {
            let flags = flags | u64::from(BPF_F_PSEUDO_HDR);
            bpf_l4_csum_replace(skb, checksum as u32, 0, address.into(), flags);
        }
        if ports[0] != ports[1] {
            let [before, after] = ports.map(u64::from);
            bpf_l4_csum_replace(skb, checksum as u32, before, after, flags | 2);
        }
        if L3 && rewrite.mac != [0; 6] && !add_ethernet(ctx, rewrite) {
            // It is changed already.
            return TC_ACT_SHOT;
        }
        bpf_redirect(rewrite.ifindex, 0) as i32
    }
}

/// Puts an Ethernet header before a packet without one; returns whether there was room. The kernel
/// takes one off that is too much (`__bpf_redirect_no_mac` in net/core/filter.c).
#[inline(always)]
fn add_ethernet(ctx: &TcContext, rewrite: &Rewrite) -> bool {
    // SAFETY: the context is valid for the length of the program.
    if unsafe { bpf_skb_change_head(ctx.skb.skb, ETHERNET as u32, 0) } != 0 {
        return false;
    }
    let start = ctx.data();
    if start + ETHERNET > ctx.data_end() {
        return false;
    }
    // SAFETY: the verifier has just seen that the header lies inside the packet.
    unsafe {
        *(start as *mut [u16; 6]) = rewrite.mac;
        *((start + size_of::<[u16; 6]>()) as *mut u16) = shortcut::ether_type(rewrite.family);
    }
    true
}

/// Changes that the checksum of the transport header has to follow.
struct Changed {
    /// Length of the IP header.
    transport: usize,
    /// Difference of the sums of the addresses.
    address: u32,
    /// The port before and after, as in the packet.
    ports: [u16; 2],
}

/// The start of an IPv4 packet that is changed, from its header on: RFC 791, RFC 793, RFC 768.
#[repr(C)]
struct Ipv4 {
    version_to_fragment: [u16; 4],
    ttl: u8,
    protocol: u8,
    checksum: u16,
    ends: [u32; 2],
    ports: [u16; 2],
}

/// The start of an IPv6 packet that is changed: RFC 8200.
#[repr(C)]
struct Ipv6 {
    version_to_next_header: [u8; 7],
    hop_limit: u8,
    ends: [[u32; 4]; 2],
    ports: [u16; 2],
}

/// Returns the place of a header that can be written, if all of it is in the linear part, and writes
/// the addresses of the link-layer header before it.
#[inline(always)]
fn place<T, const L3: bool>(ctx: &TcContext, rewrite: &Rewrite) -> Option<*mut T> {
    let network = if L3 { 0 } else { ETHERNET };
    let start = ctx.data();
    if start + network + size_of::<T>() > ctx.data_end() {
        return None;
    }
    if !L3 {
        // SAFETY: the verifier has just seen that the header lies inside the packet.
        unsafe { *(start as *mut [u16; 6]) = rewrite.mac };
    }
    Some((start + network) as *mut T)
}

#[inline(always)]
fn change_ipv4<const L3: bool>(ctx: &TcContext, way: Way, rewrite: &Rewrite) -> Option<Changed> {
    // SAFETY: the whole header lies inside the packet; loads and stores of the kernel's BPF need no
    // alignment, and nobody else has the packet.
    let header = unsafe { &mut *place::<Ipv4, L3>(ctx, rewrite)? };
    let at = way as usize & 1;
    let (before, after) = (header.ends[at], rewrite.address[0]);
    let address = changed_sum(&[before], &[after]);
    let lived = [header.ttl, header.protocol];
    header.ttl -= 1;
    let lives = [header.ttl, header.protocol];
    let ttl = changed_sum(&[word(lived)], &[word(lives)]);
    header.checksum = adjusted(adjusted(header.checksum, ttl), address);
    header.ends[at] = after;
    let ports = [header.ports[at], rewrite.port];
    header.ports[at] = rewrite.port;
    Some(Changed { transport: 20, address, ports })
}

#[inline(always)]
fn change_ipv6<const L3: bool>(ctx: &TcContext, way: Way, rewrite: &Rewrite) -> Option<Changed> {
    // SAFETY: as above.
    let header = unsafe { &mut *place::<Ipv6, L3>(ctx, rewrite)? };
    let at = way as usize & 1;
    let address = changed_sum(&header.ends[at], &rewrite.address);
    header.hop_limit -= 1;
    header.ends[at] = rewrite.address;
    let ports = [header.ports[at], rewrite.port];
    header.ports[at] = rewrite.port;
    Some(Changed { transport: 40, address, ports })
}

#[inline(always)]
fn word(bytes: [u8; 2]) -> u32 {
    u16::from_ne_bytes(bytes).into()
}
