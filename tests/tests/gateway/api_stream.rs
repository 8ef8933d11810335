//! The stream of events, as curl reads it: it goes on behind what a reader has, over restarts as well.

use std::fs::{self, File};
use std::path::PathBuf;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::Process;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Gateway, LIMIT, OPEN};

/// A message of a stream.
#[derive(Debug)]
struct Message {
    id: Option<String>,
    name: String,
    data: Value,
}

/// A reader of the stream.
struct Follower {
    path: PathBuf,
    process: Process,
}

impl Follower {
    /// Starts to read, behind the event with an id if there is one.
    fn start(gateway: &Gateway, folder: &TempDir, name: &str, after: Option<&str>) -> Follower {
        let path = folder.path().join(name);
        let socket = gateway.lab.gateway.socket();
        let mut curl = gateway.lab.gateway.command("curl");
        curl.args(["-sSN", "-H", "Accept: text/event-stream", "--unix-socket"]).arg(socket);
        if let Some(after) = after {
            curl.args(["-H", &format!("Last-Event-ID: {after}")]);
        }
        curl.arg("http://linkbal/v1/events").stdout(File::create(&path).unwrap());
        let process = gateway.lab.gateway.spawn(&mut curl).unwrap();
        Follower { path, process }
    }

    /// Waits for so many messages.
    fn heard(&self, count: usize) -> Vec<Message> {
        let what = format!("{count} messages in {}", self.path.display());
        wait::until(&what, LIMIT, || {
            let messages = messages(&fs::read_to_string(&self.path)?);
            Ok((messages.len() >= count).then_some(messages))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", fs::read_to_string(&self.path).unwrap()))
    }
}

/// Reads the messages of a stream that are complete.
fn messages(text: &str) -> Vec<Message> {
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    let field = |block: &str, name: &str| {
        let values = block.lines().filter_map(|line| line.strip_prefix(name));
        values.map(|value| value.trim().to_owned()).next()
    };
    let message = |block: &str| {
        let data = field(block, "data:")?;
        Some(Message {
            id: field(block, "id:"),
            name: field(block, "event:").unwrap_or_default(),
            data: serde_json::from_str(&data).unwrap(),
        })
    };
    whole.split("\n\n").filter_map(message).collect()
}

fn sequences(messages: &[Message]) -> Vec<u64> {
    messages.iter().filter_map(|message| message.data["sequence"].as_u64()).collect()
}

fn last_id(messages: &[Message]) -> String {
    messages.iter().rev().find_map(|message| message.id.clone()).unwrap()
}

/// Ends the daemon, and starts another one.
fn restart(gateway: &mut Gateway, signal: Signal, between: impl FnOnce()) {
    let config = fs::read_to_string(gateway.daemon.config_path()).unwrap();
    gateway.daemon.stop(signal).unwrap();
    between();
    let mut next = Daemon::start(&gateway.lab, &config).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    gateway.daemon = next;
}

#[test]
fn a_follower_goes_on_where_it_was_and_is_told_what_is_lost() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut gateway = Gateway::start(lab, |config| format!("{config}{OPEN}"));
    let folder = TempDir::new().unwrap();
    let mut first = Follower::start(&gateway, &folder, "first", None);
    let heard = first.heard(4);
    assert_eq!(sequences(&heard), [1, 2, 3, 4]);
    let id = heard[1].id.clone().unwrap();
    assert_eq!(id, format!("2-{}", heard[1].data["run"].as_str().unwrap()));
    gateway.lab.cut_cable(0).unwrap();
    assert_eq!(sequences(&first.heard(6)), [1, 2, 3, 4, 5, 6]);
    // One that comes back gets what it missed, and nothing twice.
    let mut second = Follower::start(&gateway, &folder, "second", Some(&id));
    let heard = second.heard(4);
    assert_eq!(sequences(&heard), [3, 4, 5, 6]);
    let id = last_id(&heard);
    first.process.kill();
    second.process.kill();
    gateway.lab.plug_cable(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();

    // After a restart, too.
    restart(&mut gateway, Signal::SIGTERM, || {});
    let mut third = Follower::start(&gateway, &folder, "third", Some(&id));
    gateway.lab.cut_cable(1).unwrap();
    let heard = third.heard(4);
    assert_eq!(sequences(&heard)[..4], [7, 8, 9, 10]);
    assert_ne!(heard[1].data["run"], heard[2].data["run"]);
    assert!(heard.iter().all(|message| message.name != "gap"), "{heard:?}");
    third.process.kill();
    gateway.lab.plug_cable(1).unwrap();

    // Without the file, numbers begin anew: they are not taken for those that the reader has.
    let file = gateway.lab.gateway.run_dir().join("state/events.jsonl");
    restart(&mut gateway, Signal::SIGTERM, || fs::remove_file(&file).unwrap());
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    let mut fourth = Follower::start(&gateway, &folder, "fourth", Some(&id));
    let heard = fourth.heard(3);
    assert_eq!((&*heard[0].name, &heard[0].id), ("gap", &None), "{heard:?}");
    assert_eq!(heard[0].data["after"], id);
    assert_eq!(heard[0].data["next"].as_str(), heard[1].id.as_deref());
    assert_eq!(sequences(&heard)[..2], [1, 2]);
    fourth.process.kill();
}
