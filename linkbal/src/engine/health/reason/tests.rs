use std::collections::BTreeSet;

use linkbal_common::uplink::Family;

use super::*;
use crate::engine::kernel::unready::NoGateway;

const MEASURES: [Measure; 3] = [Measure::Loss, Measure::Latency, Measure::Jitter];

fn limits() -> Vec<Exceeded> {
    MEASURES.map(|measure| Exceeded { measure, value: 350.25, limit: 300.0 }).to_vec()
}

/// Returns all that an uplink may lack.
fn lacks() -> Vec<Unready> {
    let name = || "wan-a".to_owned();
    let no_gateway = |why| Unready::NoGateway(Family::Ipv4, name(), why);
    vec![
        Unready::Off(Family::Ipv6),
        Unready::Missing(name()),
        Unready::LinkDown(name()),
        Unready::NoCarrier(name()),
        Unready::NoAddress(Family::Ipv4, name()),
        no_gateway(NoGateway::NoRoute),
        no_gateway(NoGateway::RouteElsewhere),
        no_gateway(NoGateway::NexthopObject),
    ]
}

fn unprobed(count: usize) -> Unprobed {
    Unprobed { target: "192.0.2.1".into(), failure: "refused".into(), count, all: 2 }
}

/// Returns the reason after one: a new one cannot be left out of [`samples`].
fn next(reason: &Reason) -> Option<Reason> {
    let time = Duration::from_millis(5030);
    Some(match reason {
        Reason::FoundUsable => Reason::NoAnswerYet,
        Reason::NoAnswerYet => Reason::TargetsAnswer,
        Reason::TargetsAnswer => Reason::GoodRounds { rounds: 30, lasted: time },
        Reason::GoodRounds { .. } => Reason::Admitted,
        Reason::Admitted => Reason::ProbesLost,
        Reason::ProbesLost => Reason::Disabled,
        Reason::Disabled => Reason::Reenabled,
        Reason::Reenabled => Reason::Standby(Unready::NoCarrier("wan-a".into())),
        Reason::Standby(_) => Reason::NotReady(Unready::NoCarrier("wan-a".into())),
        Reason::NotReady(_) => Reason::AddressBack,
        Reason::AddressBack => Reason::NoTargets,
        Reason::NoTargets => Reason::NoTargetsOfFamily,
        Reason::NoTargetsOfFamily => Reason::OtherFamily(State::AdminDown),
        Reason::OtherFamily(_) => Reason::GatewayMissing(IpAddr::from([192, 0, 2, 1])),
        Reason::GatewayMissing(_) => failed(1, 0, 2),
        Reason::RoundsFailed { .. } => Reason::FewNetworks,
        Reason::FewNetworks => Reason::ExcusedLongEnough,
        Reason::ExcusedLongEnough => Reason::Cause(Cause::Internet),
        Reason::Cause(_) => Reason::NothingBehindGateway,
        Reason::NothingBehindGateway => {
            Reason::TargetFailed { target: "192.0.2.1".into(), failure: "refused".into() }
        }
        Reason::TargetFailed { .. } => Reason::DrillBlocks,
        Reason::DrillBlocks => Reason::DrillBlocked,
        Reason::DrillBlocked => Reason::LimitsExceeded(limits()),
        Reason::LimitsExceeded(_) => Reason::Degraded(limits()),
        Reason::Degraded(_) => Reason::NotProbed { lasted: time, unprobed: unprobed(2) },
        Reason::NotProbed { .. } => Reason::ComesBackIn(time),
        Reason::ComesBackIn(_) => Reason::ComesBackAtOnce,
        Reason::ComesBackAtOnce => Reason::ComesBackWhenWell(time),
        Reason::ComesBackWhenWell(_) => Reason::WentDown(4),
        Reason::WentDown(_) => Reason::Gap(gap(true)),
        Reason::Gap(_) => return None,
    })
}

fn failed(rounds: u32, answered: usize, targets: usize) -> Reason {
    Reason::RoundsFailed { rounds, answered, targets, needed: targets.min(2) }
}

fn gap(address: bool) -> Gap {
    Gap { family: Family::Ipv4, address, interface: "wan-a".into(), lasted_s: 2, left_s: 3 }
}

/// Returns a reason of each kind, with all that it may name.
pub(crate) fn samples() -> Vec<Reason> {
    let each = std::iter::successors(Some(Reason::FoundUsable), next);
    let more = [
        failed(3, 0, 1),
        failed(3, 1, 3),
        Reason::NotProbed { lasted: Duration::from_secs(600), unprobed: unprobed(1) },
        Reason::Gap(gap(false)),
    ];
    let lacks = lacks().into_iter().map(Reason::NotReady);
    each.chain(more).chain(lacks).chain(Cause::ALL.map(Reason::Cause)).collect()
}

/// Returns the code and the arguments of each text that reasons have, and of those inside them.
pub(crate) fn coded_samples() -> Vec<CodedText> {
    let limits = limits();
    let inside = limits.iter().map(CodedText::from);
    samples().iter().map(CodedText::from).chain(inside).collect()
}

#[test]
fn codes_are_those_of_one_text_and_in_one_style() {
    let mut codes = BTreeSet::new();
    let mut texts = BTreeSet::new();
    for reason in samples() {
        let code = reason.code();
        let is_plain = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(is_plain && !code.is_empty(), "{code}");
        if texts.insert(reason.to_string()) {
            assert!(codes.insert(code), "{code} is the code of two texts");
        }
    }
    assert!(codes.len() > 40, "{codes:?}");
}

#[test]
fn a_reason_has_its_words_and_its_arguments() {
    let reasons = Reasons {
        main: failed(3, 0, 2),
        more: vec![
            Reason::Cause(Cause::CaptivePortal),
            Reason::ComesBackWhenWell(Duration::from_secs(15)),
            Reason::WentDown(3),
        ],
    };
    assert_eq!(
        reasons.to_string(),
        "3 rounds of probes failed: none of 2 targets answered (2 needed); a captive portal answers \
         for others: log in there; comes back when well for 15 s: it went down 3 times in 10 minutes"
    );
    let parts = json!(reasons.parts());
    assert_eq!(
        parts,
        json!([
            { "code": "targets-silent",
              "args": { "rounds": 3, "answered": 0, "targets": 2, "needed": 2 } },
            { "code": "captive-portal", "args": {} },
            { "code": "comes-back-when-well", "args": { "hold_s": 15 } },
            { "code": "went-down", "args": { "times": 3 } },
        ])
    );
    let degraded = Reason::Degraded(limits());
    assert_eq!(degraded.to_string().split(", ").nth(1), Some("latency 350.2 ms (limit 300 ms)"));
}
