//! `linkbal explain`.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Error, Result};
use clap::Args;
use hyper::Method;

use super::{
    end::{self, End},
    exit::misuse,
    fold,
    leased::leased_address,
    print, request, stderr,
};
use crate::{
    api::{
        client,
        explain::{Explanation, FlowQuestion, LiveFlow},
    },
    config::dscp_named,
    mac, protocol,
};

/// Column in which the answers begin, behind their labels.
const COLUMN: usize = 13;

/// Maximum number of addresses of a name that are asked about.
const MAX_ADDRESSES: usize = 8;

/// The flow that is asked about.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Address of the LAN host, with its source port if known, like 10.0.0.5 or [fd77::5]:40000;
    /// optional with --from-gateway
    #[arg(value_name = "SRC")]
    first: String,
    /// Destination: an address or a name, with a port for TCP, UDP and SCTP, like example.com:443 or
    /// [2001:db8::1]:443
    #[arg(value_name = "DST[:PORT]")]
    second: Option<String>,
    /// Protocol by name or number [default: tcp with a port, icmp without]
    #[arg(long, short)]
    protocol: Option<String>,
    /// Interface on which the packets arrive [default: the one that leads to SRC]
    #[arg(long, short, value_name = "INTERFACE")]
    iface: Option<String>,
    /// MAC address of the host, for rules with `mac`
    #[arg(long, value_parser = mac_address)]
    mac: Option<[u8; 6]>,
    /// VLAN ID of the packets, for rules with `vlan`
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4094))]
    vlan: Option<u16>,
    /// DSCP of the packets, for rules with `dscp`: 0 to 63, or a name like ef
    #[arg(long, value_parser = dscp)]
    dscp: Option<u8>,
    /// Explain a connection of the gateway itself
    #[arg(long)]
    from_gateway: bool,
    /// Show the live flows between these endpoints, one per line
    #[arg(long)]
    live: bool,
    /// Print one JSON object per line, for each address, for programs
    #[arg(long)]
    json: bool,
}

/// Asks the daemon what becomes of a flow, and prints the answer.
pub(super) fn explain(args: &ExplainArgs) -> Result<()> {
    let Asked { questions, notes } = questions(args)?;
    notes.iter().for_each(|note| stderr::line(format_args!("linkbal: {note}")));
    for (name, question) in questions {
        let text = request(Method::GET, &question.path())?;
        if args.json {
            print(&(text + "\n"))?;
            continue;
        }
        let answer = client::read(&text)?;
        let text = render(name.as_deref(), &answer, args.live);
        print(&fold::labelled(&text, COLUMN))?;
    }
    Ok(())
}

/// The questions, one for each address of a name, with the name; and remarks on what was written.
#[derive(Debug)]
struct Asked {
    questions: Vec<(Option<String>, FlowQuestion)>,
    notes: Vec<String>,
}

const NO_DESTINATION: &str = "the destination is missing: linkbal explain SRC DST[:PORT], like 10.0.0.5 \
                              example.com:443";

fn questions(args: &ExplainArgs) -> Result<Asked> {
    let (source, destination) = match (&args.second, args.from_gateway) {
        (Some(second), _) => (Some(args.first.as_str()), second.as_str()),
        (None, true) => (None, args.first.as_str()),
        (None, false) => return Err(misuse(NO_DESTINATION)),
    };
    let end = end::read("DST", destination).map_err(misuse)?;
    let source = source.map(|text| end::read("SRC", text).map_err(misuse)).transpose()?;
    let mut notes: Vec<String> =
        source.iter().chain([&end]).filter_map(|end| end.note.clone()).collect();
    let source =
        source.map(|end| Ok::<_, Error>((host_of_lan(&end.host)?, end.port))).transpose()?;
    let family = source.map(|(address, _)| address.is_ipv4());
    let addresses = addresses(&end, source.map(|(address, _)| address))?;
    let name = end.address().is_none().then(|| end.host.clone());
    let usable = addresses.iter().filter(|address| family.is_none_or(|v4| v4 == address.is_ipv4()));
    let mut questions = Vec::new();
    for destination in usable.take(MAX_ADDRESSES) {
        let any: IpAddr = match destination {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let (source, source_port) = source.unwrap_or((any, None));
        let protocol = number(args.protocol.as_deref(), end.port, destination.is_ipv4())?;
        let has_ports = protocol::has_ports(protocol);
        if has_ports && end.port.is_none() {
            let host = &end.host;
            let name = protocol::name(protocol);
            return Err(misuse(format!(
                "{name} needs the port of the destination, like {host}:443"
            )));
        }
        if let Some(port) = end.port.filter(|_| !has_ports) {
            notes.push(format!("{} has no ports: {port} is ignored", protocol::name(protocol)));
        }
        let question = FlowQuestion {
            source,
            source_port,
            destination: *destination,
            destination_port: end.port.filter(|_| has_ports),
            protocol,
            interface: args.iface.clone(),
            mac: args.mac.map(mac::show),
            vlan: args.vlan,
            dscp: args.dscp,
            from_gateway: args.from_gateway,
        };
        questions.push((name.clone(), question));
    }
    notes.dedup();
    Ok(Asked { questions, notes })
}

/// Returns the address of a host of the LAN: written as such, or by its name in a DHCP lease.
fn host_of_lan(host: &str) -> Result<IpAddr> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    leased_address(host).ok_or_else(|| {
        misuse(format!(
            "{host:?} is no address, and no DHCP lease here has that name: SRC is a host of the LAN, \
             like 10.0.0.5"
        ))
    })
}

/// Returns the addresses of a destination, at least one of the family of the source.
fn addresses(end: &End, source: Option<IpAddr>) -> Result<Vec<IpAddr>> {
    let family = |address: &IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let host = &end.host;
    let (found, literal) = match end.address() {
        Some(address) => (vec![address], true),
        None => (resolve(host)?, false),
    };
    let Some(source) = source else { return Ok(found) };
    if found.iter().any(|address| family(address) == family(&source)) {
        return Ok(found);
    }
    let other = found.first().map_or("no", family);
    let source = family(&source);
    Err(misuse(match literal {
        true => {
            format!("SRC is {source}, DST is {other}: the ends of a flow are of the same family")
        }
        false => format!(
            "SRC is {source}, and {host} has only {other} addresses: ask with the host's {other} address"
        ),
    }))
}

/// Parses a MAC address.
fn mac_address(text: &str) -> Result<[u8; 6], String> {
    let help = "write six pairs of hexadecimal digits, like 02:00:00:00:00:01";
    mac::parse(text).ok_or_else(|| help.to_owned())
}

/// Parses a DSCP value, given by name or number.
fn dscp(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|number| *number < 64);
    number.or_else(|| dscp_named(&text.to_lowercase())).ok_or_else(|| {
        "write a number from 0 to 63, or a name: cs0 to cs7, af11 to af43, ef, va or le".into()
    })
}

/// Returns the number of a protocol.
fn number(text: Option<&str>, port: Option<u16>, is_ipv4: bool) -> Result<u8> {
    let ping = if is_ipv4 { protocol::ICMP } else { protocol::ICMPV6 };
    match text.map(str::to_lowercase).as_deref() {
        None if port.is_some() => Ok(protocol::TCP),
        None | Some("icmp") => Ok(ping),
        Some("ipv6-icmp") => Ok(protocol::ICMPV6),
        Some(text) => protocol::number(text).ok_or_else(|| {
            let names = protocol::NAMES.map(|(_, name)| name).join(", ");
            misuse(format!("{text:?} is no protocol: write a number up to 255, or one of {names}"))
        }),
    }
}

fn resolve(name: &str) -> Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs().map_err(|error| unresolved(name, &error))?;
    let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Returns the error of a name without an address: the DNS may have failed, or said that there is none.
/// The C library tells the two apart in words alone.
fn unresolved(name: &str, error: &std::io::Error) -> Error {
    let said = error.to_string();
    if ["not known", "No address", "does not exist"].iter().any(|none| said.contains(none)) {
        return misuse(format!(
            "{name:?} has no address here: write an address, or ask the LAN's DNS server"
        ));
    }
    Error::msg(format!("the DNS failed to answer for {name:?} ({said}): write an address"))
}

/// Renders an answer: first what becomes of the next packet.
pub(super) fn render(name: Option<&str>, answer: &Explanation, live: bool) -> String {
    let mut text = String::new();
    let mut line = |label: &str, said: &str| {
        // A string takes all.
        let _ = writeln!(text, "  {label:<width$} {said}", width = COLUMN - 3);
    };
    // Without its port, no flow is meant that there is already.
    let FlowQuestion { source_port, destination_port, .. } = &answer.question;
    let open = source_port.is_none() && destination_port.is_some();
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
    } else if shown.is_empty() && live {
        line("live", "no live flow has these ends");
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
        Some(true) => line("shortcut", "its packets bypass the kernel's forwarding"),
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
fn title(name: Option<&str>, question: &FlowQuestion) -> String {
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
        protocol::name(question.protocol),
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
    use crate::cli::exit;

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
            let Asked { questions, .. } = questions(&args(first, Some(second))).expect("questions");
            let FlowQuestion { source_port, destination_port, protocol, .. } = questions[0].1;
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
        let families = refused(&args("10.0.0.5", Some("[2001:db8::1]:443")));
        assert!(families.contains("SRC is IPv4, DST is IPv6"), "{families}");
        let all =
            [args("10.0.0.5", None), args("10.0.0.5", Some("")), args("host", Some("1.1.1.1:0"))];
        for args in all.iter().chain([&tcp, &unknown]) {
            let error = questions(args).expect_err("an error");
            assert_eq!(exit::of_error(&error), exit::Exit::Unusable, "{error}");
        }
    }

    #[test]
    fn remarks_say_what_is_not_asked() {
        let icmp = ExplainArgs {
            protocol: Some("icmp".into()),
            ..args("10.0.0.5", Some("198.51.100.7:443"))
        };
        let Asked { questions: asked, notes } = questions(&icmp).expect("questions");
        assert_eq!(asked[0].1.destination_port, None);
        assert_eq!(notes, ["icmp has no ports: 443 is ignored"]);
        let asked = questions(&args("fd77::5", Some("2001:db8::7:443"))).expect("questions");
        assert!(asked.notes[0].contains("[2001:db8::7]:443"), "{:?}", asked.notes);
    }

    #[test]
    fn a_dns_that_fails_is_told_from_a_name_that_is_not_there() {
        let said = |text: &str| unresolved("x.test", &std::io::Error::other(text));
        let failed =
            said("failed to lookup address information: Temporary failure in name resolution");
        assert!(failed.to_string().starts_with("the DNS failed"), "{failed}");
        assert_eq!(exit::of_error(&failed), exit::Exit::Failed);
        let none = said("failed to lookup address information: Name or service not known");
        assert!(none.to_string().contains("has no address here"), "{none}");
        assert_eq!(exit::of_error(&none), exit::Exit::Unusable);
    }

    #[test]
    fn a_program_of_the_gateway_needs_no_source() {
        let local = ExplainArgs { from_gateway: true, ..args("[2001:db8::1]:443", None) };
        let Asked { questions, notes } = questions(&local).expect("questions");
        let (_, question) = &questions[0];
        assert_eq!(notes, Vec::<String>::new());
        assert!(question.from_gateway && question.source.is_unspecified());
        assert_eq!(title(None, question), "the gateway -> [2001:db8::1]:443 tcp");
    }
}
