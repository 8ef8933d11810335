//! A network namespace for one test, and the tools that look into it.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tokio::{runtime, time};

/// Time that anything may take on a busy machine, or in a guest on one.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `test` on a thread of its own in a fresh network namespace, which ends with the thread.
///
/// There are `lo` and the pair `wan0`, `isp0`, both up; `wan0` is 192.0.2.2/24, 2001:db8::2/64.
pub(crate) fn run<F: Future<Output = Result<()>>>(test: impl FnOnce() -> F + Send) {
    let outcome = thread::scope(|scope| {
        let body = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("failed to make a network namespace: run as root")?;
            set_up()?;
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { time::timeout(LIMIT, test()).await })?
        };
        scope.spawn(body).join().expect("the test does not panic")
    });
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

fn set_up() -> Result<()> {
    fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")?;
    shell(
        "ip link set lo up
        ip link add wan0 type veth peer name isp0
        ip link set wan0 up
        ip link set isp0 up",
    )?;
    // An address that comes before the carrier would miss its routes.
    wait_for_routes("local fe80::", 2)?;
    shell("ip addr add 192.0.2.2/24 dev wan0; ip addr add 2001:db8::2/64 dev wan0")?;
    wait_for_routes("local 2001:db8::2/128", 1)
}

/// Waits for `count` routes whose lines begin with `begin`: IPv6 addresses come into use a little
/// later.
pub(crate) fn wait_for_routes(begin: &str, count: usize) -> Result<()> {
    let started = Instant::now();
    while routes()?.iter().filter(|line| line.starts_with(begin)).count() != count {
        ensure!(started.elapsed() < LIMIT, "not {count} routes {begin}: {:#?}", routes()?);
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Runs a shell script in this namespace.
pub(crate) fn shell(script: &str) -> Result<()> {
    output("sh", &["-ec", script], "").map(drop)
}

/// Runs a program with `input` in this namespace; returns its output.
pub(crate) fn output(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {program}"))?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns what `ip -N -j -d` lists: all details, numbers for names.
pub(crate) fn ip(arguments: &str) -> Result<Vec<Value>> {
    let arguments: Vec<_> = ["-N", "-j", "-d"].into_iter().chain(arguments.split(' ')).collect();
    let text = output("ip", &arguments, "")?;
    // For an empty table ip prints nothing or an empty list.
    let listing = if text.trim().is_empty() { "[]" } else { &text };
    Ok(serde_json::from_str(listing)?)
}

/// Returns one line for each route of both families, sorted, as `ip` shows it.
pub(crate) fn routes() -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (family, any) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        for route in ip(&format!("{family} route show table all"))? {
            match route["nexthops"].as_array() {
                Some(each) => lines.extend(each.iter().map(|one| route_line(&route, one, any))),
                None => lines.push(route_line(&route, &route, any)),
            }
        }
    }
    lines.sort();
    Ok(lines)
}

/// Returns a line for one next hop of a route, which is the route itself if it has no list of them.
fn route_line(route: &Value, one: &Value, any: &str) -> String {
    let destination = match text(&route["dst"], "") {
        all if all == "default" => any.to_owned(),
        prefix if prefix.contains('/') => prefix,
        host if host.contains(':') => format!("{host}/128"),
        host => format!("{host}/32"),
    };
    let kind = match text(&route["type"], "1").as_str() {
        "1" => "unicast",
        "2" | "3" | "4" | "5" => "local",
        "6" => "blackhole",
        "7" => "unreachable",
        _ => "other",
    };
    let mut line = format!("{kind} {destination} table {} proto ", text(&route["table"], "254"));
    line += &text(&route["protocol"], "3");
    let nexthop = one["gateway"].as_str().or(one["via"]["host"].as_str());
    let device = one["dev"].as_str().filter(|_| kind != "unreachable");
    let onlink = one["flags"].as_array().is_some_and(|flags| flags.contains(&"onlink".into()));
    let metric = route["metric"].as_u64().unwrap_or(0);
    write!(line, " via {nexthop:?} dev {device:?} onlink {onlink} metric {metric}")
        .expect("a string takes all");
    line
}

/// Returns one line for each ip rule of both families, sorted, as `ip` shows it.
pub(crate) fn rules() -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        for rule in ip(&format!("{family} rule show"))? {
            lines.push(format!("{family} {}", rule_line(&rule)));
        }
    }
    lines.sort();
    Ok(lines)
}

fn rule_line(rule: &Value) -> String {
    let prefix = |address: &str, length: &str| match text(&rule[address], "all") {
        all if all == "all" => None,
        host => {
            let whole = if host.contains(':') { 128 } else { 32 };
            Some(format!("{host}/{}", rule[length].as_u64().unwrap_or(whole)))
        }
    };
    let (source, destination) = (prefix("src", "srclen"), prefix("dst", "dstlen"));
    let fwmark = rule["fwmark"]
        .as_str()
        .map(|fwmark| format!("{fwmark}/{}", text(&rule["fwmask"], "0xffffffff")));
    // It has no value.
    let inverted = rule.get("not").is_some();
    format!(
        "{} from {source:?} to {destination:?} from here {} forwarded goto {:?} fwmark {fwmark:?} oif {:?} table {} suppress {:?} proto {}",
        rule["priority"],
        rule["iif"] == "lo" && !inverted,
        rule["goto"].as_u64().filter(|_| rule["iif"] == "lo" && inverted),
        rule["oif"].as_str(),
        text(&rule["table"], "0"),
        rule["suppress_prefixlen"].as_u64(),
        text(&rule["protocol"], ""),
    )
}

fn text(value: &Value, absent: &str) -> String {
    value.as_str().unwrap_or(absent).to_owned()
}
