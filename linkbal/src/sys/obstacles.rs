//! Filters of others that packets with shortcuts would pass by, as the kernel lists them.

use std::io;

use libc::{RTM_GETTFILTER, RTM_NEWTFILTER, TCA_KIND, TCA_OPTIONS};
use netlink_packet_core::NLM_F_DUMP;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{
    events::messages::{TC_H_EGRESS, TC_H_INGRESS},
    netlink::{
        exchange::Connection,
        wire::{Message, TRAFFIC_CONTROL_HEADER, attribute, request, text},
    },
};

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
    Connection::open(NETLINK_ROUTE)?.find(asked, |message| foreign(message, after))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    use netlink_packet_core::NLMSG_DONE;

    use crate::sys::netlink::{
        exchange::read,
        wire::{messages, nla},
    };

    fn filter(handle: u32, preference: u32, kind: &str, name: Option<&str>) -> Vec<u8> {
        let words =
            [0, 7, handle, TC_H_INGRESS, preference << 16 | 8].map(u32::to_ne_bytes).concat();
        let options = name.map(|name| nla(TCA_BPF_NAME, name.as_bytes())).unwrap_or_default();
        let attributes = [nla(TCA_KIND, kind.as_bytes()), nla(TCA_OPTIONS, &options)].concat();
        request(RTM_NEWTFILTER, 0, &[words, attributes].concat())
    }

    fn found(answer: &[Vec<u8>], after: u16) -> Option<String> {
        let answer = answer.concat();
        let outcome = read(messages(&answer), &mut |message| foreign(message, after));
        match outcome.expect("no error") {
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
}
