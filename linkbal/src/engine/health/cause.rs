//! The probable causes of an outage.

use std::fmt;

/// The probable cause of bad rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The gateway does not answer on the link.
    GatewaySilent,
    /// The gateway answers, but nothing behind it does.
    Internet,
    /// Only DNS fails.
    Dns,
    /// Only DNS answers.
    OnlyDns,
    /// Only pings fail.
    Ping,
    /// A captive portal answers for others.
    CaptivePortal,
    /// Targets answer something else than they should.
    WrongAnswer,
}

impl Cause {
    /// All causes.
    pub const ALL: [Cause; 7] = [
        Cause::GatewaySilent,
        Cause::Internet,
        Cause::Dns,
        Cause::OnlyDns,
        Cause::Ping,
        Cause::CaptivePortal,
        Cause::WrongAnswer,
    ];

    /// Returns the name, as in events.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::GatewaySilent => "gateway-silent",
            Cause::Internet => "internet",
            Cause::Dns => "dns",
            Cause::OnlyDns => "only-dns",
            Cause::Ping => "ping",
            Cause::CaptivePortal => "captive-portal",
            Cause::WrongAnswer => "wrong-answer",
        }
    }

    /// Returns a few words that name it.
    pub const fn brief(self) -> &'static str {
        match self {
            Cause::GatewaySilent => "no answer of the gateway",
            Cause::Internet => "no answer behind the gateway",
            Cause::Dns => "no answer by DNS",
            Cause::OnlyDns => "no answer but by DNS",
            Cause::Ping => "no answer to pings",
            Cause::CaptivePortal => "a captive portal",
            Cause::WrongAnswer => "wrong answers of targets",
        }
    }

    /// Returns what it means, and what to do.
    pub const fn words(self) -> &'static str {
        match self {
            Cause::GatewaySilent => {
                "the gateway does not answer on the link: see to the cable and the provider's router"
            }
            Cause::Internet => {
                "the gateway answers, but nothing behind it: restart the modem, or call the provider, \
                 unless this machine's own firewall drops it (`linkbal doctor` tells)"
            }
            Cause::Dns => "only DNS fails, packets pass: name other DNS servers or targets",
            Cause::OnlyDns => "DNS answers, but nothing else: the provider lets nothing else pass",
            Cause::Ping => "only pings fail: name targets of another kind, like tcp://1.1.1.1:443",
            Cause::CaptivePortal => "a captive portal answers for others: log in there",
            Cause::WrongAnswer => "targets answer, but not as they should: see to these",
        }
    }
}

/// The meaning, and what to do.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}
