//! Times of the API in the time zone of the user.

use jiff::{Timestamp, tz::TimeZone};

/// A time zone.
#[derive(Clone, Debug)]
pub(super) struct Zone(TimeZone);

impl Zone {
    /// Returns the zone of the system, or that of `TZ` in the environment.
    pub(super) fn system() -> Zone {
        Zone(TimeZone::system())
    }

    /// Returns UTC.
    #[cfg(test)]
    pub(super) fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// Formats a time of RFC 3339 in this zone, with the zone; as it is, if it is none.
    pub(super) fn show(&self, time: &str) -> String {
        match time.parse::<Timestamp>() {
            Ok(time) => time.to_zoned(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            Err(_) => time.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_zone_also_over_the_change_of_the_clocks() {
        let zone = Zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone"));
        assert_eq!(zone.show("2026-11-22T02:08:43Z"), "2026-11-22 03:08:43 CET");
        assert_eq!(zone.show("2026-07-01T22:08:43Z"), "2026-07-02 00:08:43 CEST");
        assert_eq!(zone.show("soon"), "soon");
        assert_eq!(Zone(TimeZone::UTC).show("2026-11-22T02:08:43Z"), "2026-11-22 02:08:43 UTC");
    }
}
