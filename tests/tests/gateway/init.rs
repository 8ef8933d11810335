//! `linkbal init`: what it proposes for a machine works there, and what balanced before goes away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::dhcp::{Client, ClientBehaviour, Server};
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use tempfile::TempDir;

use crate::doctor::doctor;
use crate::fixture::{Gateway, LIMIT, linkbal, text};

/// A gateway without linkbal, beside whose uplinks and LAN there is what is neither.
struct Machine {
    lab: Lab,
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        // What Docker and OpenVPN leave on many machines.
        let script = "ip link add docker0 type bridge
            ip address add 172.17.0.1/16 dev docker0
            ip link set docker0 up
            ip tuntap add tun0 mode tun
            ip address add 10.8.0.1/24 dev tun0
            ip link set tun0 up";
        lab.gateway.run("sh", &["-ec", script]).unwrap();
        // Routes by hand, where the lab's are by DHCP.
        for (family, index) in Family::ALL.into_iter().flat_map(|family| [(family, 0), (family, 1)])
        {
            let (via, device) =
                (plan::nexthop(family, index).to_string(), &lab.uplinks[index].spec.interface);
            let metric = ["100", "200"][index];
            let route = ["default", "via", &via, "dev", device, "metric", metric];
            for verb in ["delete", "add"] {
                lab.gateway
                    .run("ip", &[&[family.flag(), "route", verb], &route[..]].concat())
                    .unwrap();
            }
        }
        Self { lab, folder: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("linkbal.toml")
    }

    fn init(&self, args: &[&str]) -> Output {
        linkbal(&self.lab, &[&["init"], args].concat())
    }

    /// Writes the proposal, and returns what was said to it.
    fn write(&self) -> String {
        let output = self.init(&["--yes", "--output", self.path().to_str().unwrap()]);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        said
    }

    fn check(&self) -> (Option<i32>, String) {
        let path = self.path();
        let args = ["check", "--machine", "--config", path.to_str().unwrap()];
        let output = linkbal(&self.lab, &args);
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    /// Starts linkbal with the file that was written, but with targets of the lab.
    fn start(self) -> Gateway {
        let written = fs::read_to_string(self.path()).unwrap();
        let targets = Family::ALL.map(|family| format!("\"{}\"", plan::server(family, 0)));
        let config =
            format!("{written}\n[probe]\ntargets = [{}]\nhold = \"500ms\"\n", targets.join(", "));
        let daemon = Daemon::start(&self.lab, &config).unwrap();
        let mut gateway = Gateway::with(daemon, self.lab);
        gateway.daemon.wait_until_up(LIMIT).unwrap();
        gateway
    }
}

#[test]
fn the_proposal_for_a_machine_fits_it_and_brings_both_uplinks_up() {
    let machine = Machine::new();
    let before = oracle::kernel_state(&machine.lab.gateway).unwrap();
    let printed = machine.init(&[]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    machine.write();
    let written = fs::read_to_string(machine.path()).unwrap();
    assert_eq!(text(&printed.stdout), written, "without --yes it is printed");
    assert_eq!(fs::metadata(machine.path()).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(fs::read_dir(machine.folder.path()).unwrap().count(), 1, "no draft is left");
    assert_eq!(oracle::kernel_state(&machine.lab.gateway).unwrap(), before, "nothing is changed");
    let gateways = [0, 1].map(|index| Family::ALL.map(|family| plan::nexthop(family, index)));
    for [ipv4, ipv6] in gateways {
        let line = format!("gateway = {{ ipv4 = \"{ipv4}\", ipv6 = \"{ipv6}\" }}");
        assert!(written.contains(&line), "{line:?} in\n{written}");
    }
    for words in [
        "interfaces = [\"lan0\"]",
        "[uplink.wan-a]",
        "[uplink.wan-b]",
        "# - docker0: a network of Docker",
        "# - tun0: a tunnel (tun)",
    ] {
        assert!(written.contains(words), "{words:?} in\n{written}");
    }
    let (code, said) = machine.check();
    assert_eq!(code, Some(0), "{said}");

    let again = machine.init(&["--yes", "--output", machine.path().to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        text(&again.stderr).contains("exists, and is not overwritten"),
        "{}",
        text(&again.stderr)
    );
    assert_eq!(fs::read_to_string(machine.path()).unwrap(), written);

    machine.start().assert_uplinks(100, &[0, 1]);
}

#[test]
fn the_example_of_the_package_makes_room_until_it_is_edited() {
    let machine = Machine::new();
    let example = text(&linkbal(&machine.lab, &["example"]).stdout);
    fs::write(machine.path(), &example).unwrap();
    machine.write();
    let written = fs::read_to_string(machine.path()).unwrap();
    assert!(written.contains("[uplink.wan-a]"), "{written}");
    let edited = example + "# mine\n";
    fs::write(machine.path(), &edited).unwrap();
    let output = machine.init(&["--yes", "--output", machine.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_to_string(machine.path()).unwrap(), edited);
}

#[test]
fn an_uplink_by_dhcp_is_left_to_its_client() {
    let machine = Machine::new();
    machine.lab.use_pool(1).unwrap();
    let [lease, router] = [10, 1].map(|host| plan::pool(1, host));
    let _server = Server::lease(&machine.lab.uplinks[1].provider, lease, &[router]).unwrap();
    let behaviour = ClientBehaviour { metric: Some(200), ..ClientBehaviour::default() };
    let client = Client::start(&machine.lab.gateway, "wan-b", behaviour).unwrap();
    wait::until("a lease", LIMIT, || {
        let routes =
            machine.lab.gateway.run("ip", &["-4", "route", "show", "default", "dev", "wan-b"])?;
        Ok(routes.contains(&router.to_string()).then_some(()))
    })
    .unwrap();
    machine.write();
    let written = fs::read_to_string(machine.path()).unwrap();
    let (_, section) = written.split_once("[uplink.wan-b]").unwrap();
    assert!(section.contains("of udhcpc (process "), "{written}");
    assert!(!section.contains(&format!("\"{router}\"")), "it is not written down: {written}");
    let (code, said) = machine.check();
    assert_eq!(code, Some(0), "{said}");
    machine.start().assert_uplinks(100, &[0, 1]);
    drop(client);
}

/// Rules, marks and masquerading as scripts for two lines have them.
fn old_script() -> String {
    let [a, b] = [0, 1].map(|index| plan::uplink_address(Family::V4, index));
    let [via_a, via_b] = [0, 1].map(|index| plan::nexthop(Family::V4, index));
    format!(
        "ip route flush default
         ip route add default nexthop via {via_a} dev wan-a weight 3 nexthop via {via_b} dev wan-b weight 7
         ip route add default via {via_a} dev wan-a table 101
         ip route add default via {via_b} dev wan-b table 102
         ip rule add from {a} table 101
         ip rule add from {b} table 102
         ip rule add fwmark 1 table 101 pref 900
         ip rule add fwmark 2 table 102 pref 901
         iptables -t mangle -A PREROUTING -i lan0 -p tcp --dport 443 -j MARK --set-mark 1
         iptables -t mangle -A PREROUTING -i lan0 -p udp -j MARK --set-mark 2
         iptables -t nat -A POSTROUTING -o wan-a -j MASQUERADE
         iptables -t nat -A POSTROUTING -o wan-b -j MASQUERADE"
    )
}

#[test]
fn the_commands_that_it_prints_remove_an_old_script() {
    let machine = Machine::new();
    machine.lab.gateway.run("sh", &["-ec", &old_script()]).unwrap();
    let said = machine.write();
    let written = fs::read_to_string(machine.path()).unwrap();
    assert!(written.contains("weight = 3 ") && written.contains("weight = 7 "), "{written}");
    let gateway = machine.start();
    let (_, found) = doctor(&gateway);
    assert!(found.to_string().contains("of an old script"), "{found:#}");
    // From the takeover on; what comes before it, and the last look, is not for this namespace.
    let (_, removal) = said.split_once("systemctl enable --now linkbal\n").unwrap();
    let removal = removal.replace("linkbal doctor", "");
    gateway.lab.gateway.run("sh", &["-ec", &removal]).unwrap();
    gateway.assert_uplinks(100, &[0, 1]);
    let (code, found) = doctor(&gateway);
    assert_eq!(code, 0, "{found:#}");
    assert!(!found.to_string().contains("old script"), "{found:#}");
    let rules = gateway.lab.gateway.run("ip", &["rule", "show"]).unwrap();
    assert!(!rules.contains("lookup 101") && !rules.contains("lookup 102"), "{rules}");
    let ways = gateway.lab.gateway.run("ip", &["route", "show", "default"]).unwrap();
    assert_eq!(ways.lines().count(), 1, "one way is left: {ways}");
    let firewall = gateway.lab.gateway.run("iptables-save", &[]).unwrap();
    assert!(!firewall.contains("MARK") && !firewall.contains("MASQUERADE"), "{firewall}");
}

#[test]
fn a_machine_without_a_line_is_told_what_is_missing() {
    let machine = Machine::new();
    for family in ["-4", "-6"] {
        machine.lab.gateway.run("ip", &[family, "route", "flush", "default"]).unwrap();
    }
    let output = machine.init(&["--yes", "--output", machine.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("nothing here leads to the internet"));
    assert!(text(&output.stdout).contains("# [uplink.fiber]"), "{}", text(&output.stdout));
    assert!(!machine.path().exists());
}
