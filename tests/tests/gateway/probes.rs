//! Probes of every kind against real servers: each keeps an uplink up, and takes it down exactly
//! when its service fails on that uplink.

mod forger;
mod many_addresses;

use std::fs;
use std::path::Path;
use std::process::Command;

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::dns::Dnsmasq;
use linkbal_lab::traffic::ntp::NtpServer;
use linkbal_lab::wait;
use serde_json::Value;
use tempfile::TempDir;

use self::forger::{Answers, DnsForger, EchoForger};
use crate::applications::server::{Server, nginx, nginx_with};
use crate::fixture::{FAMILIES, LIMIT, config, uplink_status, with_key, with_targets};

const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;
/// A port without a server.
const CLOSED: u16 = 9;
/// The uplink that loses a service.
const VICTIM: usize = 0;

/// A gateway whose probes are under test. Its parts are taken down from the first to the last.
struct Probed {
    daemon: Daemon,
    lab: Lab,
}

impl Probed {
    /// Starts linkbal with the targets `targets`; names are resolved by the first server of the
    /// lab.
    fn start(lab: Lab, targets: &str) -> Self {
        Self::start_trusting(lab, targets, None)
    }

    /// Starts linkbal like [`Probed::start`], with the certificates of a file trusted.
    fn start_trusting(lab: Lab, targets: &str, trusted: Option<&Path>) -> Self {
        let program = daemon::find_program().unwrap();
        let mut command = lab.gateway.command(&program);
        command.envs(trusted.map(|path| ("SSL_CERT_FILE", path)));
        let daemon = Daemon::start_command(command, &program, &lab, &config_with(&lab, targets));
        Self { daemon: daemon.unwrap(), lab }
    }

    fn wait_until_up(&mut self) {
        self.daemon.wait_until_up(LIMIT).unwrap();
    }

    /// Waits until the victim has `state` in `families`; returns the status at that time.
    fn wait_for_victim(&mut self, families: &[&str], state: &str) -> Value {
        let name = self.lab.uplinks[VICTIM].spec.name.clone();
        let reached = |status: &Value| {
            let uplink = uplink_status(status, &name);
            families.iter().all(|family| uplink[family]["state"] == state)
        };
        self.daemon.wait_for(&format!("{name} {state}"), LIMIT, reached).unwrap()
    }

    /// Returns the reason for the victim's state in a family.
    fn reason(&self, status: &Value, family: &str) -> String {
        let uplink = uplink_status(status, &self.lab.uplinks[VICTIM].spec.name);
        uplink[family]["reason"].as_str().unwrap().to_owned()
    }

    /// Drops what `rule` matches in a chain at `hook` of the victim's provider; the other uplink
    /// stays up. Afterwards the victim comes back.
    fn lose_and_mend(&mut self, hook: &str, rule: &str) {
        self.nft(&format!("table {hook} priority -300; {rule} drop; }}\n}}"));
        let status = self.wait_for_victim(&FAMILIES, "down");
        let other = uplink_status(&status, &self.lab.uplinks[1 - VICTIM].spec.name);
        assert!(FAMILIES.iter().all(|family| other[family]["state"] == "up"), "{other}");
        let family = if hook.starts_with("netdev") { "netdev" } else { "inet" };
        self.nft(&format!("delete table {family} fault"));
        self.wait_until_up();
    }

    fn nft(&self, text: &str) {
        self.lab.uplinks[VICTIM].provider.load_nft(text).unwrap();
    }
}

/// The beginning of a chain for packets that the provider forwards.
const FORWARDED: &str = "inet fault { chain forward { type filter hook forward";

fn lab() -> Lab {
    Lab::new(&UplinkSpec::pair()).unwrap()
}

/// Returns the lab's configuration with other targets.
fn config_with(lab: &Lab, targets: &str) -> String {
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::server(family, 0));
    with_targets(&config(lab), targets)
        + &format!("\n[dns]\nresolvers = [\"{ipv4}\", \"{ipv6}\"]\n")
}

/// Returns a target of each family: the first server of the lab.
fn both(url: impl Fn(&str) -> String) -> String {
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::server(family, 0));
    format!("\"{}\", \"{}\"", url(&ipv4.to_string()), url(&format!("[{ipv6}]")))
}

/// Starts a DNS server that knows the portal, which is the first server of the lab.
fn resolver(lab: &Lab) -> Dnsmasq {
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::server(family, 0));
    let lines = format!(
        "host-record=portal.test,{ipv4},{ipv6}\nhost-record=four.test,{ipv4}\nlocal=/test/\n"
    );
    Dnsmasq::start(&lab.net, None, &lines).unwrap()
}

#[test]
fn a_tcp_target_follows_its_port() {
    let lab = lab();
    let _server = nginx(&lab.net, HTTP);
    let mut gateway = Probed::start(lab, &both(|host| format!("tcp://{host}:{HTTP}")));
    gateway.wait_until_up();
    gateway.lose_and_mend(FORWARDED, &format!("tcp dport {HTTP}"));
}

#[test]
fn a_refused_connection_is_an_answer() {
    let mut gateway = Probed::start(lab(), &both(|host| format!("tcp://{host}:{CLOSED}")));
    gateway.wait_until_up();
    gateway.lose_and_mend(FORWARDED, &format!("tcp dport {CLOSED}"));
}

#[test]
fn an_icmp_error_is_no_answer_of_a_tcp_target() {
    let mut gateway = Probed::start(lab(), &both(|host| format!("tcp://{host}:{CLOSED}")));
    gateway.wait_until_up();
    let reject = format!("tcp dport {CLOSED} reject with icmpx port-unreachable; }}\n}}");
    gateway.nft(&format!("table {FORWARDED} priority -300; {reject}"));
    let status = gateway.wait_for_victim(&FAMILIES, "down");
    assert!(gateway.reason(&status, "ipv4").contains("refused by ICMP of"), "{status}");
    gateway.nft("delete table inet fault");
    gateway.wait_until_up();
    // This machine's own firewall says nothing of the line. Of IPv6, the kernel tells no socket of a device.
    let own = "table ip fault { chain output { type filter hook output priority 0; ";
    let reject = reject.replace("icmpx", "icmp");
    gateway.lab.gateway.load_nft(&format!("{own}{reject}")).unwrap();
    let name = gateway.lab.uplinks[VICTIM].spec.name.clone();
    let unsent =
        |status: &Value| uplink_status(status, &name)["ipv4"]["not_probed_since"].is_string();
    let status = gateway.daemon.wait_for("not probed", LIMIT, unsent).unwrap();
    let uplink = uplink_status(&status, &name);
    assert_eq!(uplink["ipv4"]["state"], "up", "{uplink}");
}

#[test]
fn a_dns_target_follows_its_server() {
    let lab = lab();
    let server = resolver(&lab);
    let mut gateway = Probed::start(lab, &both(|host| format!("dns://{host}/missing.test")));
    gateway.wait_until_up();
    gateway.lose_and_mend(FORWARDED, "udp dport 53");
    drop(server);
    let status = gateway.wait_for_victim(&FAMILIES, "down");
    let reason = gateway.reason(&status, "ipv4");
    assert!(reason.contains("dns://198.51.100.1/missing.test: failed to ask"), "{reason}");
}

#[test]
fn an_ntp_target_follows_its_server() {
    let lab = lab();
    let addresses = Family::ALL.map(|family| plan::server(family, 0));
    let server = NtpServer::start(&lab.net, &addresses).unwrap();
    let mut gateway = Probed::start(lab, &both(|host| format!("ntp://{host}")));
    gateway.wait_until_up();
    gateway.lose_and_mend(FORWARDED, "udp dport 123");
    drop(server);
    let status = gateway.wait_for_victim(&FAMILIES, "down");
    let reason = gateway.reason(&status, "ipv4");
    assert!(reason.contains("ntp://198.51.100.1: failed to ask"), "{reason}");
}

#[test]
fn an_http_target_by_name_follows_its_server() {
    let lab = lab();
    let _resolver = resolver(&lab);
    let _server = nginx(&lab.net, HTTP);
    let target =
        format!("{{ url = \"http://portal.test:{HTTP}/\", status = 200, body = \"\\n\" }}");
    let mut gateway = Probed::start(lab, &target);
    gateway.wait_until_up();
    gateway.lose_and_mend(FORWARDED, &format!("tcp dport {HTTP}"));
}

/// Checks DNS servers that no uplink leads to: a forwarder on the gateway, and one in the LAN. Without
/// them, the uplinks are judged by what was known.
#[test]
fn names_are_looked_up_at_servers_beside_the_uplinks() {
    let in_lan = plan::client(Family::V4, 0);
    for address in [plan::lan_gateway(Family::V4), in_lan] {
        let lab = lab();
        let namespace = if address == in_lan { &lab.lan } else { &lab.gateway };
        let [ipv4, ipv6] = Family::ALL.map(|family| plan::server(family, 0));
        let lines = format!("host-record=portal.test,{ipv4},{ipv6}\nlocal=/test/\n");
        let server = Dnsmasq::start(namespace, Some(address), &lines).unwrap();
        let _page = nginx(&lab.net, HTTP);
        let target = format!("\"http://portal.test:{HTTP}/\"");
        let config = with_targets(&config(&lab), &target);
        let config = config + &format!("\n[dns]\nresolvers = [\"{address}\"]\n");
        let mut gateway = Probed { daemon: Daemon::start(&lab, &config).unwrap(), lab };
        gateway.wait_until_up();
        gateway.lose_and_mend(FORWARDED, &format!("tcp dport {HTTP}"));
        drop(server);
        gateway.lose_and_mend(FORWARDED, &format!("tcp dport {HTTP}"));
    }
}

#[test]
fn an_https_target_with_a_trusted_certificate_follows_its_server() {
    let lab = lab();
    let _resolver = resolver(&lab);
    let certificates = Certificates::new("portal.test");
    let _server = certificates.server(&lab);
    let target = format!("\"https://portal.test:{HTTPS}/\"");
    let trusted = certificates.folder.path().join("ca.pem");
    let mut gateway = Probed::start_trusting(lab, &target, Some(&trusted));
    gateway.wait_until_up();
    gateway.lose_and_mend(FORWARDED, &format!("tcp dport {HTTPS}"));
}

#[test]
fn an_https_target_with_an_untrusted_certificate_is_down() {
    let lab = lab();
    let _resolver = resolver(&lab);
    let certificates = Certificates::new("portal.test");
    let _server = certificates.server(&lab);
    let mut gateway = Probed::start(lab, &format!("\"https://portal.test:{HTTPS}/\""));
    let status = gateway.wait_for_victim(&FAMILIES, "down");
    let reason = gateway.reason(&status, "ipv6");
    assert!(reason.contains("failed to agree on TLS: invalid peer certificate"), "{reason}");
}

#[test]
fn the_gateway_as_a_target() {
    let mut gateway = Probed::start(lab(), "\"gateway\"");
    gateway.wait_until_up();
    let hook = "netdev fault { chain ingress { type filter hook ingress device cust0";
    let arp = "ether type arp drop; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }";
    gateway.lose_and_mend(hook, arp);
}

#[test]
fn a_link_local_gateway_as_a_target() {
    let lab = lab();
    let provider = &lab.uplinks[VICTIM].provider;
    let query = ["-6", "-brief", "address", "show", "dev", "cust0", "scope", "link"];
    let text = provider.run("ip", &query).unwrap();
    let address = text.split_whitespace().nth(2).and_then(|word| word.split('/').next()).unwrap();
    let config = config_with(&lab, "\"gateway\"");
    let gateway = format!("gateway = \"{address}\"");
    let config = with_key(&config, &lab.uplinks[VICTIM].spec.name, &gateway);
    let mut gateway = Probed { daemon: Daemon::start(&lab, &config).unwrap(), lab };
    gateway.wait_until_up();
    let hook = "netdev fault { chain ingress { type filter hook ingress device cust0";
    gateway.lose_and_mend(hook, "ether type arp drop; icmpv6 type nd-neighbor-solicit");
}

#[test]
fn a_captive_portal_is_named() {
    let lab = lab();
    let _resolver = resolver(&lab);
    let _server = nginx(&lab.net, HTTP);
    let portal = "return 302 http://login.hotel.example/?back=portal.test;";
    let lines = format!("listen {HTTPS}; listen [::]:{HTTPS}; {portal}");
    let _portal = nginx_with(&lab.uplinks[VICTIM].provider, HTTPS, &lines, &[]);
    let mut gateway = Probed::start(lab, &format!("\"http://portal.test:{HTTP}/\""));
    gateway.wait_until_up();
    gateway.nft(&format!(
        "table inet portal {{ chain prerouting {{
            type nat hook prerouting priority dstnat; tcp dport {HTTP} redirect to :{HTTPS}
        }}
        }}"
    ));
    let status = gateway.wait_for_victim(&FAMILIES, "down");
    for family in FAMILIES {
        let reason = gateway.reason(&status, family);
        let named = "captive portal: redirected to login.hotel.example";
        assert!(reason.contains(named), "{reason}");
        assert!(gateway.daemon.log().contains(named), "{}", gateway.daemon.log());
    }
    gateway.nft("delete table inet portal");
    gateway.wait_until_up();
}

#[test]
fn an_unknown_name_is_reported() {
    let lab = lab();
    let _resolver = resolver(&lab);
    let mut gateway = Probed::start(lab, "\"http://missing.test/\"");
    let status = gateway.wait_for_victim(&FAMILIES, "down");
    let reason = gateway.reason(&status, "ipv4");
    let wanted = "http://missing.test/: failed to resolve missing.test: the name does not exist";
    assert!(reason.contains(wanted), "{reason}");
}

#[test]
fn an_unanswered_lookup_is_reported() {
    let mut gateway = Probed::start(lab(), "\"http://portal.test/\"");
    gateway
        .nft("table inet quiet { chain forward { type filter hook forward priority 0; drop; }\n}");
    let status = gateway.wait_for_victim(&FAMILIES, "down");
    let reason = gateway.reason(&status, "ipv6");
    assert!(reason.contains("failed to resolve portal.test"), "{reason}");
}

#[test]
fn a_name_of_one_family_does_not_affect_the_other() {
    let lab = lab();
    let _resolver = resolver(&lab);
    let _server = nginx(&lab.net, HTTP);
    let mut gateway = Probed::start(lab, &format!("\"http://four.test:{HTTP}/\""));
    gateway.wait_until_up();
    let status = gateway.daemon.status().unwrap();
    assert_eq!(gateway.reason(&status, "ipv6"), "as the other family: up");
    gateway.lose_and_mend(FORWARDED, &format!("tcp dport {HTTP}"));
}

#[test]
fn forged_dns_replies_count_nothing() {
    let lab = lab();
    let _resolver = resolver(&lab);
    let forger = DnsForger::start(&lab, VICTIM);
    let mut gateway = Probed::start(lab, &both(|host| format!("dns://{host}")));
    judge_forger(&mut gateway, &FAMILIES, forger.answers());
}

#[test]
fn forged_echo_replies_count_nothing() {
    let lab = lab();
    let forger = EchoForger::start(&lab, VICTIM);
    let mut gateway = Probed::start(lab, &format!("\"{}\"", plan::server(Family::V4, 0)));
    judge_forger(&mut gateway, &["ipv4"], forger.answers());
}

/// Checks that the victim is down while its forger forges, and up once it answers like the target,
/// however often.
fn judge_forger(gateway: &mut Probed, families: &[&str], answers: &Answers) {
    gateway.wait_for_victim(families, "down");
    let before = answers.forged();
    wait::until(
        "more forged answers",
        LIMIT,
        || Ok((answers.forged() > before + 50).then_some(())),
    )
    .unwrap();
    gateway.wait_for_victim(families, "down");
    answers.become_honest();
    gateway.wait_for_victim(families, "up");
}

/// A private certificate authority, and a server's certificate signed by it.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new(name: &str) -> Self {
        let folder = TempDir::with_prefix("linkbal-tls-").unwrap();
        let key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        openssl(&folder, &format!("{key} -keyout ca.key -out ca.pem -subj /CN=authority"));
        let of = "-CA ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:FALSE";
        let names = format!("-subj /CN={name} -addext subjectAltName=DNS:{name}");
        openssl(&folder, &format!("{key} -keyout key -out cert {of} {names}"));
        Self { folder }
    }

    fn server(&self, lab: &Lab) -> Server {
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap();
        let listen = format!("listen {HTTPS} ssl; listen [::]:{HTTPS} ssl; return 200 alive;");
        let lines = format!("{listen} ssl_certificate cert; ssl_certificate_key key;");
        nginx_with(&lab.net, HTTPS, &lines, &[("cert", &read("cert")), ("key", &read("key"))])
    }
}

fn openssl(folder: &TempDir, args: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(args.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
