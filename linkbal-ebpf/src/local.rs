//! Local traffic: programs of a cgroup, which run when a socket connects or sends.

use core::hint::black_box;

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_setsockopt},
    macros::{cgroup_skb, cgroup_sock_addr},
    programs::{SkBuffContext, SockAddrContext, TcContext},
};
use linkbal_common::{
    flow::{Address, FlowKey},
    local::{self, LocalSocket, Sending, udp_request},
    uplink::Family,
};

use crate::{maps::SOCKET_MARKS, skb::Skb, tables::Maps};

/// `SOL_SOCKET` and `SO_MARK` (include/uapi/asm-generic/socket.h).
const SOL_SOCKET: i32 = 1;
const SO_MARK: i32 = 36;

/// The return value that lets the system call go on.
const PROCEED: i32 = 1;

/// The return value that lets the system call fail with `EPERM`, as a firewall does.
const REFUSE: i32 = 0;

/// The return value that lets a packet on to its socket.
const PASS: i32 = 1;

/// `TCP_ESTABLISHED` (include/net/tcp_states.h), the state of any socket that is connected.
const ESTABLISHED: u32 = 1;

/// The first words of an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
const MAPPED: [u32; 3] = [0, 0, 0xffffu32.to_be()];

/// Reads a field of the context or of the socket; the verifier wants each as a load of its own.
macro_rules! read {
    ($struct:expr, $($field:tt)+) => {
        // SAFETY: both are valid for the length of the program, and the field is open to programs
        // of this attach type: the verifier checks that.
        unsafe { (&raw const (*$struct).$($field)+).read_volatile() }
    };
}

/// Runs at `connect` of an IPv4 socket: TCP, UDP and pings.
#[cgroup_sock_addr(connect4)]
fn linkbal_connect4(ctx: SockAddrContext) -> i32 {
    let destination = [read!(ctx.sock_addr, user_ip4), 0, 0, 0];
    connect(&ctx, Family::Ipv4 as u8, bound_ipv4(&ctx), destination)
}

/// Runs at `connect` of an IPv6 socket, which may go to an IPv4 address.
#[cgroup_sock_addr(connect6)]
fn linkbal_connect6(ctx: SockAddrContext) -> i32 {
    let words = user_ip6(ctx.sock_addr);
    let unlike = (words[0] ^ MAPPED[0]) | (words[1] ^ MAPPED[1]) | (words[2] ^ MAPPED[2]);
    // Without a branch: the verifier would walk all that follows once for each family.
    let ipv6 = black_box((unlike | unlike.wrapping_neg()) >> 31);
    let mask = black_box(ipv6.wrapping_neg());
    let destination =
        [words[0] & mask | words[3] & !mask, words[1] & mask, words[2] & mask, words[3] & mask];
    let family = Family::Ipv4 as u8 + (Family::Ipv6 as u8 - Family::Ipv4 as u8) * ipv6 as u8;
    connect(&ctx, family, bound_ipv6(&ctx), destination)
}

/// Runs at `sendto` and `sendmsg` of an unconnected UDP socket to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
fn linkbal_sendmsg4(ctx: SockAddrContext) -> i32 {
    let source = [read!(ctx.sock_addr, msg_src_ip4), 0, 0, 0];
    let destination = [read!(ctx.sock_addr, user_ip4), 0, 0, 0];
    let socket = socket(&ctx, Family::Ipv4 as u8, source, destination);
    match local::send::<false, _>(&socket, &Maps::<_, true>(&ctx)) {
        Sending::AsItIs => PROCEED,
        Sending::From(address) => {
            // SAFETY: as for reading; programs at `sendmsg` may write this field.
            unsafe { (&raw mut (*ctx.sock_addr).msg_src_ip4).write_volatile(address[0]) }
            PROCEED
        }
        Sending::Refused => REFUSE,
    }
}

/// Runs at `sendto` and `sendmsg` of an unconnected UDP socket to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
fn linkbal_sendmsg6(ctx: SockAddrContext) -> i32 {
    let source = [
        read!(ctx.sock_addr, msg_src_ip6[0]),
        read!(ctx.sock_addr, msg_src_ip6[1]),
        read!(ctx.sock_addr, msg_src_ip6[2]),
        read!(ctx.sock_addr, msg_src_ip6[3]),
    ];
    let socket = socket(&ctx, Family::Ipv6 as u8, source, user_ip6(ctx.sock_addr));
    match local::send::<true, _>(&socket, &Maps::<_, true>(&ctx)) {
        Sending::AsItIs => PROCEED,
        Sending::From(address) => {
            // SAFETY: as for reading; programs at `sendmsg` may write this field.
            unsafe {
                (&raw mut (*ctx.sock_addr).msg_src_ip6[0]).write_volatile(address[0]);
                (&raw mut (*ctx.sock_addr).msg_src_ip6[1]).write_volatile(address[1]);
                (&raw mut (*ctx.sock_addr).msg_src_ip6[2]).write_volatile(address[2]);
                (&raw mut (*ctx.sock_addr).msg_src_ip6[3]).write_volatile(address[3]);
            }
            PROCEED
        }
        Sending::Refused => REFUSE,
    }
}

/// Runs for each packet that is delivered to a socket: notes the addresses at which servers are
/// asked.
#[cgroup_skb(ingress)]
fn linkbal_delivered(ctx: SkBuffContext) -> i32 {
    let sk = read!(ctx.skb.skb, __bindgen_anon_2.sk);
    // Connected sockets, of TCP above all, have an address. A broadcast address sends no answer.
    if sk.is_null() || read!(sk, state) == ESTABLISHED || read!(ctx.skb.skb, pkt_type) != 0 {
        return PASS;
    }
    let ctx = TcContext::new(ctx.skb.skb);
    // SAFETY: the context is valid for the length of the program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    udp_request::note(&Skb::<true>(&ctx), &Maps::<_, true>(&ctx), cookie);
    PASS
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, family: u8, source: Address, destination: Address) -> i32 {
    let socket = socket(ctx, family, source, destination);
    if let Some(fwmark) = local::connect(&socket, &Maps::<_, true>(ctx)) {
        give(ctx, fwmark);
    }
    PROCEED
}

/// Sets the fwmark of the socket, and stores that it is linkbal's.
#[inline(always)]
fn give(ctx: &SockAddrContext, mut fwmark: u32) {
    // SAFETY: the storage belongs to the socket of the context, and null is checked.
    let given = unsafe { SOCKET_MARKS.get_or_insert_ptr_mut(ctx, None) };
    if given.is_null() {
        return;
    }
    let length = size_of::<u32>() as i32;
    let value = (&raw mut fwmark).cast();
    // SAFETY: `value` is as long as `length` says.
    let status = unsafe { bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_MARK, value, length) };
    if status == 0 {
        // SAFETY: the entry lives as long as the socket; an aligned 32-bit store.
        unsafe { given.write_volatile(fwmark) }
    }
}

#[inline(always)]
fn socket(ctx: &SockAddrContext, family: u8, source: Address, destination: Address) -> LocalSocket {
    let sk = sk(ctx);
    // SAFETY: the context is valid for the length of the program.
    let (netns_cookie, cookie) =
        unsafe { (bpf_get_netns_cookie(ctx.as_ptr()), bpf_get_socket_cookie(ctx.as_ptr())) };
    // SAFETY: the storage belongs to the socket of the context, and null is checked.
    let given = unsafe { SOCKET_MARKS.get_ptr_mut(ctx) };
    // SAFETY: the entry lives as long as the socket.
    let given_fwmark = if given.is_null() { 0 } else { unsafe { given.read_volatile() } };
    LocalSocket {
        netns_cookie,
        cookie,
        device: read!(sk, bound_dev_if),
        fwmark: read!(sk, mark),
        given_fwmark,
        key: FlowKey {
            source,
            destination,
            source_port: (read!(sk, src_port) as u16).to_be(),
            destination_port: read!(ctx.sock_addr, user_port) as u16,
            protocol: read!(ctx.sock_addr, protocol) as u8,
            family,
            reserved: 0,
        },
    }
}

#[inline(always)]
fn sk(ctx: &SockAddrContext) -> *mut aya_ebpf::bindings::bpf_sock {
    read!(ctx.sock_addr, __bindgen_anon_1.sk)
}

#[inline(always)]
fn bound_ipv4(ctx: &SockAddrContext) -> Address {
    [read!(sk(ctx), src_ip4), 0, 0, 0]
}

#[inline(always)]
fn bound_ipv6(ctx: &SockAddrContext) -> Address {
    let sk = sk(ctx);
    [read!(sk, src_ip6[0]), read!(sk, src_ip6[1]), read!(sk, src_ip6[2]), read!(sk, src_ip6[3])]
}

#[inline(always)]
fn user_ip6(sock_addr: *const bpf_sock_addr) -> Address {
    [
        read!(sock_addr, user_ip6[0]),
        read!(sock_addr, user_ip6[1]),
        read!(sock_addr, user_ip6[2]),
        read!(sock_addr, user_ip6[3]),
    ]
}
