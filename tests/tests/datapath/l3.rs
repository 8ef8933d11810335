//! A LAN interface without link-layer headers: a tunnel.

use std::{
    fs::File,
    io::Write as _,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use linkbal::{
    engine::kernel::network::{Link, Role},
    sys::netlink::Netlink,
};
use linkbal_common::counter::Counter;
use linkbal_lab::{namespace::Namespace, wait};

use crate::{
    fixture::Fixture,
    packets::{answer, plain},
};

/// Time that a packet may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// `struct ifreq` as `TUNSETIFF` wants it (include/uapi/linux/if.h, if_tun.h).
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// Makes a tunnel that receives the packets which are written to the file.
fn tunnel(name: &str) -> Result<File> {
    // SAFETY: a plain system call with a string that ends in zero.
    let fd = unsafe { libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    ensure!(fd >= 0, "failed to open /dev/net/tun: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    let mut request = InterfaceRequest { name: [0; 16], flags, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the kernel reads and writes a struct of that size.
    let status = unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF as _, &raw mut request) };
    ensure!(status == 0, "failed to make a tunnel: {}", std::io::Error::last_os_error());
    Ok(fd.into())
}

/// Returns a tunnel's link as netlink lists it.
fn link(name: &str) -> Result<Link> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let snapshot = runtime.block_on(async { Netlink::connect()?.snapshot().await })?;
    let link = snapshot.link(name).with_context(|| format!("{name} is not listed"))?.clone();
    ensure!(!link.ethernet);
    Ok(link)
}

#[test]
fn packets_without_link_layer_headers_are_marked_like_others() -> Result<()> {
    let namespace = Namespace::new("bare")?;
    let _entered = namespace.enter()?;
    let mut tunnel = tunnel("tun0")?;
    namespace.run("ip", &["link", "set", "tun0", "up"])?;
    let mut fixture = Fixture::new()?;
    let failures = fixture.datapath.take_over(&[(Role::Lan, link("tun0")?)]);
    ensure!(failures.is_empty(), "{failures:?}");
    let plain = plain();
    for shape in &plain {
        tunnel.write_all(&shape.bytes[shape.network..])?;
    }
    wait::until("the packets", LIMIT, || {
        Ok((fixture.counter(Counter::FlowProposed)? == plain.len() as u64).then_some(()))
    })?;
    Ok(())
}

#[test]
fn flows_by_a_tunnel_are_learned_and_their_answers_counted() -> Result<()> {
    let namespace = Namespace::new("bare")?;
    let _entered = namespace.enter()?;
    let (mut lan, mut uplink) = (tunnel("tun0")?, tunnel("tun1")?);
    let routes = "link set tun0 up\nlink set tun1 up\n\
                  route add 10.0.0.0/24 dev tun0\nroute add 2001:db8:1::/64 dev tun0\n\
                  route add 198.51.100.0/24 dev tun1\nroute add 2001:db8:2::/64 dev tun1\n";
    namespace.ip_batch(routes)?;
    namespace.set_sysctl("net.ipv4.ip_forward", "1")?;
    namespace.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
    let mut fixture = Fixture::new()?;
    let interfaces = [(Role::Lan, link("tun0")?), (Role::Wan, link("tun1")?)];
    let failures = fixture.datapath.take_over(&interfaces);
    ensure!(failures.is_empty(), "{failures:?}");
    let second = 1;
    fixture.datapath.set_uplink_interfaces(&[(link("tun1")?.ifindex, second)].into())?;
    let plain = plain();
    let count = |counter| fixture.counter(counter);
    for shape in &plain {
        lan.write_all(&shape.bytes[shape.network..])?;
        // The answers to echoes are of the requests' flows.
        wait::until("its flow", LIMIT, || {
            let learned = count(Counter::FlowNew)? + count(Counter::FlowAdopted)?;
            Ok((learned == count(Counter::FlowProposed)?).then_some(()))
        })?;
    }
    let flows = plain.len() as u64 - 2;
    ensure!(count(Counter::FlowProposed)? == flows);
    for shape in &plain {
        lan.write_all(&shape.bytes[shape.network..])?;
        uplink.write_all(&answer(shape)[shape.network..])?;
    }
    wait::until("packets of known flows", LIMIT, || {
        Ok((count(Counter::FlowKnown)? == 2 + plain.len() as u64).then_some(()))
    })?;
    // All, whatever was proposed, since that is where they leave.
    wait::until("answers", LIMIT, || {
        let counters = fixture.datapath.uplink_counters()?[second as usize];
        let packets = counters.packets == 2 * plain.len() as u64;
        Ok((packets && counters.answers == plain.len() as u64).then_some(()))
    })
}
