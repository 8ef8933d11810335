//! Times of the API in the time zone of the user.

use std::time::SystemTime;

use jiff::{Timestamp, ToSpan as _, Zoned, civil, tz::TimeZone};

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

    /// Reads a time in the past, as seen from `now`: a time span back like `1h`, a time of this zone
    /// like `05:00` (the last one that was), `today`, `yesterday`, a date, or a date and a time, which
    /// can have an offset of its own; `None` if it is none of these.
    pub(super) fn past(&self, text: &str, now: SystemTime) -> Option<SystemTime> {
        let text = text.trim();
        if let Ok(span) = humantime::parse_duration(text) {
            return Some(now.checked_sub(span).map_or(SystemTime::UNIX_EPOCH, since_epoch));
        }
        let local = Timestamp::try_from(now).ok()?.to_zoned(self.0.clone());
        let time = self.time(text, &local)?;
        Some(since_epoch(SystemTime::from(time)))
    }

    fn time(&self, text: &str, now: &Zoned) -> Option<Timestamp> {
        let in_zone = |time: civil::DateTime| Some(time.to_zoned(self.0.clone()).ok()?.timestamp());
        match &*text.to_lowercase() {
            "today" => return in_zone(now.date().to_datetime(civil::Time::midnight())),
            "yesterday" => {
                return in_zone(now.date().yesterday().ok()?.to_datetime(civil::Time::midnight()));
            }
            _ => {}
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Some(time);
        }
        if !text.contains('-') {
            let time = text.parse::<civil::Time>().ok().filter(|_| text.contains(':'))?;
            let today = in_zone(now.date().to_datetime(time))?;
            let before = now.date().checked_sub(1.day()).ok()?.to_datetime(time);
            return if today <= now.timestamp() { Some(today) } else { in_zone(before) };
        }
        in_zone(text.parse::<civil::DateTime>().ok()?)
    }
}

/// Returns a time, or the first one that events can have.
fn since_epoch(time: SystemTime) -> SystemTime {
    time.max(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone() -> Zone {
        Zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone"))
    }

    fn now() -> SystemTime {
        SystemTime::from("2026-11-29T05:30:00Z".parse::<Timestamp>().expect("a time"))
    }

    #[test]
    fn a_past_time_is_a_span_or_a_time_of_the_zone() {
        let read = |text: &str| {
            let time = zone().past(text, now()).unwrap_or_else(|| panic!("{text}"));
            humantime::format_rfc3339_seconds(time).to_string()
        };
        for (text, expected) in [
            ("1h", "2026-11-29T04:30:00Z"),
            ("05:00", "2026-11-29T04:00:00Z"),
            ("06:30:00", "2026-11-29T05:30:00Z"),
            ("23:15", "2026-11-28T22:15:00Z"),
            ("today", "2026-11-28T23:00:00Z"),
            ("Yesterday", "2026-11-27T23:00:00Z"),
            ("2026-07-01", "2026-06-30T22:00:00Z"),
            ("2026-11-29 05:00", "2026-11-29T04:00:00Z"),
            ("2026-11-28T06:30:00Z", "2026-11-28T06:30:00Z"),
            ("2026-11-28T06:30+02:00", "2026-11-28T04:30:00Z"),
            ("2026-11-28 06:30:00-03:00", "2026-11-28T09:30:00Z"),
            ("9999years", "1970-01-01T00:00:00Z"),
            ("1960-01-01", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        for text in ["", "2026", "1", "soon", "25:00", "2026-13-01", "05", "-"] {
            assert_eq!(zone().past(text, now()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*|[0-9:TZ+ -]{0,24}") {
            zone().past(&text, now());
        }
    }

    #[test]
    fn times_have_their_zone_also_over_the_change_of_the_clocks() {
        let zone = zone();
        assert_eq!(zone.show("2026-11-22T02:08:43Z"), "2026-11-22 03:08:43 CET");
        assert_eq!(zone.show("2026-07-01T22:08:43Z"), "2026-07-02 00:08:43 CEST");
        assert_eq!(zone.show("soon"), "soon");
        assert_eq!(Zone(TimeZone::UTC).show("2026-11-22T02:08:43Z"), "2026-11-22 02:08:43 UTC");
    }
}
