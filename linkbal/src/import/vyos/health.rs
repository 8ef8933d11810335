//! `interface-health`: the uplinks and their tests.

use crate::import::{
    model::{Device, Draft, Setting, Uplink},
    note::Lines,
    tree::Node,
    values::{self, list, quote},
};

/// Reads all interfaces with tests.
pub(super) fn read(draft: &mut Draft, wan: &Node) {
    for node in wan.values("interface-health") {
        let mut uplink = new_uplink(&node.word, node.line);
        let gateway = gateway(draft, &mut uplink, node);
        tests(draft, &mut uplink, node, gateway.as_deref());
        for (key, name) in [("failure-count", "failure_count"), ("success-count", "success_count")]
        {
            match node.value(key) {
                None => {
                    let setting = Setting::new(name, "1".into(), node.line);
                    uplink.probe.push(setting.remark("the default of VyOS"));
                }
                Some((value, line)) => match value.parse::<u32>() {
                    Ok(number) if (1..=1000).contains(&number) => {
                        uplink.probe.push(Setting::new(name, number.to_string(), line));
                    }
                    _ => draft.untranslated(line, "no number from 1 to 1000"),
                },
            }
        }
        let interval = Setting::new("interval", quote("5s"), Lines::default());
        let remark = "VyOS tests every 5 s; linkbal's default 200ms finds outages sooner";
        uplink.probe.push(interval.remark(remark));
        for child in &node.children {
            if !matches!(&*child.word, "nexthop" | "test" | "failure-count" | "success-count") {
                let why = format!("linkbal has nothing like `{}`", child.word);
                draft.untranslated(child.lines(), why);
            }
        }
        draft.cover(node.line);
        draft.uplinks.push(uplink);
    }
}

/// Returns an uplink on a device of that name.
pub(super) fn new_uplink(name: &str, line: usize) -> Uplink {
    let device = if values::is_device(name) {
        Device::Known(name.into(), line.into())
    } else {
        Device::Unknown
    };
    Uplink::new(name, line, device)
}

/// Sets the gateway; returns it if it is an address.
fn gateway(draft: &mut Draft, uplink: &mut Uplink, node: &Node) -> Option<String> {
    let (value, line) = node.value("nexthop")?;
    if value == "dhcp" {
        let remark = "dhcp: the lease's default route has it";
        uplink.settings.push(Setting::new("gateway", quote("auto"), line).remark(remark));
        return None;
    }
    let Some(address) = values::host(value) else {
        draft.untranslated(line, "no address of a router");
        return None;
    };
    uplink.settings.push(Setting::new("gateway", quote(&address.to_string()), line));
    Some(address.to_string())
}

/// The tests of an interface, as far as they become probes.
#[derive(Default)]
struct Tests {
    targets: Vec<String>,
    /// Lines of the targets.
    lines: Lines,
    /// Set if one sends packets.
    asks: bool,
    /// Set if one is a program.
    runs: bool,
    /// The longest time, in seconds, with its line.
    timeout: Option<(u32, usize)>,
}

impl Tests {
    fn read(&mut self, draft: &mut Draft, test: &Node) {
        draft.cover(test.line);
        let kind = test.value("type").map_or("ping", |(kind, _)| kind);
        draft.covered.extend(test.value("type").map(|(_, line)| line.into()));
        if kind == "user-defined" {
            self.runs = true;
            let why = "linkbal runs no test programs: take a target like \"https://..\" or \
                       \"tcp://..\", see docs/health-checks.md";
            return draft.untranslated(test.lines(), why);
        }
        self.asks = true;
        if kind == "ttl" {
            let why = "a test by TTL becomes a ping of its target";
            draft.changed(test.lines(), why);
        }
        if let Some((value, line)) = test.value("resp-time") {
            match value.parse::<u32>() {
                Ok(seconds) => {
                    self.timeout = self.timeout.max(Some((seconds.clamp(1, 60), line)));
                }
                Err(_) => draft.untranslated(line, "no number of seconds"),
            }
            draft.cover(line);
        }
        self.read_target(draft, test);
        if let Some(limit) = test.get("ttl-limit") {
            draft.unneeded(limit.lines(), "a target is pinged, however far it is");
        }
        for child in &test.children {
            if !matches!(&*child.word, "type" | "target" | "resp-time" | "ttl-limit") {
                let why = format!("linkbal has nothing like `{}`", child.word);
                draft.untranslated(child.lines(), why);
            }
        }
    }

    fn read_target(&mut self, draft: &mut Draft, test: &Node) {
        let Some((target, line)) = test.value("target") else {
            return draft.changed(test.line, "a test without a target asks the next hop");
        };
        let Some(address) = values::host(target) else {
            let why = "pings are sent to addresses, since names cannot be looked up while an uplink is \
                       down";
            return draft.untranslated(line, why);
        };
        let target = quote(&address.to_string());
        if !self.targets.contains(&target) {
            self.targets.push(target);
        }
        self.lines = std::mem::take(&mut self.lines).and(&line.into());
    }
}

fn tests(draft: &mut Draft, uplink: &mut Uplink, node: &Node, gateway: Option<&str>) {
    let mut tests = Tests::default();
    for test in node.values("test") {
        tests.read(draft, test);
    }
    let Tests { targets, lines, asks, runs, timeout } = tests;
    if targets.is_empty() && !asks {
        let target = gateway.unwrap_or("gateway");
        let setting = Setting::new("targets", list(&[quote(target)]), node.line);
        let remark = match runs {
            true => "in the place of the program that tested",
            false => "without tests, VyOS asks the next hop",
        };
        uplink.probe.push(setting.remark(remark));
    } else if !targets.is_empty() {
        uplink.probe.push(Setting::new("targets", list(&targets), lines));
    }
    if let Some((seconds, line)) = timeout {
        uplink.probe.push(Setting::new("timeout", quote(&format!("{seconds}s")), line));
    }
}
