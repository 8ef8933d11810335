//! A survey of other firewalls, as their own programs list them, and of where the kernel sends
//! packets.

use std::{
    fs,
    io::{self, ErrorKind},
    net::IpAddr,
    path::Path,
};

use anyhow::Result;
use futures::StreamExt as _;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType},
};

use super::{
    host::{
        child::{self, Invocation},
        descriptors, file,
    },
    netlink::{Netlink, address_family},
    nft,
};
use crate::engine::kernel::conflict::{
    lookup::{LookedUpRoute, RouteAnswer, RouteQuestion},
    survey::Survey,
};

/// Files in which the kernel lists the existing tables of iptables-legacy, and the program that
/// prints them; reading them creates none.
const LEGACY: [(&str, &str); 2] = [
    ("/proc/net/ip_tables_names", "iptables-legacy-save"),
    ("/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
];

/// Files that the services netfilter-persistent and nftables read at boot.
const SAVED: [&str; 3] = ["/etc/iptables/rules.v4", "/etc/iptables/rules.v6", "/etc/nftables.conf"];

/// Most bytes of them that are read.
const MAX_SAVED: u64 = 1 << 20;

/// Reads the firewalls of others, and asks where packets go.
///
/// # Errors
///
/// If nft or the kernel does not answer.
pub async fn survey(questions: Vec<RouteQuestion>) -> Result<Survey> {
    let _lent = descriptors::lend();
    let mut survey = Survey::of(&nft::ruleset().await?);
    if survey.unread {
        let mut read = true;
        for program in ["iptables-nft-save", "ip6tables-nft-save"] {
            match save(program).await {
                Some(text) => survey.read_iptables(program, &text),
                None => read = false,
            }
        }
        survey.unread = !read;
    }
    for (names, program) in LEGACY {
        let tables = fs::read_to_string(names).unwrap_or_default();
        if !tables.trim().is_empty()
            && let Some(text) = save(program).await
        {
            survey.read_iptables(program, &text);
        }
    }
    if !questions.is_empty() {
        let netlink = Netlink::connect()?;
        for question in questions {
            let answer = netlink.route_get(&question).await?;
            survey.paths.push(LookedUpRoute { question, answer });
        }
    }
    Ok(survey)
}

/// Returns the files that a firewall's service reads at boot, as far as they mark or masquerade.
pub fn saved() -> Vec<String> {
    let changes = |path: &&str| {
        let text = file::read(Path::new(path), MAX_SAVED).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let words = ["MARK", "MASQUERADE", "masquerade", "mark set"];
        words.iter().any(|word| text.contains(word))
    };
    SAVED.into_iter().filter(changes).map(str::to_owned).collect()
}

/// Returns what a program prints; `None` if it is missing or fails.
async fn save(program: &str) -> Option<String> {
    let printed = match child::run(Invocation::new(program, &[]), |_| {}).await {
        Ok(printed) => printed,
        Err(error) => {
            let missing = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if missing != Some(ErrorKind::NotFound) {
                tracing::warn!("{error:#}");
            }
            return None;
        }
    };
    printed.status.success().then(|| String::from_utf8_lossy(&printed.stdout).into_owned())
}

impl Netlink {
    /// Asks for the route of a packet that comes in by an interface, as `ip route get` does.
    async fn route_get(&self, question: &RouteQuestion) -> Result<RouteAnswer> {
        let request = RouteNetlinkMessage::GetRoute(build(question));
        let mut replies = self.request(request, 0)?;
        Ok(match replies.next().await.map(|reply| reply.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(message))) => {
                answer(&message)
            }
            Some(NetlinkPayload::Error(error)) => RouteAnswer::Refused(error.to_io().to_string()),
            _ => RouteAnswer::Refused("no answer".into()),
        })
    }
}

fn build(question: &RouteQuestion) -> RouteMessage {
    let mut message = RouteMessage::default();
    let length = if question.source.is_ipv4() { 32 } else { 128 };
    message.header.address_family = address_family(question.family);
    message.header.destination_prefix_length = length;
    message.header.source_prefix_length = length;
    // Else the kernel says main, whatever table it was.
    message.header.flags = RouteFlags::LookupTable;
    message.attributes.extend([
        RouteAttribute::Destination(question.destination.into()),
        RouteAttribute::Source(question.source.into()),
        RouteAttribute::Iif(question.iif),
        RouteAttribute::Mark(question.fwmark),
    ]);
    message
}

fn answer(message: &RouteMessage) -> RouteAnswer {
    match message.header.kind {
        RouteType::Unicast | RouteType::Local => {}
        kind => return RouteAnswer::Refused(format!("{kind:?}").to_lowercase()),
    }
    let mut table = message.header.table.into();
    let (mut oif, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(ifindex) => oif = Some(*ifindex),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            _ => {}
        }
    }
    RouteAnswer::Route { table, oif, gateway }
}
