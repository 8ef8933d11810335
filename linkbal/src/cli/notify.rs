//! `linkbal notify`.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::Result;
use hyper::Method;

use super::{
    exit::{Exit, misuse},
    local_time::Zone,
    print, request, request_within,
};
use crate::{
    api::{
        client,
        notify::{ReceiverStatus, TestResult, test_path},
        status::Status,
    },
    words::count,
};

/// Longest time for tests of all receivers.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Shows the receivers of messages, or tries them if `test` is set: one, or all.
///
/// # Errors
///
/// If the daemon does not answer, or has no such receiver.
pub(super) fn run(receiver: Option<&str>, test: bool, json: bool) -> Result<ExitCode> {
    if !test {
        let status: Status = client::read(&request(Method::GET, "/v1/status")?)?;
        let text = match json {
            true => serde_json::to_string(&status.receivers)? + "\n",
            false => shown(&status.receivers, &Zone::system()),
        };
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = request_within(Method::POST, &test_path(receiver), TEST_TIMEOUT)?;
    let tested: Vec<TestResult> = client::read(&text)?;
    if tested.is_empty() {
        // A script that tries them must not take this for a success.
        return Err(misuse(NONE.trim_end()));
    }
    print(&if json { text + "\n" } else { results(&tested) })?;
    let sent = tested.iter().all(|result| result.sent);
    Ok(if sent { ExitCode::SUCCESS } else { Exit::Failed.into() })
}

const NONE: &str = "no messages are sent: the configuration has no [notify.NAME]\n";

/// Renders the receivers.
fn shown(receivers: &[ReceiverStatus], zone: &Zone) -> String {
    if receivers.is_empty() {
        return NONE.into();
    }
    let mut text = String::new();
    for receiver in receivers {
        let ReceiverStatus { name, kind, sent, waiting, .. } = receiver;
        // A string takes all.
        let _ = write!(text, "{name} ({kind}): {} sent", messages(*sent));
        if let Some(time) = &receiver.last_sent {
            let by = receiver.last_by.as_deref().unwrap_or("no uplink");
            let _ = write!(text, ", the last one {} by {by}", zone.show(time));
        }
        if *waiting > 0 {
            let _ = write!(text, ", {waiting} news wait");
        }
        text.push('\n');
        text.extend(problem(receiver).map(|problem| format!("  {problem}\n")));
    }
    text
}

fn messages(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "message")
}

/// Returns what is wrong with the messages to a receiver, if anything is.
pub(super) fn problem(receiver: &ReceiverStatus) -> Option<String> {
    let failing = receiver.failing.as_ref().map(|reason| format!("messages fail: {reason}"));
    let dropped =
        (receiver.dropped > 0).then(|| format!("{} news were given up", receiver.dropped));
    let refused = receiver.refused.iter().map(|refused| format!("recipient refused: {refused}"));
    let parts: Vec<String> = [failing, dropped].into_iter().flatten().chain(refused).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Renders what became of tests.
fn results(tested: &[TestResult]) -> String {
    let line = |result: &TestResult| {
        let TestResult { receiver, sent, by, said } = result;
        let by = by.as_deref().map_or("without an uplink".into(), |by| format!("by {by}"));
        match sent {
            true => format!("{receiver}: sent {by}: {said}\n"),
            false => format!("{receiver}: not sent: {said}\n"),
        }
    };
    tested.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_shown_with_what_is_wrong() {
        let receiver = ReceiverStatus {
            name: "admin".into(),
            kind: "mail".into(),
            sent: 3,
            failed: 2,
            dropped: 1,
            waiting: 4,
            failing: Some("no answer".into()),
            refused: vec!["a@example.com: 550".into()],
            last_sent: Some("2026-11-22T02:08:43Z".into()),
            last_by: Some("fiber".into()),
        };
        assert_eq!(
            shown(&[receiver], &Zone::utc()),
            "admin (mail): 3 messages sent, the last one 2026-11-22 02:08:43 UTC by fiber, 4 news \
             wait\n  messages fail: no answer; 1 news were given up; recipient refused: \
             a@example.com: 550\n"
        );
        assert_eq!(shown(&[], &Zone::utc()), NONE);
    }

    #[test]
    fn tests_say_what_the_server_said() {
        let tested = |sent, by: Option<&str>| TestResult {
            receiver: "admin".into(),
            sent,
            by: by.map(str::to_owned),
            said: "250 OK".into(),
        };
        let all = [tested(true, Some("fiber")), tested(true, None), tested(false, None)];
        assert_eq!(
            results(&all),
            "admin: sent by fiber: 250 OK\nadmin: sent without an uplink: 250 OK\n\
             admin: not sent: 250 OK\n"
        );
    }
}
