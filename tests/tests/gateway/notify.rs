//! Messages about outages, at servers behind the uplinks.

mod server;

use std::fs;
use std::net::SocketAddr;

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use self::server::{Mailbox, Received};
use crate::drill::endless_drill;
use crate::fixture::{Gateway, LIMIT, OPEN, linkbal, text};

const SMTP: u16 = 2525;
const HOOK: u16 = 8025;
const TOKEN: &str = "42:secret";

/// A gateway that tells two receivers, each by the servers of another family.
struct Told {
    gateway: Gateway,
    mail: Mailbox,
    hook: Mailbox,
    folder: TempDir,
}

fn receivers(folder: &TempDir, smtp: u16, hook: u16) -> String {
    let token = folder.path().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let at = |family, port| SocketAddr::new(plan::server(family, 0), port);
    let (mail, page) = (at(Family::V4, smtp), at(Family::V6, hook));
    format!(
        "{OPEN}
        [notify.mail]
        server = \"smtp://{mail}\"
        tls = \"off\"
        from = \"gateway@example.com\"
        to = \"admin@example.com\"
        gather = \"2s\"
        [notify.hook]
        url = \"http://{page}/bot{{token}}/send\"
        token_file = {token:?}
        template = '{{\"chat_id\": 7, \"text\": \"{{text}}\"}}'
        gather = \"2s\"
        "
    )
}

impl Told {
    fn start() -> Told {
        let folder = TempDir::new().unwrap();
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        let (mail, hook) = (server::smtp(&lab.net, SMTP), server::http(&lab.net, HOOK));
        let more = receivers(&folder, SMTP, HOOK);
        let gateway = Gateway::start(lab, |config| format!("{config}{more}"));
        Told { gateway, mail, hook, folder }
    }

    /// Waits until a receiver has a message with such a text, and returns it.
    fn wait_for(&self, mailbox: &Mailbox, part: &str) -> Received {
        let found = wait::until("a message", LIMIT, || {
            Ok(mailbox.all().into_iter().find(|message| message.text.contains(part)))
        });
        found.unwrap_or_else(|error| {
            panic!("{error:#}: {part}: {:#?}\n{}", mailbox.all(), self.gateway.daemon.log())
        })
    }

    /// Waits until nothing waits for a receiver.
    fn wait_until_told(&mut self) {
        let told = |status: &Value| all(status).iter().all(|receiver| receiver["waiting"] == 0);
        self.gateway.daemon.wait_for("no news that wait", LIMIT, told).unwrap();
    }
}

fn all(status: &Value) -> &Vec<Value> {
    status["receivers"].as_array().unwrap()
}

fn of<'a>(status: &'a Value, name: &str) -> &'a Value {
    all(status).iter().find(|receiver| receiver["name"] == name).unwrap()
}

fn uplink_of(message: &Received) -> Option<usize> {
    plan::uplink_of(message.from)
}

#[test]
fn an_outage_is_told_by_the_other_uplink_with_its_end_and_cause() {
    let mut told = Told::start();
    assert!(told.mail.all().is_empty() && told.hook.all().is_empty(), "nothing happened yet");
    told.gateway.lab.cut_cable(0).unwrap();
    for mailbox in [&told.mail, &told.hook] {
        let message = told.wait_for(mailbox, "isp-a is down: no carrier on wan-a");
        assert_eq!(uplink_of(&message), Some(1), "{message:?}");
        assert!(message.text.contains("Uplinks that work now: isp-b"), "{message:?}");
    }
    let mail = told.mail.all()[0].text.clone();
    for line in ["MAIL FROM:<gateway@example.com>", "RCPT TO:<admin@example.com>", "Subject: ["] {
        assert!(mail.contains(line), "{mail}");
    }
    let hook = told.hook.all()[0].text.clone();
    assert!(hook.starts_with(&format!("POST /bot{TOKEN}/send HTTP/1.1\r\n")), "{hook}");
    let (_, body) = hook.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["chat_id"], 7);
    told.gateway.lab.plug_cable(0).unwrap();
    told.gateway.daemon.wait_until_up(LIMIT).unwrap();
    for mailbox in [&told.mail, &told.hook] {
        let message = told.wait_for(mailbox, "was down");
        let line = message.text.lines().find(|line| line.contains("was down")).unwrap();
        assert!(line.contains("isp-a") && line.contains("no carrier on wan-a"), "{message:?}");
    }
    told.wait_until_told();
    let status = told.gateway.daemon.status().unwrap();
    for name in ["mail", "hook"] {
        let receiver = of(&status, name);
        assert!(receiver["failing"].is_null() && receiver["dropped"] == 0, "{receiver}");
        assert!(receiver["sent"].as_u64() >= Some(2), "{receiver}");
    }
    // The secret is nobody else's.
    let log = told.gateway.daemon.log();
    let events = told.gateway.daemon.run(&["events"]).unwrap();
    let status = status.to_string();
    assert!([&log, &events, &status].iter().all(|text| !text.contains(TOKEN)));
}

#[test]
fn a_drill_that_is_left_alone_is_no_outage_and_what_comes_later_is() {
    let mut told = Told::start();
    let drill = endless_drill(&told.gateway.lab);
    told.gateway.wait_until_down(0);
    drop(drill);
    told.gateway.daemon.wait_until_up(LIMIT).unwrap();
    told.gateway.lab.cut_cable(0).unwrap();
    told.wait_for(&told.mail, "isp-a is down: no carrier on wan-a");
    told.gateway.lab.plug_cable(0).unwrap();
    told.gateway.daemon.wait_until_up(LIMIT).unwrap();
    told.wait_for(&told.mail, "was down");
    told.wait_until_told();
    for message in told.mail.all() {
        for line in message.text.lines().filter(|line| line.contains("isp-a")) {
            assert!(
                line.contains("Uplinks that work") || line.contains("no carrier"),
                "{message:?}"
            );
        }
    }
    let history = told.gateway.daemon.run(&["history", "--json"]).unwrap();
    let outages: Vec<&str> = history.lines().filter(|line| line.contains("\"outage\"")).collect();
    assert!(
        !outages.is_empty() && outages.iter().all(|line| line.contains("no carrier")),
        "{history}"
    );
}

#[test]
fn what_happens_while_nothing_works_is_one_message_afterwards() {
    let mut told = Told::start();
    for uplink in 0..2 {
        told.gateway.lab.cut_cable(uplink).unwrap();
    }
    for uplink in 0..2 {
        told.gateway.wait_until_down(uplink);
    }
    let waits = |status: &Value| all(status).iter().all(|receiver| receiver["waiting"] == 4);
    told.gateway.daemon.wait_for("news of all uplinks and families", LIMIT, waits).unwrap();
    assert!(told.mail.all().is_empty() && told.hook.all().is_empty());
    told.gateway.lab.plug_cable(1).unwrap();
    let message = told.wait_for(&told.mail, "isp-a");
    assert_eq!(uplink_of(&message), Some(1));
    let line = |part: &str| message.text.lines().any(|line| line.contains(part));
    assert!(line("isp-a is down, since") || line("isp-a is down: no carrier"), "{message:?}");
    assert!(message.text.contains("isp-b") && message.text.contains(" was down "), "{message:?}");
    told.wait_until_told();
    let about_a = |message: &Received| message.text.contains("isp-a is down");
    assert_eq!(told.mail.all().iter().filter(|message| about_a(message)).count(), 1);
    let status = told.gateway.daemon.status().unwrap();
    assert_eq!(of(&status, "mail")["failed"], 0, "nothing was tried without a way: {status}");
}

#[test]
fn a_receiver_that_cannot_be_reached_is_an_event_and_harms_no_uplink() {
    let mut told = Told::start();
    let config = told.gateway.daemon.config_path();
    let text = fs::read_to_string(&config).unwrap();
    let closed = text.replace(&format!(":{SMTP}\""), ":2526\"");
    fs::write(&config, &closed).unwrap();
    told.gateway.daemon.run(&["reload"]).unwrap();
    told.gateway.lab.cut_cable(0).unwrap();
    let fails = |status: &Value| of(status, "mail")["failing"].is_string();
    let status = told.gateway.daemon.wait_for("a failure", LIMIT, fails).unwrap();
    let reason = of(&status, "mail")["failing"].as_str().unwrap().to_owned();
    assert!(reason.contains("by isp-b (ipv4): ") && reason.contains("refused"), "{reason}");
    let events = told.gateway.daemon.run(&["events", "--json"]).unwrap();
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = events.iter().find(|event| event["kind"] == "notify").unwrap();
    assert_eq!((&event["object"], &event["to"]), (&"mail".into(), &"failing".into()));
    assert!(told.gateway.daemon.run(&["status"]).unwrap().contains("notify mail: messages fail"));
    let isp_b = status["uplinks"].as_array().unwrap().iter().find(|it| it["name"] == "isp-b");
    assert_eq!(isp_b.unwrap()["state"], "up");
    // The other one is told meanwhile, and what waits outlives a reload.
    told.wait_for(&told.hook, "isp-a is down");
    fs::write(&config, &text).unwrap();
    told.gateway.daemon.run(&["reload"]).unwrap();
    told.wait_for(&told.mail, "isp-a is down: no carrier on wan-a");
    let works = |status: &Value| of(status, "mail")["failing"].is_null();
    told.gateway.daemon.wait_for("no failure", LIMIT, works).unwrap();
    told.gateway.daemon.stop(Signal::SIGTERM).unwrap();
    drop(told.folder);
}

#[test]
fn a_test_without_receivers_fails() {
    let gateway = Gateway::pair();
    let tested = linkbal(&gateway.lab, &["notify", "--test"]);
    assert_eq!(tested.status.code(), Some(2));
    assert!(text(&tested.stderr).contains("no [notify.NAME]"), "{}", text(&tested.stderr));
}

#[test]
fn a_test_says_what_each_server_says_and_a_server_of_the_lan_needs_no_uplink() {
    let told = Told::start();
    let said = told.gateway.daemon.run(&["notify", "--test"]).unwrap();
    assert!(said.contains("mail: sent by isp-") && said.contains(": 250 taken"), "{said}");
    assert!(said.contains("hook: sent by isp-") && said.contains(": 200 OK"), "{said}");
    told.wait_for(&told.mail, "test of mail");
    told.wait_for(&told.hook, "can send you messages");
    let error = told.gateway.daemon.run(&["notify", "--test", "mial"]).unwrap_err();
    assert!(format!("{error:#}").contains("did you mean \"mail\"?"), "{error:#}");
    let inside = server::smtp(&told.gateway.lab.lan, SMTP);
    let config = told.gateway.daemon.config_path();
    let text = fs::read_to_string(&config).unwrap();
    let lan = SocketAddr::new(plan::client(Family::V4, 0), SMTP);
    let old = SocketAddr::new(plan::server(Family::V4, 0), SMTP);
    fs::write(&config, text.replace(&old.to_string(), &lan.to_string())).unwrap();
    told.gateway.daemon.run(&["reload"]).unwrap();
    let said = told.gateway.daemon.run(&["notify", "--test", "mail"]).unwrap();
    assert_eq!(said, "mail: sent without an uplink: 250 taken\n");
    let message = told.wait_for(&inside, "test of mail");
    assert_eq!(message.from, plan::lan_gateway(Family::V4));
}
