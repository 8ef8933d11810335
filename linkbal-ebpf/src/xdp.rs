//! Shortcuts at the driver, before the kernel makes a socket buffer of a packet. Whatever is not sent out
//! here meets the program at the tc ingress as before, which alone says what the kernel gets.

use aya_ebpf::{
    bindings::xdp_action::{XDP_PASS, XDP_REDIRECT},
    helpers::generated::bpf_redirect,
    macros::xdp,
    programs::XdpContext,
};
use linkbal_common::{
    buffer::ReplyBytes,
    packet::{ETHERNET_LENGTH, EthernetHeader, Header, MAX_OFFSET, Packet},
    shortcut::{self, Taken, Target, adjusted, driver_slot},
    uplink::Family,
    xdp::{checksum_offset, is_unfinished},
};

use crate::{
    maps::{XDP_ADDRESSES, XDP_DEVICES, opaque},
    rewrite::{Ipv4, Ipv6},
    tables::Maps,
};

/// Sends packets of established flows by their shortcuts, at the driver of a LAN interface.
#[xdp]
fn linkbal_xdp_lan(ctx: XdpContext) -> u32 {
    send::<true>(&ctx)
}

/// Sends answers by their shortcuts, at the driver of an uplink.
#[xdp]
fn linkbal_xdp_wan(ctx: XdpContext) -> u32 {
    send::<false>(&ctx)
}

/// Sends a frame out by the interface that it came in by: user space runs it on one of its own.
#[xdp]
fn linkbal_xdp_try(ctx: XdpContext) -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_redirect(ctx.ingress_ifindex() as u32, 0) as u32 }
}

#[inline(always)]
fn send<const UP: bool>(ctx: &XdpContext) -> u32 {
    let frame = Frame::<false>(ctx);
    let Some(ethernet) = frame.load::<EthernetHeader>(0) else { return XDP_PASS };
    let sent = if ethernet.ether_type == shortcut::ether_type(Family::Ipv4) {
        send_of::<UP, false>(ctx)
    } else if ethernet.ether_type == shortcut::ether_type(Family::Ipv6) {
        send_of::<UP, true>(ctx)
    } else {
        None
    };
    sent.unwrap_or(XDP_PASS)
}

#[inline(always)]
fn send_of<const UP: bool, const V6: bool>(ctx: &XdpContext) -> Option<u32> {
    let taken = shortcut::take::<UP, V6, _, _>(&Frame::<V6>(ctx), &Maps::<_, false>(ctx))?;
    change::<UP, V6>(ctx, &taken)?;
    Some(XDP_REDIRECT)
}

/// A frame at the driver, of one family.
struct Frame<'a, const V6: bool>(&'a XdpContext);

impl<const V6: bool> Packet for Frame<'_, V6> {
    #[inline(always)]
    fn load<T: Header>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        // SAFETY: the header lies inside the frame; for its alignment, see `skb`.
        place::<T>(self.0, offset as usize).map(|header| unsafe { *header })
    }

    #[inline(always)]
    fn load_linear<T: Header>(&self, offset: u32) -> Option<T> {
        // SAFETY: as above.
        place::<T>(self.0, offset as usize).map(|header| unsafe { *header })
    }

    #[inline(always)]
    fn load_cold<T: Header>(&self, offset: u32) -> Option<T> {
        self.load(offset)
    }

    #[inline(always)]
    fn copy(&self, _offset: u32, _to: &mut ReplyBytes) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn opaque(&self, value: u32) -> u32 {
        opaque(value)
    }

    #[inline(always)]
    fn l3_ether_type(&self) -> Option<u16> {
        None
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        (self.0.data_end() - self.0.data()) as u32
    }

    #[inline(always)]
    fn fwmark(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn hash(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn mtu(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn vlan(&self) -> u16 {
        0
    }

    #[inline(always)]
    fn priority(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn is_seen_again(&self) -> bool {
        true
    }

    /// Returns whether the frame is for the interface that it came in by, its checksum is complete, and
    /// the driver of the other one sends what is handed to it; if so, the kernel has been told where.
    #[inline(always)]
    fn can_leave_by(&self, ifindex: u32) -> bool {
        let Some(true) = is_for_us(self.0) else { return false };
        let finished = if V6 { is_finished_ipv6(self.0) } else { is_finished_ipv4(self.0) };
        finished == Some(true) && XDP_DEVICES.redirect(ifindex, u64::from(XDP_PASS)).is_ok()
    }
}

/// Returns the place of a header that can be read and written, if all of it is in the frame.
#[inline(always)]
fn place<T>(ctx: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = ctx.data() + offset;
    (start + size_of::<T>() <= ctx.data_end()).then_some(start as *mut T)
}

/// Returns whether a frame has the address of the interface that it came in by: one in promiscuous mode
/// has others as well.
#[inline(always)]
fn is_for_us(ctx: &XdpContext) -> Option<bool> {
    let ifindex = ctx.ingress_ifindex() as u32;
    // SAFETY: both lie inside the frame; for their alignment, see `skb`.
    let (head, tail) = unsafe { (*place::<u32>(ctx, 0)?, *place::<u16>(ctx, 4)?) };
    let own = XDP_ADDRESSES.get(driver_slot(ifindex))?;
    let differs = (own.ifindex ^ ifindex) | (own.head ^ head) | (own.tail ^ u32::from(tail));
    Some(differs == 0)
}

/// Returns the place of the checksum of a transport header.
#[inline(always)]
fn checksum(ctx: &XdpContext, protocol: u8, transport: usize) -> Option<*mut u16> {
    place(ctx, ETHERNET_LENGTH + transport + checksum_offset(protocol))
}

#[inline(always)]
fn is_finished_ipv4(ctx: &XdpContext) -> Option<bool> {
    // SAFETY: the header lies inside the frame; for its alignment, see `skb`.
    let header = unsafe { &*place::<Ipv4>(ctx, ETHERNET_LENGTH)? };
    let checksum = checksum(ctx, header.protocol, Ipv4::HEADER)?;
    let length = u16::from_be(header.version_to_fragment[1]).wrapping_sub(Ipv4::HEADER as u16);
    let ends = header.ends.map(|end| [end]);
    // SAFETY: as above.
    Some(!is_unfinished(&ends, header.protocol, length, unsafe { *checksum }))
}

#[inline(always)]
fn is_finished_ipv6(ctx: &XdpContext) -> Option<bool> {
    // SAFETY: the header lies inside the frame; for its alignment, see `skb`.
    let header = unsafe { &*place::<Ipv6>(ctx, ETHERNET_LENGTH)? };
    let protocol = header.version_to_next_header[6];
    let checksum = checksum(ctx, protocol, Ipv6::HEADER)?;
    let [.., high, low, _] = header.version_to_next_header;
    // SAFETY: as above.
    let checksum = unsafe { *checksum };
    Some(!is_unfinished(&header.ends, protocol, u16::from_be_bytes([high, low]), checksum))
}

#[inline(always)]
fn change<const UP: bool, const V6: bool>(ctx: &XdpContext, taken: &Taken) -> Option<()> {
    let Taken { udp, target, .. } = taken;
    // SAFETY: the whole header lies inside the frame, which nobody else has; for its alignment, see `skb`.
    let (checksum, ports) = unsafe {
        if V6 {
            let header = &mut *place::<Ipv6>(ctx, ETHERNET_LENGTH)?;
            let checksum = checksum(ctx, header.version_to_next_header[6], Ipv6::HEADER)?;
            (checksum, header.rewrite::<UP>(target))
        } else {
            let header = &mut *place::<Ipv4>(ctx, ETHERNET_LENGTH)?;
            (checksum(ctx, header.protocol, Ipv4::HEADER)?, header.rewrite::<UP>(target))
        }
    };
    adjust(checksum, *udp, target.address_change, ports);
    set_addresses(ctx, target)
}

/// Changes the checksum of a transport header with the address and the port, before and after. UDP may
/// have none, which is written as 0 (RFC 768).
#[inline(always)]
fn adjust(checksum: *mut u16, udp: bool, address_change: u16, ports: [u16; 2]) {
    // SAFETY: the verifier has seen that the place lies inside the frame.
    unsafe {
        let before = *checksum;
        if udp && before == 0 {
            return;
        }
        let mut after = adjusted(before, address_change);
        if ports[0] != ports[1] {
            after = adjusted(adjusted(after, !ports[0]), ports[1]);
        }
        *checksum = if udp && after == 0 { 0xffff } else { after };
    }
}

#[inline(always)]
fn set_addresses(ctx: &XdpContext, target: &Target) -> Option<()> {
    // SAFETY: as above.
    unsafe { *place::<[u32; 3]>(ctx, 0)? = target.mac };
    Some(())
}
