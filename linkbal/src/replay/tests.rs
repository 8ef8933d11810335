//! Recordings made by hand.

use proptest::{prelude::*, sample::Index};

use super::*;

const CONFIG: &str = "[uplink.a]\ninterface = \"wan-a\"\n[uplink.b]\ninterface = \"wan-b\"\n\
                      [probe]\ntargets = [\"192.0.2.1\"]\n[[rule]]\nmatch = { domain = \"b.br\" }\n\
                      use = \"a\"\n";

fn start() -> Start {
    let sources = Sources { name: "test.toml".into(), text: CONFIG.into(), ..Sources::default() };
    let indexes = [("a".to_owned(), 0), ("b".to_owned(), 1)].into();
    let former = Vec::new();
    Start {
        version: VERSION,
        sources,
        indexes,
        up: 0x0003_0003,
        former,
        admin_states: BTreeMap::new(),
    }
}

fn with(start: &Start, inputs: &str) -> String {
    format!("{}\n{inputs}", serde_json::to_string(start).expect("JSON"))
}

/// The recording of a real outage, with every kind of message of the kernel.
const REAL: &str = include_str!("../../tests/replay/cable.jsonl");

fn error(text: &str) -> String {
    Recording::parse(text).expect_err("a bad recording").to_string()
}

#[test]
fn inputs_are_played_at_their_times() {
    let text = with(
        &start(),
        "{\"at_ns\":0}\n\
         {\"at_ns\":1000000005,\"event\":{\"Admin\":{\"uplink\":0,\"admin\":\"disabled\"}}}\n",
    );
    let recording = Recording::parse(&text).expect("a recording");
    let lines = text::decisions(&recording);
    assert_eq!(
        lines,
        "   1.000000005 tell: uplink a: enabled -> disabled: the administrator wants it so\n   \
         1.000000005 to be avoided: ipv4 none, ipv6 none\n   1.000000005 usable: ipv4 b, ipv6 b\n   \
         1.000000005 end the ipv4 flows of a\n   \
         1.000000005 forget the ipv4 connections with fwmark 0x01000000\n   \
         1.000000005 end the ipv6 flows of a\n   1.000000005 forget the \
         ipv6 connections with fwmark 0x01000000\n   1.000000005 tell: uplink a ipv4: up -> \
         admin-down: disabled by the administrator\n   1.000000005 tell: uplink a ipv6: up -> \
         admin-down: disabled by the administrator\n"
    );
    assert!(text::everything(&recording).starts_with("0.000000000 Observe\n"));
}

#[test]
fn another_configuration_is_an_input() {
    let one = CONFIG.replace("[uplink.b]\ninterface = \"wan-b\"\n", "");
    let configuration = Configuration {
        sources: Sources { text: one, ..start().sources },
        indexes: [("a".to_owned(), 0)].into(),
        admin_states: BTreeMap::new(),
    };
    let input = |configuration| Input::<Event> { at_ns: 7, event: None, configuration };
    let line = |configuration: &Configuration| {
        serde_json::to_string(&input(Some(configuration.clone()))).expect("JSON") + "\n"
    };
    let recording = Recording::parse(&with(&start(), &line(&configuration))).expect("a recording");
    assert!(text::decisions(&recording).starts_with("   0.000000007 usable: ipv4 a, ipv6 a\n"));
    assert_eq!(recording.uplinks().len(), 2, "that of the former configuration, too");
    let bad = Configuration { indexes: [("a".to_owned(), 16)].into(), ..configuration };
    assert_eq!(error(&with(&start(), &line(&bad))), "line 2: no uplink can have the index 16");
}

#[test]
fn what_is_no_recording_is_refused_with_its_line() {
    assert_eq!(error(""), "line 1: the recording is empty");
    assert!(error("hello\n").starts_with("line 1: this is no recording of linkbal: "));
    let newer = Start { version: 2, ..start() };
    assert_eq!(error(&with(&newer, "")), "line 1: the format has version 2, this linkbal reads 1");
    let twins = Start { indexes: [("a".to_owned(), 1), ("b".to_owned(), 1)].into(), ..start() };
    assert_eq!(error(&with(&twins, "")), "line 1: two uplinks have the same index");
    let high = Start { indexes: [("a".to_owned(), 16)].into(), ..start() };
    assert_eq!(error(&with(&high, "")), "line 1: no uplink can have the index 16");
    let sources = Sources { text: "[uplink".into(), ..start().sources };
    assert!(error(&with(&Start { sources, ..start() }, "")).starts_with("line 1: 1 problem in"));
    let back = "{\"at_ns\":5}\n{\"at_ns\":4}\n";
    let expected = "line 3: its time 4 is before that of the line before, 5";
    assert_eq!(error(&with(&start(), back)), expected);
    assert!(
        error(&with(&start(), "{\"at_ns\":5,\"evnet\":1}\n")).contains("line 2: unknown field")
    );
    let long = "{\"at_ns\":5,\"event\":{\"Resolved\":{\"name\":\"b.br\",\"addresses\":\
                [[\"192.0.2.1\",{\"secs\":18446744073709551615,\"nanos\":0}]]}}}\n";
    assert_eq!(error(&with(&start(), long)), "line 2: a TTL is longer than DNS can say");
}

#[test]
fn a_last_line_that_was_cut_off_is_left_out() {
    let recording = Recording::parse(&with(&start(), "{\"at_ns\":1}\n{\"at_ns\":")).expect("one");
    assert_eq!(recording.inputs.len(), 1);
}

#[test]
fn files_that_the_configuration_names_are_part_of_it() {
    let text = CONFIG.replace("domain = \"b.br\"", "destination = { file = \"video.txt\" }");
    let files = [("video.txt".into(), "192.0.2.0/24\n".to_owned())].into();
    let sources = Sources { text, files, ..start().sources };
    let start = Start { sources, ..start() };
    assert!(Recording::parse(&with(&start, "")).is_ok());
    let sources = Sources { files: BTreeMap::new(), ..start.sources.clone() };
    assert!(error(&with(&Start { sources, ..start }, "")).contains("video.txt"));
}

/// Returns the positions of digits in the events of a recording.
fn digits_of_events(recording: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut line_start = 0;
    for line in recording.split_inclusive(|byte| *byte == b'\n') {
        let event = line.windows(7).position(|word| word == b"\"event\"").unwrap_or(line.len());
        let digits = (event..line.len()).filter(|at| line[*at].is_ascii_digit());
        places.extend(digits.map(|at| line_start + at));
        line_start += line.len();
    }
    places
}

/// The limits of the types that numbers have.
const EXTREMES: [&str; 8] = [
    "0",
    "255",
    "65535",
    "2147483647",
    "4294967295",
    "9223372036854775807",
    "18446744073709551614",
    "18446744073709551615",
];

proptest! {
    /// Checks that a damaged file is played or refused. Other digits in the events are still JSON,
    /// most of the time; other bytes hardly ever.
    #[test]
    fn damaged_recordings_are_played_or_refused(
        digits in proptest::collection::vec((any::<Index>(), b'0'..=b'9'), 0..8),
        others in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..2),
        lines in 1usize..80,
    ) {
        let short: String = REAL.split_inclusive('\n').take(lines).collect();
        let mut bytes = short.into_bytes();
        let in_events = digits_of_events(&bytes);
        if !in_events.is_empty() {
            digits.iter().for_each(|(at, digit)| bytes[*at.get(&in_events)] = *digit);
        }
        let length = bytes.len();
        others.iter().for_each(|(at, byte)| bytes[at.index(length)] = *byte);
        if let Ok(recording) = Recording::parse(&String::from_utf8_lossy(&bytes)) {
            text::everything(&recording);
        }
    }

    /// Checks the same for numbers at the limits of their types.
    #[test]
    fn numbers_without_measure_are_played_or_refused(
        numbers in proptest::collection::vec((any::<Index>(), 0..EXTREMES.len()), 1..6),
        lines in 1usize..80,
    ) {
        let mut text: String = REAL.split_inclusive('\n').take(lines).collect();
        for (at, extreme) in numbers {
            let in_events = digits_of_events(text.as_bytes());
            let Some(at) = (!in_events.is_empty()).then(|| *at.get(&in_events)) else { break };
            let digit = |byte: &u8| byte.is_ascii_digit();
            let before = text.as_bytes()[..at].iter().rev().take_while(|byte| digit(byte)).count();
            let after = text.as_bytes()[at..].iter().take_while(|byte| digit(byte)).count();
            text.replace_range(at - before..at + after, EXTREMES[extreme]);
        }
        if let Ok(recording) = Recording::parse(&text) {
            text::everything(&recording);
        }
    }

    /// Checks that any text is refused.
    #[test]
    fn any_text_is_refused(text in "\\PC*\n") {
        prop_assert!(Recording::parse(&text).is_err());
    }
}
