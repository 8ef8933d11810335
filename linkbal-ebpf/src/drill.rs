//! The programs of a drill, on the uplink's interface: the only ones that drop packets.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::classifier,
    programs::TcContext,
};
use linkbal_common::drill::Way;

use crate::{
    maps::{DRILL, DRILLED},
    skb::Skb,
};

#[classifier]
fn linkbal_drill_in(ctx: TcContext) -> i32 {
    drill(&ctx, Way::In)
}

#[classifier]
fn linkbal_drill_out(ctx: TcContext) -> i32 {
    drill(&ctx, Way::Out)
}

#[inline(always)]
fn drill(ctx: &TcContext, way: Way) -> i32 {
    let Some(drill) = DRILL.get(0) else { return TC_ACT_UNSPEC };
    // SAFETY: the helper only reads a clock.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    // The kernel knows the EtherType and the drill where the header ends, for any kind of device.
    if !drill.drops(&Skb::<true>(ctx), way, now_ns) {
        return TC_ACT_UNSPEC;
    }
    if let Some(dropped) = DRILLED.get_ptr_mut(0) {
        // SAFETY: no other CPU has this copy.
        unsafe { *dropped += 1 };
    }
    TC_ACT_SHOT
}
