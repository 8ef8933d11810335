//! Live flows and clients, as the daemon answers about them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use linkbal_common::flow::{Flow, FlowKey};
use linkbal_common::maps;
use linkbal_common::uplink::Family as MapFamily;
use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, LongFlows, Protocol};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, TICK, is_udp, linkbal, text, uplink_status};
use crate::usage::memory;

const ACCOUNTING: &str = "net.netfilter.nf_conntrack_acct";

/// Returns the lines of `linkbal ARGS --json`.
fn lines(gateway: &Gateway, args: &[&str]) -> Vec<Value> {
    let printed = gateway.daemon.run(&[args, &["--json"]].concat()).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ends(flow: &Value) -> (String, IpAddr, IpAddr, u64) {
    let word = |key: &str| flow[key].as_str().unwrap();
    let address = |key| word(key).parse().unwrap();
    let port = flow["destination_port"].as_u64().unwrap();
    (word("protocol").into(), address("client"), address("destination"), port)
}

fn ends_of(spec: &FlowSpec) -> (String, IpAddr, IpAddr, u64) {
    let protocol = if spec.protocol == Protocol::Tcp { "tcp" } else { "udp" };
    (protocol.into(), spec.source, spec.server.ip(), spec.server.port().into())
}

/// Checks the flows against the servers, which see by whose address each comes.
#[test]
fn live_flows_have_the_uplinks_that_the_servers_see_and_filters_choose_among_them() {
    let gateway = Gateway::pair();
    let flows = gateway.long_flows(20);
    let reports = flows.reports();
    let name = |index: usize| gateway.lab.uplinks[index].spec.name.clone();
    let expected: BTreeMap<_, _> = reports
        .iter()
        .map(|report| (ends_of(&report.spec), name(report.uplink().unwrap())))
        .collect();
    let found = lines(&gateway, &["flows", "--port", &HTTP.to_string()]);
    let uplinks: BTreeMap<_, _> = found
        .iter()
        .filter(|flow| flow["from"] == "lan")
        .map(|flow| (ends(flow), flow["uplink"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(uplinks, expected);
    for flow in &found {
        let state = if flow["protocol"] == "tcp" { "established" } else { "answered" };
        assert_eq!((&flow["state"], &flow["reason"]), (&state.into(), &"bucket".into()), "{flow}");
        assert!(flow["idle_s"].as_u64() <= flow["age_s"].as_u64(), "{flow}");
    }

    let report = reports.iter().find(|report| is_udp(report) && report.spec.source.is_ipv6());
    let spec = report.unwrap().spec;
    let (source, server) = (spec.source.to_string(), format!("{}/128", spec.server.ip()));
    let mut args = vec!["flows", "--client", &source, "--destination", &server];
    args.extend(["--protocol", "udp"]);
    let one = lines(&gateway, &args);
    assert_eq!(one.iter().map(ends).collect::<Vec<_>>(), [ends_of(&spec)]);
    let uplink = expected[&ends_of(&spec)].clone();
    args.extend(["--uplink", &uplink]);
    assert_eq!(lines(&gateway, &args).len(), 1);
    let other = if uplink == "isp-a" { "isp-b" } else { "isp-a" };
    *args.last_mut().unwrap() = other;
    assert_eq!(lines(&gateway, &args).len(), 0);

    let by_client = lines(&gateway, &["flows", "--sort", "client", "--limit", "7"]);
    let clients: Vec<IpAddr> = by_client.iter().map(|flow| ends(flow).1).collect();
    assert!(clients.len() == 7 && clients.is_sorted(), "{clients:?}");
    for (args, hint) in [
        (["flows", "--uplink", "isp-x"], "isp-a, isp-b"),
        (["flows", "--client", "10.0.0"], "192.0.2.7"),
        (["flows", "--domain", "bank.example"], "no rule has a domain"),
        (["flows", "--rule", "99"], "there is no rule 99"),
        (["flows", "--rule", "0"], "there is no rule 0"),
    ] {
        let refused = linkbal(&gateway.lab, &args);
        assert!(
            refused.status.code() == Some(2) && text(&refused.stderr).contains(hint),
            "{refused:?}"
        );
    }
    // Shown to people, a flow is on a line with all its parts.
    let table = gateway.daemon.run(&["flows", "--client", &source]).unwrap();
    let row = table.lines().find(|line| line.contains(&spec.server.to_string())).unwrap();
    assert!(row.starts_with("udp") && row.contains(&uplink) && row.contains("bucket"), "{table}");
}

/// Returns the bytes of each connection as `conntrack` prints them, by source address and port.
fn tracked_bytes(gateway: &Gateway, family: &str) -> BTreeMap<(IpAddr, u64), [u64; 2]> {
    let args = ["-L", "-f", family, "-p", "tcp"];
    let printed = gateway.lab.gateway.run("conntrack", &args).unwrap();
    let entry = |line: &str| {
        let all = |key: &str| {
            let words = line.split_whitespace().filter_map(|word| word.strip_prefix(key));
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let bytes: Vec<u64> = all("bytes=").iter().map(|text| text.parse().unwrap()).collect();
        let source = (all("src=")[0].parse().unwrap(), all("sport=")[0].parse().unwrap());
        (source, [bytes[0], bytes[1]])
    };
    printed.lines().filter(|line| line.contains("bytes=")).map(entry).collect()
}

#[test]
fn bytes_are_those_of_connection_tracking_and_clients_have_their_sums() {
    let gateway = Gateway::pair();
    let uncounted = FlowSpec::new(Family::V4, Protocol::Tcp, 3, 3, HTTP);
    let _before = LongFlows::start(&gateway.lab.lan, &[uncounted], TICK).unwrap();
    assert!(lines(&gateway, &["flows"]).iter().all(|flow| flow["bytes_up"].is_null()));
    let hint = linkbal(&gateway.lab, &["flows"]);
    assert!(text(&hint.stderr).contains("nf_conntrack_acct=1"), "{hint:?}");

    gateway.lab.gateway.set_sysctl(ACCOUNTING, "1").unwrap();
    let counted = |family| FlowSpec::spread(family, Protocol::Tcp, HTTP, 8);
    let specs: Vec<FlowSpec> = Family::ALL.into_iter().flat_map(counted).collect();
    // They are silent for long enough between two requests that bytes stand still now and then.
    let _flows = LongFlows::start(&gateway.lab.lan, &specs, Duration::from_secs(8)).unwrap();
    let oracle = || {
        let families = ["ipv4", "ipv6"].map(|family| tracked_bytes(&gateway, family));
        families.into_iter().flatten().collect::<BTreeMap<_, _>>()
    };
    let bytes = |flow: &Value| Some([flow["bytes_up"].as_u64()?, flow["bytes_down"].as_u64()?]);
    wait::until("the bytes that conntrack tells", LIMIT, || {
        let (before, flows) = (oracle(), lines(&gateway, &["flows", "--protocol", "tcp"]));
        let flows = flows.iter().filter_map(|flow| {
            let source = (ends(flow).1, flow["client_port"].as_u64().unwrap());
            Some((source, bytes(flow)?))
        });
        let flows: BTreeMap<_, _> = flows.collect();
        // Packets may have come in between.
        let settled = before == oracle();
        Ok((settled && flows.len() >= specs.len() && flows == before).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", lines(&gateway, &["flows"])));

    let flows = lines(&gateway, &["flows"]);
    let clients = lines(&gateway, &["clients"]);
    let (largest, others) = clients.split_at(clients.len() - 1);
    let others = &others[0]["others"];
    let count = |value: &Value| value["flows"].as_u64().unwrap_or(0);
    let of_clients: u64 = clients.iter().map(count).sum::<u64>() + count(others);
    assert!(
        of_clients >= specs.len() as u64 && of_clients <= flows.len() as u64 + 2,
        "{clients:?}"
    );
    let client = largest.iter().find(|client| client["client"] == specs[0].source.to_string());
    assert_eq!(client.unwrap()["flows"], 1, "{clients:?}");
    assert_eq!(lines(&gateway, &["flows", "--top", "2"]).len(), 3);
}

#[test]
fn follow_tells_of_flows_that_begin_and_end() {
    let gateway = Gateway::pair();
    let program = gateway.daemon.program().to_owned();
    let mut command: Command = gateway.lab.gateway.command(program);
    command.args(["flows", "--follow", "--json"]).stdout(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let (sender, changes) = mpsc::channel();
    let out = follower.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            let change: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if sender.send(change).is_err() {
                return;
            }
        }
    });
    let mut seen = Vec::new();
    let mut told = |kind: &str, source: IpAddr| {
        seen.extend(changes.try_iter());
        let found = seen.iter().any(|change| {
            change["change"] == kind
                && change["client"] == source.to_string()
                && change["protocol"] == "tcp"
        });
        found.then_some(())
    };
    // The first reading has no news: flows are begun until one is told of.
    let mut flows = Vec::new();
    let mut clients = 0..100;
    wait::until("a new flow", LIMIT, || {
        let spec = FlowSpec::new(Family::V4, Protocol::Tcp, clients.next().unwrap(), 1, HTTP);
        flows.push(LongFlows::start(&gateway.lab.lan, &[spec], TICK)?);
        thread::sleep(Duration::from_secs(1));
        Ok((0..100).find_map(|client| {
            told("new", FlowSpec::new(Family::V4, Protocol::Tcp, client, 1, HTTP).source)
        }))
    })
    .unwrap();
    let last = FlowSpec::new(Family::V4, Protocol::Tcp, clients.next().unwrap(), 1, HTTP);
    let flow = LongFlows::start(&gateway.lab.lan, &[last], TICK).unwrap();
    wait::until("the last flow", LIMIT, || Ok(told("new", last.source))).unwrap();
    drop(flow);
    wait::until("its end", LIMIT, || Ok(told("ended", last.source))).unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_drained_uplink_runs_out_of_live_flows() {
    let mut gateway = Gateway::pair();
    let specs = FlowSpec::spread(Family::V4, Protocol::Tcp, HTTP, 40);
    let flows = LongFlows::start(&gateway.lab.lan, &specs, TICK).unwrap();
    let on_first = flows.reports().iter().filter(|report| report.uplink() == Some(0)).count();
    assert!(on_first > 0);
    gateway.daemon.run(&["drain", "isp-a"]).unwrap();
    let live = |status: &Value| uplink_status(status, "isp-a")["live_flows"].as_u64();
    let is_right = |status: &Value| live(status) == Some(on_first as u64);
    let status = gateway.daemon.wait_for("the flows that are left", LIMIT, is_right).unwrap();
    let share = &uplink_status(&status, "isp-a")["actual_share"];
    let expected = on_first as f64 / specs.len() as f64;
    assert!((share.as_f64().unwrap() - expected).abs() < 0.001, "{share}, not {expected}");
    let shown = gateway.daemon.run(&["status"]).unwrap();
    let said = format!("isp-a is draining: new flows avoid it; {on_first} live flows are left");
    assert!(shown.contains("ipv4 draining") && shown.contains(&said), "{shown}");
    drop(flows);
    let is_empty = |status: &Value| live(status) == Some(0);
    let status = gateway.daemon.wait_for("no flow on isp-a", LIMIT, is_empty).unwrap();
    // What was counted since the datapath was made is still told as before.
    assert_eq!(uplink_status(&status, "isp-a")["flows"], on_first);
    assert!(gateway.daemon.run(&["status"]).unwrap().contains("`linkbal disable isp-a`"));
}

#[test]
fn a_refused_file_is_in_the_status_until_it_is_mended() {
    let gateway = Gateway::pair();
    let path = gateway.daemon.config_path();
    let good = std::fs::read_to_string(&path).unwrap();
    let configuration = || gateway.daemon.status().unwrap()["configuration"].clone();
    assert_eq!(configuration()["file"], path.display().to_string());
    assert!(configuration()["refused"].is_null());
    std::fs::write(&path, good.replace("weight = 30", "weight = \"x\"")).unwrap();
    assert!(!linkbal(&gateway.lab, &["reload"]).status.success());
    let refused = configuration()["refused"].clone();
    assert!(refused["error"].as_str().unwrap().contains("weight"), "{refused}");
    let shown = gateway.daemon.run(&["status"]).unwrap();
    assert!(shown.contains("not in force: ") && shown.contains("weight"), "{shown}");
    std::fs::write(&path, good).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
    assert!(configuration()["refused"].is_null());
    assert!(gateway.daemon.run(&["status"]).unwrap().contains("in force since"));
}

/// Returns the number of entries; LINKBAL_FLOWS in the environment is another one.
fn entries() -> u32 {
    std::env::var("LINKBAL_FLOWS").map_or(100_000, |number| number.parse().unwrap())
}

/// Fills the flow table of the gateway with live flows on both uplinks.
pub(crate) fn fill(gateway: &Gateway, count: u32) {
    let pin = gateway.lab.gateway.bpf_dir().join(maps::FLOWS::NAME);
    let data = MapData::from_pin(pin).unwrap();
    let mut table: HashMap<_, FlowKey, Flow> = HashMap::try_from(Map::LruHashMap(data)).unwrap();
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    for number in 0..count {
        let [a, b, c, d] = number.to_be_bytes();
        let key = FlowKey {
            source: [u32::from_ne_bytes([10, a, b, c]), 0, 0, 0],
            destination: [u32::from_ne_bytes([198, 51, 100, d]), 0, 0, 0],
            source_port: 40_000_u16.to_be(),
            destination_port: 443_u16.to_be(),
            protocol: 17,
            family: MapFamily::Ipv4 as u8,
            reserved: 0,
        };
        let flow = Flow {
            uplink: number & 1,
            last_seen_s: now.tv_sec() as u32,
            ifindex: 1,
            replied: 1,
            ..Flow::default()
        };
        table.insert(key, flow, 0).unwrap();
    }
}

/// Checks that neither size nor slow readers hurt: memory stays bounded, the status goes on, and who
/// takes nothing is let go.
#[test]
fn a_large_table_is_streamed_and_slow_readers_hold_nothing_up() {
    let count = entries();
    let size = (count * 2).next_power_of_two();
    let tune = |config: &str| format!("{config}\n[kernel]\nflow_table_size = {size}\n");
    let gateway = Gateway::start(Lab::new(&UplinkSpec::pair()).unwrap(), tune);
    let pid = gateway.daemon.id();
    let before = memory(pid, "VmRSS");
    let begun = Instant::now();
    fill(&gateway, count);
    println!("{count} entries are stored after {:.1?}", begun.elapsed());

    let of_10 = ["--client", "10.0.0.0/8", "--port", "443"];
    for args in [
        [&["flows"][..], &of_10, &["--json"]].concat(),
        [&["flows"][..], &of_10].concat(),
        [&["flows", "--sort", "idle", "--limit", "1000"][..], &of_10].concat(),
        [&["clients", "--top", "10"][..], &of_10].concat(),
    ] {
        let begun = Instant::now();
        let output = linkbal(&gateway.lab, &args);
        let shown = text(&output.stdout).lines().count();
        println!("linkbal {args:?}: {shown} lines in {:.2?}", begun.elapsed());
        assert!(output.status.success(), "{}", text(&output.stderr));
        if args.contains(&"--json") {
            assert_eq!(shown, count as usize);
        }
    }
    let begun = Instant::now();
    let status = gateway.daemon.status().unwrap();
    println!("status: {:.2?}", begun.elapsed());
    for name in ["isp-a", "isp-b"] {
        let live = uplink_status(&status, name)["live_flows"].as_u64().unwrap();
        assert!((u64::from(count / 2)..u64::from(count / 2) + 1000).contains(&live), "{live}");
    }
    let more = memory(pid, "VmHWM").saturating_sub(before);
    println!("memory of the daemon: {before} KiB, at most {more} KiB more");
    assert!(more < 50 * 1024, "{more} KiB");

    // Nobody reads these; the kernel holds but a part of each answer.
    let ask = || {
        let socket = gateway.lab.gateway.socket();
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(b"GET /v1/flows HTTP/1.1\r\nhost: linkbal\r\n\r\n").unwrap();
        stream
    };
    let stalled: Vec<UnixStream> = (0..4).map(|_| ask()).collect();
    let full = || linkbal(&gateway.lab, &["flows", "--limit", "1", "--json"]);
    wait::until("a refusal", LIMIT, || {
        let refused = full();
        Ok((!refused.status.success() && text(&refused.stderr).contains("too many readers"))
            .then_some(()))
    })
    .unwrap();
    gateway.daemon.status().unwrap();
    wait::until("room for readers", LIMIT, || Ok(full().status.success().then_some(()))).unwrap();
    for mut stream in stalled {
        // What the kernel held can be read, and then it ends.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 64 << 20);
    }
}
