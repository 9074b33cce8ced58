//! Times as people type them: `2026-11-22 06:00`, `-1h`, `10 min ago`. Text and the time of now
//! in, microseconds since the Unix epoch out.

use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, Timestamp, Zoned};

/// Reads a time; one without a zone is in that of `now`.
pub(crate) fn parse(text: &str, now: &Zoned) -> Option<i64> {
    let text = text.trim();
    let zone = now.time_zone().clone();
    let local = |time: DateTime| Some(time.to_zoned(zone.clone()).ok()?.timestamp());
    let at = match text {
        "now" => now.timestamp(),
        "today" => now.start_of_day().ok()?.timestamp(),
        "yesterday" => now.yesterday().ok()?.start_of_day().ok()?.timestamp(),
        _ => seconds(text)
            .or_else(|| text.parse::<Timestamp>().ok())
            .or_else(|| local(text.parse::<DateTime>().ok()?))
            .or_else(|| local(text.parse::<Date>().ok()?.at(0, 0, 0, 0)))
            .or_else(|| local(now.date().to_datetime(text.parse::<Time>().ok()?)))
            .or_else(|| before(text, now))?,
    };
    Some(at.as_microsecond())
}

/// Seconds since the Unix epoch, as the files have them.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // Less would read as a year.
    if whole.len() < 9 || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Timestamp::from_microsecond(whole.parse::<i64>().ok()?.checked_mul(1_000_000)? + micros).ok()
}

/// A span before now, with a minus, with `ago`, or bare.
fn before(text: &str, now: &Zoned) -> Option<Timestamp> {
    let span: Span = text.parse().ok()?;
    let span = if span.is_negative() { span } else { -span };
    Some(now.checked_add(span).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_type_them() {
        let now: Zoned = "2026-11-22T12:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let noon = now.timestamp().as_microsecond();
        let hour = 3_600_000_000;
        for (text, expected) in [
            ("now", noon),
            ("-1h", noon - hour),
            ("1h", noon - hour),
            ("60 min ago", noon - hour),
            ("-90m", noon - hour * 3 / 2),
            ("1 day ago", noon - 24 * hour),
            ("2026-11-22 11:00", noon - hour),
            ("2026-11-22T11:00:00.5", noon - hour + 500_000),
            ("2026-11-22T10:00:00Z", noon - hour),
            ("2026-11-22", noon - 12 * hour),
            ("today", noon - 12 * hour),
            ("yesterday", noon - 36 * hour),
            ("11:00", noon - hour),
            ("1795345200.25", 1_795_345_200_250_000),
        ] {
            assert_eq!(parse(text, &now), Some(expected), "{text}");
        }
        for text in ["", "soon", "2026-13-01"] {
            assert_eq!(parse(text, &now), None, "{text}");
        }
    }
}
