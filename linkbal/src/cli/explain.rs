//! `linkbal explain`.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hyper::Method;

use super::{print, request};
use crate::{
    api::{
        client,
        explain::{Explanation, LiveFlow, Outcome, Question},
    },
    config::{dscp_named, outline::protocol as name_of},
};

/// Maximum number of addresses of a name that are asked about.
const MAX_ADDRESSES: usize = 8;

/// Protocols with a name; others are given by their number.
const PROTOCOLS: [(&str, u8); 8] = [
    ("icmp", 1),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("sctp", 132),
];

/// The flow that is asked about.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Address of the LAN host, with its source port if it is known, like 10.0.0.5 or
    /// [fd77::5]:40000; with --from-gateway it can be left out
    #[arg(value_name = "SRC")]
    first: String,
    /// Destination: an address or a name, with a port for TCP, UDP and SCTP, like example.com:443 or
    /// [2001:db8::1]:443
    #[arg(value_name = "DST[:PORT]")]
    second: Option<String>,
    /// Protocol by name or number [default: tcp with a port, icmp without]
    #[arg(long, short)]
    protocol: Option<String>,
    /// Interface that the packets come in by [default: the one that leads to SRC]
    #[arg(long, short, value_name = "INTERFACE")]
    iface: Option<String>,
    /// MAC address of the host, for rules with `mac`
    #[arg(long)]
    mac: Option<String>,
    /// VLAN of a tag that the packets carry, for rules with `vlan`
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4094))]
    vlan: Option<u16>,
    /// DSCP of the packets, for rules with `dscp`: 0 to 63, or a name like ef
    #[arg(long, value_parser = dscp)]
    dscp: Option<u8>,
    /// Ask about a program of the gateway itself that connects
    #[arg(long)]
    from_gateway: bool,
    /// Show the live flows with these ends, one on each line
    #[arg(long)]
    live: bool,
    /// Print one JSON object on each line, for each address, for programs
    #[arg(long)]
    json: bool,
}

/// Asks the daemon what becomes of a flow, and prints the answer.
pub(super) fn explain(args: &ExplainArgs) -> Result<()> {
    let questions = questions(args)?;
    for (name, question) in questions {
        let text = request(Method::GET, &question.path())?;
        if args.json {
            print(&(text + "\n"))?;
            continue;
        }
        let answer = client::read(&text)?;
        print(&render(name.as_deref(), &answer, args.live))?;
    }
    Ok(())
}

/// Returns the questions, one for each address of a name, with the name.
fn questions(args: &ExplainArgs) -> Result<Vec<(Option<String>, Question)>> {
    let (source, destination) = match (&args.second, args.from_gateway) {
        (Some(second), _) => (Some(args.first.as_str()), second.as_str()),
        (None, true) => (None, args.first.as_str()),
        (None, false) => {
            bail!(
                "the destination is missing: linkbal explain SRC DST[:PORT], like 10.0.0.5 example.com:443"
            )
        }
    };
    let (host, port) = split(destination)?;
    let source = match source {
        None => None,
        Some(text) => {
            let (host, port) = split(text)?;
            let address: IpAddr = host.parse().ok().with_context(|| {
                format!("{host:?} is no address: SRC is that of a host of the LAN, like 10.0.0.5")
            })?;
            Some((address, port))
        }
    };
    let literal: Option<IpAddr> = host.parse().ok();
    let addresses = match literal {
        Some(address) => vec![address],
        None => resolve(host)?,
    };
    let usable: Vec<_> = addresses
        .iter()
        .filter(|address| source.is_none_or(|(source, _)| source.is_ipv4() == address.is_ipv4()))
        .take(MAX_ADDRESSES)
        .collect();
    if usable.is_empty() {
        bail!("{host} has no address of the family of the source ({} others)", addresses.len());
    }
    let name = literal.is_none().then(|| host.to_owned());
    let each = usable.into_iter().map(|destination| {
        let any: IpAddr = match destination {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let (source, source_port) = source.unwrap_or((any, None));
        let protocol = protocol(args.protocol.as_deref(), port, destination.is_ipv4())?;
        let has_ports = matches!(protocol, 6 | 17 | 132);
        if has_ports && port.is_none() {
            bail!("{} needs the port of the destination, like {host}:443", name_of(protocol));
        }
        let question = Question {
            source,
            source_port,
            destination: *destination,
            destination_port: port.filter(|_| has_ports),
            protocol,
            interface: args.iface.clone(),
            mac: args.mac.clone(),
            vlan: args.vlan,
            dscp: args.dscp,
            from_gateway: args.from_gateway,
        };
        Ok((name.clone(), question))
    });
    each.collect()
}

/// Parses a DSCP value, given by name or number.
fn dscp(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|number| *number < 64);
    number.or_else(|| dscp_named(&text.to_lowercase())).ok_or_else(|| {
        "write a number from 0 to 63, or a name: cs0 to cs7, af11 to af43, ef, va or le".into()
    })
}

/// Splits `HOST:PORT` and `[HOST]:PORT`; a bare IPv6 address has no port.
fn split(text: &str) -> Result<(&str, Option<u16>)> {
    let port = |port: &str| {
        port.parse::<u16>().ok().with_context(|| format!("{port:?} is no port: write 1 to 65535"))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').context("a `]` is missing behind the address")?;
        return match rest.strip_prefix(':') {
            Some(number) => Ok((host, Some(port(number)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => bail!("write [ADDRESS]:PORT"),
        };
    }
    match text.split_once(':') {
        Some((host, number)) if !number.contains(':') => Ok((host, Some(port(number)?))),
        _ => Ok((text, None)),
    }
}

/// Returns the number of a protocol.
fn protocol(text: Option<&str>, port: Option<u16>, is_ipv4: bool) -> Result<u8> {
    let ping = if is_ipv4 { 1 } else { 58 };
    let Some(text) = text else { return Ok(if port.is_some() { 6 } else { ping }) };
    let lower = text.to_lowercase();
    if lower == "icmp" {
        return Ok(ping);
    }
    let named = PROTOCOLS.iter().find(|(name, _)| *name == lower).map(|(_, number)| *number);
    named.or_else(|| lower.parse().ok()).with_context(|| {
        let names: Vec<_> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is no protocol: write a number up to 255, or one of {}", names.join(", "))
    })
}

fn resolve(name: &str) -> Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs();
    let found = found.with_context(|| {
        format!("{name} has no address here: write an address, or ask the LAN's DNS server")
    })?;
    let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Renders an answer: first what becomes of the next packet.
fn render(name: Option<&str>, answer: &Explanation, live: bool) -> String {
    let mut text = String::new();
    let mut line = |label: &str, said: &str| {
        // A string takes all.
        let _ = writeln!(text, "  {label:<10} {said}");
    };
    let open = answer.now.outcome == Outcome::ByPort;
    line(if open { "if new" } else { "now" }, &answer.now.text);
    if let Some(down) = &answer.if_down {
        line("if down", &down.text);
    }
    if let Some(new) = &answer.new {
        line("if new", &new.text);
    }
    let shown = if live || answer.flows.len() == 1 { &answer.flows[..] } else { &[] };
    if shown.is_empty() && answer.flow_count > 0 {
        line("live", &format!("{} flows; --live shows some", answer.flow_count));
    }
    for flow in shown {
        line("live", &live_flow(flow));
    }
    if let Some(connection) = &answer.connection {
        let port = connection.translated_port.map(|port| format!(" port {port}"));
        let uplink = connection.uplink.as_deref().unwrap_or("no uplink");
        let forwarded = match connection.answered_by == answer.question.destination {
            true => String::new(),
            false => format!(", answered by {}", connection.answered_by),
        };
        line(
            "tracked",
            &format!(
                "leaves as {}{}, marked for {uplink}{forwarded}",
                connection.translated_source,
                port.unwrap_or_default()
            ),
        );
    }
    let offloaded = answer.connection.as_ref().is_some_and(|connection| connection.offloaded);
    match answer.shortcut {
        Some(true) => line("shortcut", "its packets pass the kernel's forwarding by"),
        Some(false) => line("shortcut", "none is stored for it"),
        None if offloaded => line("shortcut", "its packets take the kernel's flowtable"),
        None => {}
    }
    match (&answer.domains[..], name) {
        ([], Some(_)) => line("domain", "the datapath knows the address by no domain of a rule"),
        ([], None) => {}
        (domains, _) => line("domain", &format!("known as {}", domains.join(", "))),
    }
    for said in &answer.outside {
        line("outside", said);
    }
    format!("{}\n{text}", title(name, &answer.question))
}

/// Returns the flow in one line.
fn title(name: Option<&str>, question: &Question) -> String {
    let end = |address: IpAddr, port: Option<u16>| match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
    };
    let from = match (question.from_gateway, question.source.is_unspecified()) {
        (true, true) => "the gateway".into(),
        _ => end(question.source, question.source_port),
    };
    let by = question.interface.iter().map(|name| format!(", by {name}"));
    let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
    format!(
        "{from} -> {}{name} {}{}",
        end(question.destination, question.destination_port),
        name_of(question.protocol),
        by.collect::<String>()
    )
}

fn live_flow(flow: &LiveFlow) -> String {
    let time = |seconds: u32| humantime::format_duration(Duration::from_secs(seconds.into()));
    let answered = if flow.answered { "" } else { ", not answered yet" };
    format!(
        "{} since {}, last packet {} ago{answered}, from port {}: {}",
        flow.uplink,
        time(flow.age_s),
        time(flow.idle_s),
        flow.source_port,
        flow.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(first: &str, second: Option<&str>) -> ExplainArgs {
        ExplainArgs {
            first: first.into(),
            second: second.map(str::to_owned),
            protocol: None,
            iface: None,
            mac: None,
            vlan: None,
            dscp: None,
            from_gateway: false,
            live: false,
            json: false,
        }
    }

    #[test]
    fn ends_are_written_in_the_usual_ways() {
        let ask = |first: &str, second: &str| {
            let questions = questions(&args(first, Some(second))).expect("questions");
            let Question { source_port, destination_port, protocol, .. } = questions[0].1;
            (source_port, destination_port, protocol)
        };
        assert_eq!(ask("10.0.0.5", "198.51.100.7:443"), (None, Some(443), 6));
        assert_eq!(ask("10.0.0.5:4000", "198.51.100.7"), (Some(4000), None, 1));
        assert_eq!(ask("[fd77::5]:40000", "[2001:db8::1]:53"), (Some(40_000), Some(53), 6));
        assert_eq!(ask("fd77::5", "2001:db8::1"), (None, None, 58));
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_way_out() {
        let refused = |args: &ExplainArgs| format!("{:#}", questions(args).expect_err("an error"));
        assert!(refused(&args("10.0.0.5", None)).contains("destination is missing"));
        assert!(refused(&args("host", Some("198.51.100.7:80"))).contains("no address"));
        assert!(refused(&args("10.0.0.5", Some("2001:db8::1"))).contains("family"));
        assert!(refused(&args("10.0.0.5", Some("198.51.100.7:http"))).contains("no port"));
        let tcp =
            ExplainArgs { protocol: Some("tcp".into()), ..args("10.0.0.5", Some("198.51.100.7")) };
        assert!(refused(&tcp).contains("needs the port"));
        let unknown =
            ExplainArgs { protocol: Some("tpc".into()), ..args("10.0.0.5", Some("198.51.100.7")) };
        assert!(refused(&unknown).contains("no protocol"));
    }

    #[test]
    fn a_program_of_the_gateway_needs_no_source() {
        let local = ExplainArgs { from_gateway: true, ..args("[2001:db8::1]:443", None) };
        let (_, question) = &questions(&local).expect("questions")[0];
        assert!(question.from_gateway && question.source.is_unspecified());
        assert_eq!(title(None, question), "the gateway -> [2001:db8::1]:443 tcp");
    }
}
