//! Times of the API in the time zone of the user.

use std::time::SystemTime;

use jiff::{
    Timestamp, ToSpan as _, Zoned,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};

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
        self.format(time, "%Y-%m-%d %H:%M:%S %Z")
    }

    /// Formats a time of RFC 3339 to the minute, as one speaks: 2 July 14:03.
    pub(super) fn speak(&self, time: &str) -> String {
        self.format(time, "%-d %B %H:%M")
    }

    /// Formats a time of RFC 3339 to the second, without the year: 02 Jul 14:03:09.
    pub(super) fn brief(&self, time: &str) -> String {
        self.format(time, "%d %b %H:%M:%S")
    }

    /// Formats a time of RFC 3339 as such, with the offset of this zone.
    pub(super) fn offset(&self, time: &str) -> String {
        self.format(time, "%Y-%m-%dT%H:%M:%S%:z")
    }

    fn format(&self, time: &str, format: &str) -> String {
        self.zoned(time).map_or_else(|| time.to_owned(), |time| time.strftime(format).to_string())
    }

    fn zoned(&self, time: &str) -> Option<Zoned> {
        Some(time.parse::<Timestamp>().ok()?.to_zoned(self.0.clone()))
    }

    /// Returns the month of a time of RFC 3339 in this zone; `None` if it is none.
    pub(super) fn month(&self, time: &str) -> Option<Month> {
        Some(Month(self.zoned(time)?.date().first_of_month()))
    }

    /// Returns the seconds of a month between two times of RFC 3339.
    pub(super) fn seconds(&self, month: Month, from: &str, until: &str) -> Option<u64> {
        let midnight = |date: Date| date.to_datetime(Time::midnight()).to_zoned(self.0.clone());
        let begin = midnight(month.0).ok()?.timestamp();
        let end = midnight(month.0.checked_add(1.month()).ok()?).ok()?.timestamp();
        let (begin, end) = (begin.max(from.parse().ok()?), end.min(until.parse().ok()?));
        u64::try_from(end.as_second().saturating_sub(begin.as_second())).ok()
    }
}

/// A month, by its first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month(Date);

impl Month {
    /// Returns its name: July 2026.
    pub(super) fn name(self) -> String {
        self.0.strftime("%B %Y").to_string()
    }

    /// Returns its number: 2026-07.
    pub(super) fn number(self) -> String {
        self.0.strftime("%Y-%m").to_string()
    }
}

impl Zone {
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
        let in_zone = |time: DateTime| Some(time.to_zoned(self.0.clone()).ok()?.timestamp());
        match &*text.to_lowercase() {
            "today" => return in_zone(now.date().to_datetime(Time::midnight())),
            "yesterday" => {
                return in_zone(now.date().yesterday().ok()?.to_datetime(Time::midnight()));
            }
            _ => {}
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Some(time);
        }
        if !text.contains('-') {
            let time = text.parse::<Time>().ok().filter(|_| text.contains(':'))?;
            let today = in_zone(now.date().to_datetime(time))?;
            let before = now.date().checked_sub(1.day()).ok()?.to_datetime(time);
            return if today <= now.timestamp() { Some(today) } else { in_zone(before) };
        }
        in_zone(text.parse::<DateTime>().ok()?)
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
    fn months_begin_at_midnight_here() {
        let zone = Zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone"));
        let month = zone.month("2026-09-30T22:00:00Z").expect("a time");
        assert_eq!((month.name(), month.number()), ("October 2026".into(), "2026-10".into()));
        assert!(zone.month("2026-09-30T21:59:59Z").expect("a time") < month);
        let since = |from, until| zone.seconds(month, from, until);
        let seconds = |until| since("1970-01-01T00:00:00Z", until);
        assert_eq!(seconds("2026-09-30T22:00:10Z"), Some(10));
        assert_eq!(seconds("2027-09-30T22:00:10Z"), Some(31 * 86_400 + 3600), "winter time begins");
        assert_eq!((seconds("2025-09-30T22:00:10Z"), zone.month("soon")), (None, None));
        assert_eq!(since("2026-09-30T22:00:04Z", "2026-09-30T22:00:10Z"), Some(6));
    }

    #[test]
    fn times_have_their_zone_also_over_the_change_of_the_clocks() {
        let zone = zone();
        assert_eq!(zone.show("2026-11-22T02:08:43Z"), "2026-11-22 03:08:43 CET");
        assert_eq!(zone.show("2026-07-01T22:08:43Z"), "2026-07-02 00:08:43 CEST");
        assert_eq!(zone.show("soon"), "soon");
        assert_eq!(zone.speak("2026-07-01T22:08:43Z"), "2 July 00:08");
        assert_eq!(zone.brief("2026-07-01T22:08:43.5Z"), "02 Jul 00:08:43");
        assert_eq!(zone.offset("2026-07-01T22:08:43Z"), "2026-07-02T00:08:43+02:00");
        assert_eq!(Zone(TimeZone::UTC).show("2026-11-22T02:08:43Z"), "2026-11-22 02:08:43 UTC");
    }
}
