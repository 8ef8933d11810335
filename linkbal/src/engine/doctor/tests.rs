//! Machines and lines that are not well.

use super::*;
use crate::engine::{
    health::State,
    kernel::network::{Address, Link, PROTOCOL, Route, RouteKind, TABLE_MAIN},
};

fn find(
    config: &Config,
    snapshot: &Snapshot,
    machine: &Machine,
    trials: &[Trial],
) -> Vec<Complaint> {
    super::find(config, snapshot, machine, trials, &[])
}

fn config() -> Config {
    let text = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan-a\"\n\
                [uplink.b]\ninterface = \"wan-b\"\n";
    Config::parse(text, "test").expect("a valid configuration")
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (ifindex, name, own) in [(3, "wan-a", "203.0.113.2"), (4, "wan-b", "198.51.100.2")] {
        let link = Link::ethernet(ifindex, name);
        snapshot.links.insert(ifindex, link);
        snapshot.addresses.push(Address {
            ifindex,
            address: own.parse().expect("an address"),
            prefix_length: 24,
            deprecated: false,
            temporary: false,
            held: false,
        });
    }
    snapshot
}

fn machine() -> Machine {
    Machine { daemon: Some(Daemon { pid: 7, open_files: None }), year: 2026, ..Machine::default() }
}

fn all(answered: usize) -> Attempts {
    Attempts { asked: 2, answered, ..Attempts::default() }
}

fn trial() -> Trial {
    let tried = Tried {
        gateway: Some(true),
        ping: all(2),
        tcp: all(1),
        dns: all(2),
        sources: ["203.0.113.2".parse().expect("an address")].into(),
        device_mtu: 1500,
        path_mtu: Some(1500),
        ..Tried::default()
    };
    Trial { uplink: "a".into(), interface: "wan-a".into(), family: Family::Ipv4, tried }
}

fn told(machine: &Machine, trial: &Trial) -> Vec<Complaint> {
    find(&config(), &snapshot(), machine, std::slice::from_ref(trial))
}

/// Checks that one thing is wrong, with a text and a command.
fn only(machine: &Machine, trial: &Trial, what: &str, command: &str) {
    let found = told(machine, trial);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].what.contains(what), "{what} in {}", found[0].what);
    assert_eq!(found[0].command, command);
}

#[test]
fn what_works_is_not_complained_of() {
    assert_eq!(told(&machine(), &trial()), []);
    let mut partly = trial();
    partly.tried.udp = Attempts::default();
    assert_eq!(told(&machine(), &partly), []);
}

#[test]
fn lines_that_carry_nothing_or_not_everything() {
    let with = |change: fn(&mut Tried)| {
        let mut trial = trial();
        change(&mut trial.tried);
        trial
    };
    let dead = with(|it| (it.ping, it.tcp, it.dns) = (all(0), all(0), all(0)));
    only(&machine(), &dead, "a ipv4: nothing passes", "nft list ruleset");
    let mut silent = dead;
    silent.tried.gateway = Some(false);
    only(&machine(), &silent, "a ipv4: nothing passes", "ip neigh show dev wan-a");
    only(&machine(), &with(|it| it.dns = all(0)), "DNS servers of /etc/resolv.conf", "");
    let mut named = config();
    named.dns.resolvers = Some(vec!["9.9.9.9".parse().expect("an address")]);
    let found = find(&named, &snapshot(), &machine(), &[with(|it| it.dns = all(0))]);
    assert!(found.len() == 1 && found[0].what.contains("DNS does not pass"), "{found:?}");
    only(
        &machine(),
        &with(|it| it.tcp = all(0)),
        "TCP connections do not pass",
        "nft list ruleset",
    );
    let pings = told(&machine(), &with(|it| it.ping = all(0)));
    assert!(pings.len() == 1 && pings[0].severity == Severity::Hint, "{pings:?}");
    let narrow = with(|it| it.path_mtu = Some(1492));
    only(&machine(), &narrow, "packets of 1500 bytes do not pass", "ip link set wan-a mtu 1492");
    let other = with(|it| it.sources = ["198.51.100.2".parse().expect("an address")].into());
    only(
        &machine(),
        &other,
        "packets leave with the address 198.51.100.2",
        "ip address show dev wan-a",
    );
}

#[test]
fn addresses_that_are_translated_again_are_a_hint() {
    for (own, wanted) in [("192.168.1.2", true), ("100.64.0.7", true), ("100.128.0.7", false)] {
        let mut snapshot = snapshot();
        snapshot.addresses[0].address = own.parse().expect("an address");
        let mut trial = trial();
        trial.tried.sources.clear();
        let found = find(&config(), &snapshot, &machine(), &[trial]);
        assert_eq!(
            found.iter().any(|it| it.severity == Severity::Hint),
            wanted,
            "{own}: {found:?}"
        );
    }
}

#[test]
fn machines_that_are_not_well() {
    let with = |change: fn(&mut Machine)| {
        let mut machine = machine();
        change(&mut machine);
        machine
    };
    let cases: [(Machine, &str, &str); 8] = [
        (with(|it| it.daemon = None), "is not running", "systemctl start linkbal"),
        (
            with(|it| it.daemon = Some(Daemon { pid: 7, open_files: Some((1024, 1024)) })),
            "only 1024 files",
            "prlimit --pid 7 --nofile=65536:65536",
        ),
        (with(|it| it.year = 1970), "the year 1970", "timedatectl set-ntp true"),
        (with(|it| it.unsynchronised = true), "keeps the clock", "timedatectl set-ntp true"),
        (
            with(|it| {
                for (name, value) in [("count", "90"), ("max", "100")] {
                    let path = format!("net/netfilter/nf_conntrack_{name}");
                    it.sysctls.insert(path, value.into());
                }
            }),
            "90 % full: 90 of 100",
            "sysctl -w net.netfilter.nf_conntrack_max=200",
        ),
        (
            with(|it| drop(it.sysctls.insert("net/core/rmem_max".into(), "4096".into()))),
            "at most 4096 bytes",
            "sysctl -w net.core.rmem_max=212992",
        ),
        (
            with(|it| it.missing = ["ss".to_owned()].into()),
            "not installed: ss",
            "apt-get install iproute2",
        ),
        (
            with(|it| drop(it.sysctls.insert("net/ipv4/conf/wan-b/rp_filter".into(), "1".into()))),
            "wan-b has a strict reverse path filter",
            "sysctl -w net/ipv4/conf/wan-b/rp_filter=2",
        ),
    ];
    let soft = with(|it| it.daemon = Some(Daemon { pid: 7, open_files: Some((64, 8192)) }));
    only(&soft, &trial(), "only 64 files", "prlimit --pid 7 --nofile=8192:");
    for (machine, what, command) in &cases {
        only(machine, &trial(), what, command);
    }
}

#[test]
fn interfaces_in_one_network_that_answer_for_each_other() {
    let mut snapshot = snapshot();
    snapshot.addresses[1].address = "203.0.113.3".parse().expect("an address");
    let mut machine = machine();
    let found = find(&config(), &snapshot, &machine, &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        found[0].command,
        "sysctl -w net/ipv4/conf/wan-a/arp_ignore=1 net/ipv4/conf/wan-a/arp_announce=2"
    );
    machine.sysctls.insert("net/ipv4/conf/all/arp_ignore".into(), "1".into());
    machine.sysctls.insert("net/ipv4/conf/all/arp_announce".into(), "2".into());
    assert_eq!(find(&config(), &snapshot, &machine, &[]), []);
}

#[test]
fn old_scripts_are_told_from_other_programs() {
    let suspect = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        leftovers::is_suspect(&["wan-a", "wan-b"].into(), &words)
    };
    for line in [
        "ping -c 1 -I wan-a 1.1.1.1",
        "/bin/ping -Iwan-b 9.9.9.9",
        "busybox ping -I wan-a 1.1.1.1",
        "/bin/sh /usr/sbin/mwan3track wan",
    ] {
        assert!(suspect(line), "{line}");
    }
    for line in ["ping 1.1.1.1", "ping -I eth9 1.1.1.1", "vim mwan3.md", "", "tcpdump -i wan-a"] {
        assert!(!suspect(line), "{line}");
    }
    let text = "# ip route add default\n* * * * * root ip route replace default via 192.0.2.1\n\
                @reboot root /sbin/ip rule add fwmark 1 lookup 100\n0 3 * * * root apt-get update\n";
    let text = text.to_owned() + "5 * * * * root test -x /opt/wan.sh && /opt/wan.sh >/dev/null\n";
    let is_suspect = |path: &str| path == "/opt/wan.sh";
    let found = leftovers::jobs("/etc/cron.d/wan", &text, &is_suspect);
    assert_eq!(found.iter().map(|job| job.line).collect::<Vec<_>>(), [2, 3, 5]);
    let hook = leftovers::jobs(
        "/etc/network/if-up.d/wan",
        "#!/bin/sh\n ip rule add x\n ip rule add y",
        &is_suspect,
    );
    assert_eq!(hook.iter().map(|job| job.line).collect::<Vec<_>>(), [2], "the file is what counts");
    let command = &leftovers::steps(&[], &hook)[0].command;
    assert_eq!(command, "chmod a-x /etc/network/if-up.d/wan");
    for sourced in ["/etc/dhcp/dhclient-exit-hooks.d/wan", "/etc/hotplug.d/iface/99-wan"] {
        let hook = leftovers::jobs(sourced, "ip rule add x", &is_suspect);
        let command = &leftovers::steps(&[], &hook)[0].command;
        assert_eq!(*command, format!("mv {sourced} /var/tmp/"), "without an x bit, it still runs");
    }
    let text =
        "ip route replace default \\\n nexthop via 192.0.2.1\nif x; then\nip rule add y\nfi\n";
    for file in ["/etc/rc.local", "/etc/network/interfaces"] {
        let steps = leftovers::steps(&[], &leftovers::jobs(file, text, &is_suspect));
        let by_hand = steps.iter().all(|step| step.command.is_empty());
        assert!(by_hand && steps.len() == 2, "a shell still understands it: {steps:?}");
    }
    let jobs = Machine { jobs: found, ..machine() };
    let found = told(&jobs, &trial());
    assert_eq!(found[0].command, "sed -i '2s/^/#/' /etc/cron.d/wan");
    let leftovers = vec![Leftover { pid: 42, command: "ping -I wan-a 1.1.1.1".into() }];
    only(&Machine { leftovers, ..machine() }, &trial(), "process 42", "kill 42");
}

#[test]
fn a_unit_that_runs_at_boot_is_disabled() {
    let unit = "[Unit]\nAfter=network.target\n[Service]\nType=oneshot\n\
                ExecStartPre=/bin/true\nExecStart=-/usr/local/sbin/wan.sh up\n[Install]\nWantedBy=multi-user.target\n";
    let (file, is_suspect) =
        ("/etc/systemd/system/wan.service", |path: &str| path == "/usr/local/sbin/wan.sh");
    let job = |enabled: &[&str]| {
        let enabled = enabled.iter().map(|unit| (*unit).to_owned()).collect();
        leftovers::unit_job(file, unit, &enabled, &is_suspect)
    };
    assert_eq!(job(&["ssh.service", "swan.timer"]), None, "nothing starts it");
    let found = job(&["wan.service", "wan.timer"]).expect("a job");
    assert_eq!((found.line, &*found.text), (6, "/usr/local/sbin/wan.sh up"));
    let steps = leftovers::steps(&[], &[found]);
    assert_eq!(steps[0].command, "systemctl disable --now wan.service wan.timer");
    let other = unit.replace("wan.sh", "backup.sh");
    let enabled = ["wan.service".to_owned()].into();
    assert_eq!(leftovers::unit_job(file, &other, &enabled, &is_suspect), None);
    let inline =
        "ExecStart=/bin/sh -c 'ip rule add fwmark 1 lookup 101'\nEnvironment=ip rule add\n";
    let found = leftovers::unit_job(file, inline, &enabled, &is_suspect).expect("a job");
    assert_eq!(found.line, 1);
}

#[test]
fn a_script_runs_by_the_rule_of_its_folder() {
    for (file, mode, runs) in [
        ("/etc/network/if-up.d/wan", 0o755, true),
        ("/etc/network/if-up.d/wan", 0o644, false),
        ("/etc/network/if-up.d/wan.bak", 0o755, false),
        ("/etc/cron.daily/wan.dpkg-old", 0o755, false),
        ("/etc/dhcp/dhclient-exit-hooks.d/wan", 0o644, true),
        ("/etc/dhcp/dhclient-exit-hooks.d/wan.bak", 0o755, false),
        ("/etc/hotplug.d/iface/99-wan.sh", 0o644, true),
        ("/etc/NetworkManager/dispatcher.d/10-wan.sh", 0o755, true),
        ("/etc/NetworkManager/dispatcher.d/10-wan.sh", 0o644, false),
        ("/etc/networkd-dispatcher/off.d/10-wan.sh", 0o755, true),
        ("/etc/networkd-dispatcher/off.d/10-wan.sh", 0o644, false),
        ("/etc/crontab", 0o644, true),
    ] {
        assert_eq!(leftovers::runs(file, mode), runs, "{file} {mode:o}");
    }
}

#[test]
fn jobs_that_linkbal_lives_with_are_left() {
    let jobs = |file, text| leftovers::jobs(file, text, &|_: &str| false);
    let looks = "* * * * * root ip route show default\n* * * * * root ip rule list\n";
    assert_eq!(jobs("/etc/cron.d/x", looks), []);
    assert_eq!(jobs("/etc/cron.d/x", "* * * * * root sh -c \"ip rule add x\"\n").len(), 1);
    let lines = "up ip route add default via 192.0.2.1 dev wan-a\n\
                 up ip route add default via 192.0.2.1 dev $IFACE\n\
                 up ip route add default via 192.0.2.1 dev eth9\n\
                 up ip route add default via 192.0.2.1 dev wan-a table 101\n";
    let jobs = jobs("/etc/network/interfaces.d/wan", lines);
    let read: Vec<bool> = jobs.iter().map(|job| leftovers::is_read(&config(), job)).collect();
    assert_eq!(read, [true, true, false, false]);
}

#[test]
fn a_script_that_sleeps_is_known_by_its_file() {
    let script = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        leftovers::script(&words).map(str::to_owned)
    };
    for (line, file) in [
        ("bash failover-run.sh", "failover-run.sh"),
        ("/bin/sh -e /usr/local/bin/wan.sh eth0", "/usr/local/bin/wan.sh"),
        ("busybox ash ./wan.sh", "./wan.sh"),
    ] {
        assert_eq!(script(line).as_deref(), Some(file), "{line}");
    }
    for line in ["bash", "-bash", "sh -c true", "python3 wan.py", "", "busybox ping 1.1.1.1"] {
        assert_eq!(script(line), None, "{line}");
    }
    for text in [
        "#!/bin/bash\nwhile true; do\n  ip route replace default via $GW dev $IF\n  sleep 5\ndone\n",
        "/sbin/ip -4 route del default\n",
        "if ! ping -c 1 -I eth0 1.1.1.1 >/dev/null; then\n",
        "test -n \"$A\" && ip rule add fwmark 1 lookup 100",
        "route add default gw 192.0.2.1",
        "out=`ping -I$IF -c1 $HOST`",
    ] {
        assert!(leftovers::is_suspect_script(text), "{text}");
    }
    for text in [
        "# ip route del default\n",
        "ip route show default; ip rule show\n",
        "ip route add 10.0.0.0/8 via 192.0.2.1\n",
        "ping -c 1 1.1.1.1",
        "",
    ] {
        assert!(!leftovers::is_suspect_script(text), "{text}");
    }
}

/// Creates a trial by which nothing passed, though the gateway answered.
fn dead(uplink: &str) -> Trial {
    let mut trial = trial();
    trial.uplink = uplink.into();
    trial.interface = format!("wan-{uplink}");
    trial.tried.sources.clear();
    (trial.tried.ping, trial.tried.tcp, trial.tried.dns) = (all(0), all(0), all(0));
    trial
}

#[test]
fn nobody_else_is_blamed_for_what_this_machine_drops() {
    let said = |machine: &Machine, trials: &[Trial]| {
        let found = find(&config(), &snapshot(), machine, trials);
        let found = found.into_iter().find(|it| it.what == "a ipv4: nothing passes");
        found.expect("a complaint")
    };
    let closed = Machine { closed: vec!["inet fw i".into()], ..machine() };
    let one = said(&closed, &[dead("a")]);
    assert!(one.advice.contains("own firewall is the likely cause, not the line: chain inet fw i"));
    assert_eq!(one.command, "nft list chain inet fw i");
    let both = said(&machine(), &[dead("a"), dead("b")]);
    assert!(both.advice.contains("all uplinks fail at once"), "{both:?}");
    let alone = said(&machine(), &[dead("a"), trial()]);
    assert!(alone.advice.contains("call the provider"), "{alone:?}");
    // A gateway that is silent is another matter.
    let mut silent = dead("a");
    silent.tried.gateway = Some(false);
    assert!(said(&closed, &[silent]).advice.contains("cable"));

    let mut stopped = Machine { daemon: None, ..machine() };
    stopped.sysctls.insert("net/ipv4/conf/all/rp_filter".into(), "1".into());
    let strict = said(&stopped, &[dead("a"), trial()]);
    assert!(strict.advice.contains("strict reverse path filter of wan-a"), "{strict:?}");
    let leftovers = vec![Leftover { pid: 42, command: "bash wan.sh".into() }];
    let old = Machine { daemon: None, leftovers, ..machine() };
    let left = said(&old, &[dead("a"), trial()]);
    assert!(left.advice.contains("old scripts"), "{left:?}");
}

#[test]
fn an_uplink_that_cannot_be_tried_is_never_fine() {
    let states = |state: State| -> States {
        let of = |name: &str, state| ((name.to_owned(), Family::Ipv4), state);
        [of("a", state), of("b", State::Up)].into()
    };
    let mut snapshot = snapshot();
    let route = |ifindex, gateway: &str, table, protocol| Route {
        table,
        destination: "0.0.0.0/0".parse().expect("a network"),
        metric: 5,
        kind: RouteKind::Unicast,
        nexthop: gateway.parse().ok(),
        ifindex: Some(ifindex),
        onlink: false,
        protocol,
        mtu: None,
    };
    snapshot.routes.push(route(4, "198.51.100.1", TABLE_MAIN, 16));
    snapshot.routes.push(route(3, "203.0.113.1", 2601, PROTOCOL));
    let lost = missing(&config(), &snapshot, Some(&states(State::Up)));
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].what.starts_with("a ipv4: no ipv4 gateway known on wan-a"), "{lost:?}");
    assert!(lost[0].advice.contains("203.0.113.1 was used until then"), "{lost:?}");
    assert_eq!(lost[0].command, "ip route add default via 203.0.113.1 dev wan-a metric 6");
    assert_eq!(missing(&config(), &snapshot, None), lost);
    assert_eq!(missing(&config(), &snapshot, Some(&states(State::Down))), [], "its reason says it");

    snapshot.addresses.retain(|own| own.ifindex != 3);
    for states in [Some(states(State::Up)), None] {
        let gone = missing(&config(), &snapshot, states.as_ref());
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert_eq!(gone[0].what, "a ipv4: no ipv4 address on wan-a");
    }
}
