//! Things that packets with shortcuts would pass by, as the kernel lists them: IPsec policies, and filters
//! at the ingress of an interface.

use std::{io, ops::ControlFlow};

use libc::{RTM_GETTFILTER, RTM_NEWTFILTER, TCA_KIND, TCA_OPTIONS};
use netlink_packet_core::{NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR};
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_ROUTE, NETLINK_XFRM},
};

use super::{
    events::messages::{TC_H_EGRESS, TC_H_INGRESS},
    netlink::wire::{Message, TRAFFIC_CONTROL_HEADER, attribute, messages, request, text},
};

/// Requests for the numbers of policies and for what happens without one, the answer to the former, and
/// its attribute (include/uapi/linux/xfrm.h).
const XFRM_MSG_NEWSPDINFO: u16 = 0x24;
const XFRM_MSG_GETSPDINFO: u16 = 0x25;
const XFRM_MSG_GETDEFAULT: u16 = 0x28;
const XFRMA_SPD_INFO: u16 = 1;
/// Length of the flags before the attributes.
const SPD_FLAGS: usize = 4;
/// Action of a policy: `XFRM_POLICY_BLOCK`, and `XFRM_USERPOLICY_BLOCK` without one.
pub(super) const XFRM_POLICY_BLOCK: u8 = 1;

/// Returns what IPsec does to packets, in words; `None` if nothing.
///
/// # Errors
///
/// If the kernel does not tell.
pub fn ipsec() -> io::Result<Option<String>> {
    let asked = request(XFRM_MSG_GETSPDINFO, 0, &[0; SPD_FLAGS]);
    if ask_xfrm(&asked, has_policies)? == Some(true) {
        return Ok(Some("IPsec policies exist".into()));
    }
    Ok(blocks_by_default()?.then(|| "IPsec blocks packets without a policy".into()))
}

/// Returns whether packets without a policy are blocked on any of their ways.
pub(super) fn blocks_by_default() -> io::Result<bool> {
    let asked = request(XFRM_MSG_GETDEFAULT, 0, &[0; SPD_FLAGS]);
    Ok(ask_xfrm(&asked, blocks)? == Some(true))
}

/// Returns whether packets without a policy are blocked, from the kernel's answer: a byte for each way.
fn blocks(message: &Message<'_>) -> Option<bool> {
    let answer = message.kind == XFRM_MSG_GETDEFAULT;
    answer.then(|| message.payload.iter().take(3).any(|action| *action == XFRM_POLICY_BLOCK))
}

/// Returns whether there are policies, those of single sockets left out, from the kernel's answer.
fn has_policies(message: &Message<'_>) -> Option<bool> {
    if message.kind != XFRM_MSG_NEWSPDINFO {
        return None;
    }
    // The numbers of those for input, output and forwarding; then come those of sockets.
    let numbers =
        attribute(message.payload.get(SPD_FLAGS..)?, XFRMA_SPD_INFO)?.first_chunk::<12>()?;
    Some(numbers.iter().any(|byte| *byte != 0))
}

/// Attribute of a filter's options: the name of its program (include/uapi/linux/pkt_cls.h).
const TCA_BPF_NAME: u16 = 7;
/// Offsets of the handle and of preference and protocol in `struct tcmsg`.
const TCM_HANDLE: usize = 8;
const TCM_INFO: usize = 16;
/// Beginning of the names of linkbal's programs.
const OWN: &[u8] = b"linkbal_";

/// Returns the first filter of others at the ingress of an interface, in words, whose preference is
/// beyond `after`; `None` without one.
///
/// # Errors
///
/// If the kernel does not list them.
pub(super) fn filter(ifindex: u32, after: u16) -> io::Result<Option<String>> {
    filter_at(ifindex, TC_H_INGRESS, after)
}

/// Returns whether others have filters at the ingress or egress of an interface.
///
/// # Errors
///
/// If the kernel does not list them.
pub(super) fn has_filters(ifindex: u32) -> io::Result<bool> {
    Ok(filter_at(ifindex, TC_H_INGRESS, 0)?.or(filter_at(ifindex, TC_H_EGRESS, 0)?).is_some())
}

fn filter_at(ifindex: u32, side: u32, after: u16) -> io::Result<Option<String>> {
    let words = [0, ifindex, 0, side, 0].map(u32::to_ne_bytes).concat();
    let asked = request(RTM_GETTFILTER, NLM_F_DUMP, &words);
    ask(NETLINK_ROUTE, &asked, |message| foreign(message, after))
}

/// Returns a filter in words if it is of others.
fn foreign(message: &Message<'_>, after: u16) -> Option<String> {
    if message.kind != RTM_NEWTFILTER {
        return None;
    }
    let word = |at: usize| Some(u32::from_ne_bytes(*message.payload.get(at..)?.first_chunk()?));
    let preference = word(TCM_INFO)? >> 16;
    // With handle 0, it stands for the filters of its kind and preference, which follow.
    if word(TCM_HANDLE)? == 0 || preference <= u32::from(after) {
        return None;
    }
    let attributes = message.payload.get(TRAFFIC_CONTROL_HEADER..)?;
    let name = attribute(attributes, TCA_OPTIONS).and_then(|all| attribute(all, TCA_BPF_NAME));
    if name.is_some_and(|name| name.starts_with(OWN)) {
        return None;
    }
    let kind = String::from_utf8_lossy(text(attribute(attributes, TCA_KIND)?)).into_owned();
    Some(format!("tc filter {kind} (pref {preference})"))
}

/// Asks for IPsec, as [`ask`] does.
pub(super) fn ask_xfrm<T>(
    request: &[u8],
    find: impl FnMut(&Message<'_>) -> Option<T>,
) -> io::Result<Option<T>> {
    ask(NETLINK_XFRM, request, find)
}

/// Sends a request in the network namespace of the calling thread; returns what `find` finds first in
/// the messages of the answer.
fn ask<T>(
    protocol: isize,
    request: &[u8],
    mut find: impl FnMut(&Message<'_>) -> Option<T>,
) -> io::Result<Option<T>> {
    let socket = Socket::new(protocol)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(request, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        if let ControlFlow::Break(found) = read(&answer, &mut find)? {
            return Ok(found);
        }
    }
}

/// Returns what `find` finds in a part of an answer; `None` in its place at the end of the answer.
fn read<T>(
    answer: &[u8],
    find: &mut impl FnMut(&Message<'_>) -> Option<T>,
) -> io::Result<ControlFlow<Option<T>>> {
    for message in messages(answer) {
        match message.kind {
            NLMSG_DONE => return Ok(ControlFlow::Break(None)),
            NLMSG_ERROR => {
                let code =
                    message.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            _ => {
                if let Some(found) = find(&message) {
                    return Ok(ControlFlow::Break(Some(found)));
                }
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::wire::nla;

    fn filter(handle: u32, preference: u32, kind: &str, name: Option<&str>) -> Vec<u8> {
        let words =
            [0, 7, handle, TC_H_INGRESS, preference << 16 | 8].map(u32::to_ne_bytes).concat();
        let options = name.map(|name| nla(TCA_BPF_NAME, name.as_bytes())).unwrap_or_default();
        let attributes = [nla(TCA_KIND, kind.as_bytes()), nla(TCA_OPTIONS, &options)].concat();
        request(RTM_NEWTFILTER, 0, &[words, attributes].concat())
    }

    fn found(answer: &[Vec<u8>], after: u16) -> Option<String> {
        match read(&answer.concat(), &mut |message| foreign(message, after)).expect("no error") {
            ControlFlow::Break(found) => found,
            ControlFlow::Continue(()) => None,
        }
    }

    #[test]
    fn filters_of_others_are_found_behind_those_of_linkbal() {
        let ours = filter(1, 26, "bpf\0", Some("linkbal_ingress\0"));
        let kind = filter(0, 100, "u32\0", None);
        let theirs = filter(0x8000_0800, 100, "u32\0", None);
        let done = request(NLMSG_DONE, 0, &[0; 4]);
        assert_eq!(found(&[ours.clone(), kind.clone(), done.clone()], 0), None);
        let words = Some("tc filter u32 (pref 100)".to_owned());
        assert_eq!(found(&[ours, kind, theirs.clone(), done], 26), words);
        assert_eq!(found(&[theirs], 100), None, "it comes before linkbal's");
        let other = filter(1, 26, "bpf\0", Some("cil_from_netdev\0"));
        assert_eq!(found(&[other], 0).as_deref(), Some("tc filter bpf (pref 26)"));
    }

    #[test]
    fn refusals_are_errors() {
        let refused = request(NLMSG_ERROR, 0, &(-libc::EPERM).to_ne_bytes());
        let error = read(&refused, &mut |_| None::<()>).expect_err("an error");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn policies_of_sockets_alone_do_not_count() {
        let answer = |numbers: [u32; 6]| {
            let numbers = nla(XFRMA_SPD_INFO, &numbers.map(u32::to_ne_bytes).concat());
            let answer = request(XFRM_MSG_NEWSPDINFO, 0, &[vec![0; 4], numbers].concat());
            messages(&answer).next().and_then(|message| has_policies(&message))
        };
        assert_eq!(answer([0, 0, 0, 1, 1, 0]), Some(false));
        assert_eq!(answer([0, 0, 1, 0, 0, 0]), Some(true));
    }
}
