//! Profiles of the kinds of targets: what is the same for all targets of a kind.

use std::time::Duration;

use super::Target;
use crate::protocol::port;

/// The profile of a kind of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Scheme before `://`; `None` for kinds that are written without one.
    pub scheme: Option<&'static str>,
    /// Port of targets that are written without one.
    pub(in crate::config) port: Option<u16>,
    /// Time for which an answer is waited for at least, if no timeout is configured.
    pub least_timeout: Duration,
    /// Least time between two probes.
    pub spacing: Duration,
    /// Set if several probes may be on their way, whose answers come back without delay.
    pub overlaps: bool,
}

const ECHO: Profile = Profile {
    scheme: None,
    port: None,
    least_timeout: Duration::ZERO,
    spacing: Duration::ZERO,
    overlaps: true,
};

const GATEWAY: Profile = Profile { spacing: Duration::from_millis(200), overlaps: false, ..ECHO };

const TCP: Profile = Profile { scheme: Some("tcp"), ..GATEWAY };

/// A server may have to ask others.
pub(in crate::config) const DNS: Profile = Profile {
    scheme: Some("dns"),
    port: Some(port::DNS),
    least_timeout: Duration::from_secs(1),
    ..GATEWAY
};

/// Public servers refuse clients that ask more often than every few seconds in the long run.
pub(in crate::config) const NTP: Profile = Profile {
    scheme: Some("ntp"),
    port: Some(port::NTP),
    spacing: Duration::from_secs(1),
    ..GATEWAY
};

/// A request takes several exchanges.
const HTTP: Profile = Profile {
    scheme: Some("http"),
    port: Some(port::HTTP),
    least_timeout: Duration::from_secs(3),
    spacing: Duration::from_secs(1),
    overlaps: false,
};

const HTTPS: Profile = Profile { scheme: Some("https"), port: Some(port::HTTPS), ..HTTP };

impl Target {
    /// Returns the profile of its kind.
    pub const fn profile(&self) -> Profile {
        match self {
            Target::Echo(_) => ECHO,
            Target::Tcp(_) => TCP,
            Target::Dns { .. } => DNS,
            Target::Ntp(_) => NTP,
            Target::Http(target) => of_http(target.secure),
            Target::Gateway => GATEWAY,
        }
    }
}

/// Returns the profile of HTTP or HTTPS.
pub(in crate::config) const fn of_http(secure: bool) -> Profile {
    if secure { HTTPS } else { HTTP }
}
