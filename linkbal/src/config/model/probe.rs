//! Settings of health probes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::Target;

/// Settings of the health probes of one uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Targets of the probes; without any, the carrier alone decides.
    pub targets: Vec<Target>,
    /// Time between rounds; a round asks all targets.
    pub interval: Duration,
    /// Time after which an answer counts as lost; `None` if it is derived from the measured
    /// latency.
    pub timeout: Option<Duration>,
    /// Failed rounds in a row until the uplink is down.
    pub failure_count: u32,
    /// Good rounds in a row until a down uplink may come back.
    pub success_count: u32,
    /// Targets of a family that must answer for a round to be good.
    pub quorum: u32,
    /// Hold time: a down uplink must answer well for this long before it comes back.
    pub hold: Duration,
    /// Longest hold time, for an uplink that goes down again and again; at least `hold`.
    pub hold_max: Duration,
    /// Limits of quality for a usable uplink.
    pub limits: Limits,
    /// Action on new flows when the limits are exceeded.
    pub on_degraded: OnDegraded,
}

impl Default for Probe {
    fn default() -> Probe {
        Probe {
            targets: default_targets(),
            interval: Duration::from_millis(200),
            timeout: None,
            failure_count: 3,
            success_count: 5,
            quorum: 1,
            hold: Duration::from_secs(5),
            hold_max: Duration::from_secs(600),
            limits: Limits::default(),
            on_degraded: OnDegraded::Avoid,
        }
    }
}

/// Returns the default targets, resolvers of Cloudflare, Google and Quad9: near everywhere, run
/// independently of each other, and they answer ICMP echo.
fn default_targets() -> Vec<Target> {
    let addresses: [IpAddr; 6] = [
        Ipv4Addr::new(1, 1, 1, 1).into(),
        Ipv4Addr::new(8, 8, 8, 8).into(),
        Ipv4Addr::new(9, 9, 9, 9).into(),
        Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111).into(),
        Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888).into(),
        Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe).into(),
    ];
    addresses.map(Target::Echo).into()
}

/// Limits of quality. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Share of lost probes.
    pub loss: Option<Loss>,
    /// Smoothed latency.
    pub latency: Option<Duration>,
    /// Jitter.
    pub jitter: Option<Duration>,
}

/// A share of lost probes, in tenths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss(pub(in crate::config) u16);

impl Loss {
    /// Returns a share of so many percent.
    #[cfg(test)]
    pub(crate) const fn percent_of(percent: u8) -> Loss {
        Loss((percent as u16).saturating_mul(10))
    }

    /// Returns the share in percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

/// Action on the new flows of an uplink that is degraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDegraded {
    /// New flows avoid it, as long as another uplink is usable.
    #[default]
    Avoid,
    /// New flows use it as before.
    Ignore,
}
