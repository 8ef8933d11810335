//! linkbal's eBPF programs. They only connect the kernel to `linkbal-common`, which decides.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "aya hands the context over by value")]

mod drill;
mod global;
mod local;
mod maps;
mod recent;
mod rewrite;
mod shortcut;
mod skb;
mod tables;
mod xdp;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, bpf_flow_keys, bpf_sock},
    helpers::generated::{bpf_set_hash, bpf_set_hash_invalid},
    macros::classifier,
    programs::TcContext,
};
use linkbal_common::{
    dns::learn_local, egress::egress, ingress::ingress, mss::MssChange, shortcut::taken_mark,
    tables::Tables as _, verdict::Verdict, wan_egress::wan_egress,
};

use crate::{
    skb::Skb,
    tables::{Maps, recent_flows},
};

/// Marks each packet with its uplink, at the ingress of LAN interfaces with Ethernet headers.
#[classifier]
fn linkbal_ingress(ctx: TcContext) -> i32 {
    from_lan::<false>(&ctx)
}

/// Marks each packet with its uplink, at the ingress of LAN interfaces without link-layer headers,
/// such as tunnels.
#[classifier]
fn linkbal_l3(ctx: TcContext) -> i32 {
    from_lan::<true>(&ctx)
}

/// Marks a packet with its uplink. `TC_ACT_UNSPEC` lets later programs and filters see the packet:
/// the same number is `TCX_NEXT`.
#[inline(always)]
fn from_lan<const L3: bool>(ctx: &TcContext) -> i32 {
    if shortcut::exist() {
        let action = shortcut::up::<L3>(ctx);
        if action != TC_ACT_UNSPEC {
            return action;
        }
    }
    if recent_flows() && recent::from_lan::<L3>(ctx) {
        return TC_ACT_UNSPEC;
    }
    match ingress(&Skb::<L3>(ctx), &Maps::<_, false>(ctx)) {
        Verdict::Mark(fwmark) => ctx.set_mark(fwmark),
        Verdict::Propose { fwmark, hash } => {
            ctx.set_mark(fwmark);
            // SAFETY: the context is valid for the length of the program.
            unsafe { bpf_set_hash(ctx.skb.skb, hash) };
        }
        Verdict::Skip(_) => {}
    }
    TC_ACT_UNSPEC
}

/// Counts answers, at the egress of LAN interfaces with Ethernet headers.
#[classifier]
fn linkbal_egress(ctx: TcContext) -> i32 {
    to_lan::<false>(&ctx)
}

/// Counts answers, at the egress of LAN interfaces without link-layer headers.
#[classifier]
fn linkbal_l3_egress(ctx: TcContext) -> i32 {
    to_lan::<true>(&ctx)
}

#[inline(always)]
fn to_lan<const L3: bool>(ctx: &TcContext) -> i32 {
    if recent_flows() && recent::to_lan::<L3>(ctx) {
        return TC_ACT_UNSPEC;
    }
    let (packet, maps) = (Skb::<L3>(ctx), Maps::<_, false>(ctx));
    if shortcut::exist()
        && let Some(fwmark) = taken_mark(&packet, &maps, ingress_ifindex(ctx))
    {
        ctx.set_mark(fwmark);
        return TC_ACT_UNSPEC;
    }
    let known = egress(&packet, &maps, ingress_ifindex(ctx));
    if shortcut::exist() && known {
        shortcut::store_down::<L3>(ctx);
    }
    TC_ACT_UNSPEC
}

/// Reads the DNS replies to this machine, at the ingress of uplinks and the loopback device.
#[classifier]
fn linkbal_replies(ctx: TcContext) -> i32 {
    replies::<false>(&ctx)
}

/// Reads the DNS replies to this machine, at the ingress of uplinks without link-layer headers.
#[classifier]
fn linkbal_l3_replies(ctx: TcContext) -> i32 {
    replies::<true>(&ctx)
}

/// Sends answers by their shortcuts, at the ingress of uplinks, and reads DNS replies as
/// [`linkbal_replies`] does.
#[classifier]
fn linkbal_wan_ingress(ctx: TcContext) -> i32 {
    from_wan::<false>(&ctx)
}

/// Sends answers by their shortcuts, at the ingress of uplinks without link-layer headers.
#[classifier]
fn linkbal_l3_wan_ingress(ctx: TcContext) -> i32 {
    from_wan::<true>(&ctx)
}

#[inline(always)]
fn from_wan<const L3: bool>(ctx: &TcContext) -> i32 {
    match shortcut::down::<L3>(ctx) {
        TC_ACT_UNSPEC => replies::<L3>(ctx),
        action => action,
    }
}

#[inline(always)]
fn replies<const L3: bool>(ctx: &TcContext) -> i32 {
    let maps = Maps::<_, false>(ctx);
    if let Some(settings) = maps.settings() {
        learn_local(&Skb::<L3>(ctx), &maps, settings);
    }
    TC_ACT_UNSPEC
}

/// Learns flows, clamps the MSS, and notes the DNS queries of this machine, at the egress of uplinks
/// and the loopback device.
#[classifier]
fn linkbal_wan_egress(ctx: TcContext) -> i32 {
    to_wan::<false>(&ctx)
}

/// Learns flows, clamps the MSS, and notes the DNS queries of this machine, at the egress of uplinks
/// without link-layer headers.
#[classifier]
fn linkbal_l3_wan_egress(ctx: TcContext) -> i32 {
    to_wan::<true>(&ctx)
}

#[inline(always)]
fn to_wan<const L3: bool>(ctx: &TcContext) -> i32 {
    let changes = wan_egress(&Skb::<L3>(ctx), &Maps::<_, false>(ctx), ingress_ifindex(ctx));
    if let Some(fwmark) = changes.fwmark {
        if shortcut::exist() {
            shortcut::store_up::<L3>(ctx);
        }
        ctx.set_mark(fwmark);
    }
    if let Some(hash) = changes.hash {
        let skb = ctx.skb.skb;
        // SAFETY: the context is valid for the length of the program.
        unsafe {
            if hash == 0 {
                bpf_set_hash_invalid(skb);
            } else {
                bpf_set_hash(skb, hash);
            }
        }
    }
    if let Some(change) = changes.mss {
        set_mss(ctx, &change);
    }
    TC_ACT_UNSPEC
}

/// Changes the MSS that a packet announces. A packet that cannot be changed keeps it.
#[inline(always)]
fn set_mss(ctx: &TcContext, change: &MssChange) {
    let ([_, mss], [before, after]) = (change.mss, change.words.map(u16::from_ne_bytes));
    if ctx.store(change.offset as usize, &mss, 0).is_ok() {
        // After the first one, this is in a part of the packet that can be written.
        let _ = ctx.l4_csum_replace(change.checksum as usize, before.into(), after.into(), 2);
    }
}

/// Returns the interface that a packet came in by, 0 for local traffic.
#[inline(always)]
fn ingress_ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid for the length of the program.
    unsafe { (*ctx.skb.skb).ingress_ifindex }
}

/// Gives the BTF the definitions of what the context points to; nothing calls it. LLVM orders types that are
/// only declared by their addresses, and equal sources would not make equal objects.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn define_types(_keys: &bpf_flow_keys, _socket: &bpf_sock) {}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The licence of the programs. The kernel offers helpers like `bpf_ktime_get_coarse_ns` to any
/// licence, but not all of them.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
