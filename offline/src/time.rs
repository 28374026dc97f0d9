//! Points in time as people write them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

/// Part of a capture by wall time, in Unix nanoseconds: epochs that end after `from` and not after
/// `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from_ns: i64,
    pub to_ns: i64,
}

impl Span {
    pub const ALL: Self = Self { from_ns: i64::MIN, to_ns: i64::MAX };

    pub fn is_all(self) -> bool {
        self == Self::ALL
    }
}

/// A zone by its name in the IANA database.
///
/// # Errors
/// There is none of this name.
pub fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| format!("`{name}` is no time zone such as UTC or Europe/Berlin"))
}

/// Reads RFC 3339 (`2026-11-26T17:00:00Z`), or the same without a zone, or a date, in `zone`; as
/// Unix nanoseconds.
///
/// # Errors
/// It is none of these, or no time that the zone's clocks ever showed, or showed twice.
pub fn parse(text: &str, zone: Tz) -> Result<i64, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return nanoseconds(time, text);
    }
    let formats =
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let time = formats
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN)))
        .ok_or_else(|| {
            format!(
                "`{text}` is no time such as 2026-11-26T17:00:00Z, 2026-11-26 17:00 or 2026-11-26"
            )
        })?;
    match zone.from_local_datetime(&time) {
        chrono::LocalResult::Single(time) => nanoseconds(time, text),
        _ => Err(format!("clocks in {zone} showed `{text}` never, or twice; give its offset")),
    }
}

/// Reads RFC 3339 with its zone, in Unix nanoseconds.
///
/// # Errors
/// It is something else.
pub fn parse_zoned(text: &str) -> Result<i64, String> {
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| {
        format!("`{text}` is no RFC 3339 time with its zone, such as 2026-11-26T17:00:00Z")
    })?;
    nanoseconds(time, text)
}

fn nanoseconds<Z: TimeZone>(time: DateTime<Z>, text: &str) -> Result<i64, String> {
    time.timestamp_nanos_opt().ok_or_else(|| format!("`{text}` is out of range"))
}

/// Unix nanoseconds in RFC 3339, to the second, in a zone.
pub fn show(time_ns: i64, zone: Tz) -> String {
    DateTime::from_timestamp_nanos(time_ns)
        .with_timezone(&zone)
        .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_read_in_their_own_zone_or_the_one_that_is_given() {
        let berlin = zone("Europe/Berlin").unwrap();
        let hour = 3_600_000_000_000;
        let utc = parse("2026-11-26T17:00:00Z", berlin).unwrap();
        assert_eq!(parse("2026-11-26T17:00:00", berlin).unwrap(), utc - hour);
        assert_eq!(parse("2026-11-26 17:00", Tz::UTC).unwrap(), utc);
        assert_eq!(parse("2026-11-26", Tz::UTC).unwrap(), utc - 17 * hour);
        assert_eq!(parse("2026-11-26T19:00:00+02:00", Tz::UTC).unwrap(), utc);
        assert_eq!(show(utc, berlin), "2026-11-26T18:00:00+01:00");
        // The hour that is shown twice, the one that is skipped, and no time at all.
        for wrong in ["2026-10-25 02:30", "2026-03-29 02:30", "yesterday", ""] {
            assert!(parse(wrong, berlin).is_err(), "{wrong}");
        }
        assert!(parse_zoned("2026-11-26T17:00:00").is_err());
        assert!(zone("Berlin").is_err());
    }
}
