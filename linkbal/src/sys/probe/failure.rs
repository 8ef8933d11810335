//! Failures of system calls: each tells something about the line, or only about this machine.
//!
//! A failure that users' packets by this uplink meet as well counts against the uplink; one that
//! this process alone meets says nothing about it, and the probe is void. Failures of the line come
//! late: the kernel hears of them (an ICMP error, a neighbour that does not answer) and tells them
//! while the answer is waited for. A failure that a call returns at once was found on this machine.
//!
//! | failure | opening, connecting | sending | waiting |
//! |---|---|---|---|
//! | `EMFILE`, `ENFILE`: no descriptor is free | void | - | - |
//! | `ENOMEM`: no memory | void | void | void |
//! | `ENOBUFS`, `EAGAIN` | void: no memory, no port | lost: the queue of the device is full, as on a line that does not take anything | void |
//! | `EPERM`: this machine's firewall or a cgroup drops it, or a capability is missing | void | void | counts |
//! | `EACCES`: the same by its policy (LSM, a route `prohibit`); ICMPv6 "prohibited" from a router | void | void | counts |
//! | `EADDRNOTAVAIL`, `EADDRINUSE`: no port or no address is left | void | void | counts |
//! | `ENODEV`, `ENXIO`, `ENETDOWN`: the interface is gone or down; the kernel's news say so, and they are a verdict of their own | void | void | void |
//! | `ENETUNREACH`, `EHOSTUNREACH`: no route by this uplink, for users either; or an ICMP error, or a silent neighbour | counts | counts | counts |
//! | `ECONNREFUSED`, `ETIMEDOUT`, `ECONNRESET`: the other end | counts | counts | counts |
//! | all others | void | void | counts |

use std::{fmt::Display, future::Future, io};

use anyhow::{Error, Result};
use futures::{StreamExt as _, stream::FuturesUnordered};

use crate::engine::health::FailureKind;

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Anything before the probe is sent, connecting included.
    Open,
    /// Sending.
    Send,
    /// Waiting for the answer.
    Wait,
}

/// The meaning of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The failure counts against the uplink.
    Failed,
    /// The probe was not sent, which says nothing about the uplink.
    NotSent,
    /// The probe is lost on the way out, as others are.
    Lost,
}

/// The reason on this machine for which a probe was not sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotSent(pub(super) String);

impl NotSent {
    /// Returns whether an error says that a probe was not sent.
    pub(super) fn is(error: &Error) -> bool {
        error.is::<NotSent>()
    }
}

/// An answer that is not the expected one.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct WrongAnswer {
    kind: FailureKind,
    text: String,
}

impl WrongAnswer {
    /// Creates the error of an answer that is not the expected one.
    pub(super) fn error(kind: FailureKind, text: impl Into<String>) -> Error {
        WrongAnswer { kind, text: text.into() }.into()
    }

    /// Adds to an error that it has this kind.
    pub(super) fn of(kind: FailureKind, error: Error, text: impl Into<String>) -> Error {
        error.context(WrongAnswer { kind, text: text.into() })
    }

    /// Returns the kind of a failure, if it has one.
    pub(super) fn kind(error: &Error) -> Option<FailureKind> {
        error.downcast_ref::<WrongAnswer>().map(|wrong| wrong.kind)
    }
}

/// Returns the meaning of a failure of a call.
pub(super) fn meaning(call: Call, errno: Option<i32>) -> Meaning {
    match (call, errno) {
        (Call::Send, Some(libc::ENOBUFS | libc::EAGAIN)) => Meaning::Lost,
        (_, Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => Meaning::Failed,
        (_, Some(libc::ECONNREFUSED | libc::ETIMEDOUT | libc::ECONNRESET)) => Meaning::Failed,
        (Call::Open | Call::Send, _) => Meaning::NotSent,
        (
            Call::Wait,
            Some(
                libc::ENOMEM
                | libc::ENOBUFS
                | libc::EAGAIN
                | libc::ENODEV
                | libc::ENXIO
                | libc::ENETDOWN,
            ),
        ) => Meaning::NotSent,
        (Call::Wait, _) => Meaning::Failed,
    }
}

/// Returns the error of a call with its meaning, for [`NotSent::is`].
pub(super) fn classified<C>(call: Call, error: io::Error, context: C) -> Error
where
    C: Display + Send + Sync + 'static,
{
    match meaning(call, error.raw_os_error()) {
        Meaning::Failed | Meaning::Lost => Error::new(error).context(context),
        Meaning::NotSent => Error::new(NotSent(words(call, &error))).context(context),
    }
}

/// Says why a probe was not sent.
fn words(call: Call, error: &io::Error) -> String {
    match (call, error.raw_os_error()) {
        // nf_hook_slow in net/netfilter/core.c
        (Call::Send, Some(libc::EPERM)) => format!("this machine's firewall refuses it ({error})"),
        _ => error.to_string(),
    }
}

/// Returns the first of several answers. If all requests fail, one that this machine could not send
/// counts most: it may have been the one that would have been answered.
///
/// # Errors
///
/// If all fail, or there are none.
pub(super) async fn first_of<T>(all: impl Iterator<Item: Future<Output = Result<T>>>) -> Result<T> {
    let mut all: FuturesUnordered<_> = all.collect();
    let mut failure: Option<Error> = None;
    while let Some(ended) = all.next().await {
        match ended {
            Ok(found) => return Ok(found),
            Err(error) if failure.as_ref().is_none_or(|failure| !NotSent::is(failure)) => {
                failure = Some(error);
            }
            Err(_) => {}
        }
    }
    Err(failure.unwrap_or_else(|| Error::msg("there is no server to ask")))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Errors that only the kernel of this machine can report, whatever the line does.
    const OURS: [i32; 12] = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::EPERM,
        libc::EACCES,
        libc::EADDRNOTAVAIL,
        libc::EADDRINUSE,
        libc::ENODEV,
        libc::ENXIO,
        libc::ENETDOWN,
        libc::EINVAL,
        libc::EAFNOSUPPORT,
    ];

    #[test]
    fn what_this_machine_lacks_counts_against_no_uplink() {
        for errno in OURS {
            assert_eq!(meaning(Call::Open, Some(errno)), Meaning::NotSent, "{errno}");
            assert_eq!(meaning(Call::Send, Some(errno)), Meaning::NotSent, "{errno}");
            let error =
                classified(Call::Open, io::Error::from_raw_os_error(errno), "failed to open");
            assert!(NotSent::is(&error) && NotSent::is(&error.context("failed to ask")), "{errno}");
        }
        for errno in [libc::ENOBUFS, libc::EAGAIN] {
            assert_eq!(meaning(Call::Open, Some(errno)), Meaning::NotSent);
            assert_eq!(
                meaning(Call::Send, Some(errno)),
                Meaning::Lost,
                "a line that takes nothing"
            );
        }
    }

    #[test]
    fn a_refusal_to_send_is_the_firewalls() {
        let refused = || io::Error::from_raw_os_error(libc::EPERM);
        let said = |call| format!("{:#}", classified(call, refused(), "failed to send"));
        assert!(said(Call::Send).contains("failed to send: this machine's firewall refuses it"));
        assert!(!said(Call::Open).contains("firewall"), "a capability may be missing");
    }

    #[test]
    fn of_several_failures_that_of_this_machine_is_told() {
        let ours = || Err(Error::new(NotSent("no descriptor".into())).context("failed to connect"));
        let line = || Err(Error::msg("no answer"));
        let ended = |all: Vec<Result<u8>>| {
            let all = all.into_iter().map(std::future::ready);
            first_of(all).now_or_never().expect("all are ready")
        };
        assert!(ended(vec![ours(), line()]).is_err_and(|error| NotSent::is(&error)));
        assert!(ended(vec![line(), ours(), line()]).is_err_and(|error| NotSent::is(&error)));
        assert!(ended(vec![line(), line()]).is_err_and(|error| !NotSent::is(&error)));
        assert!(ended(vec![]).is_err_and(|error| !NotSent::is(&error)));
        assert_eq!(ended(vec![ours(), Ok(7)]).ok(), Some(7));
    }

    #[test]
    fn what_the_line_says_counts() {
        let line = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ECONNREFUSED, libc::ETIMEDOUT];
        for errno in line {
            for call in [Call::Open, Call::Send, Call::Wait] {
                assert_eq!(meaning(call, Some(errno)), Meaning::Failed, "{errno}");
                let error = classified(call, io::Error::from_raw_os_error(errno), "failed to ask");
                assert!(!NotSent::is(&error), "{errno}");
            }
        }
        // ICMPv6 tells in this way that a router may not forward.
        assert_eq!(meaning(Call::Wait, Some(libc::EACCES)), Meaning::Failed);
        assert_eq!(meaning(Call::Wait, None), Meaning::Failed);
    }
}
