//! Times in certificates, read as Zeek reads them: loosely, with a weird where it cannot.

use tyto_core::time::{NANOS, Ts};

use super::der::{Element, tag};

/// Seconds since the epoch of a time; the name of a weird when it is not one.
pub(super) fn seconds(element: &Element<'_>) -> Result<i64, &'static str> {
    let text = element.content;
    let (digits, mut rest) = match element.tag {
        tag::UTC_TIME => {
            if !(11..=17).contains(&text.len()) {
                return Err("x509_utc_length");
            }
            if text.last() != Some(&b'Z') {
                return Err("x509_utc_format");
            }
            // RFC 5280 section 4.1.2.5.1: two digits below 50 are of this century.
            let century =
                if text.first().is_some_and(|digit| *digit < b'5') { b"20" } else { b"19" };
            let (year_to_minute, rest) = text.split_at(10);
            ([&century[..], year_to_minute].concat(), rest)
        }
        tag::GENERALIZED_TIME => {
            if !(12..=23).contains(&text.len()) {
                return Err("x509_gen_time_length");
            }
            let (year_to_minute, rest) = text.split_at(12);
            (year_to_minute.to_vec(), rest)
        }
        _ => return Err("x509_invalid_time_type"),
    };
    let mut second = 0;
    match rest {
        [] | [b'Z' | b'-' | b'+', ..] => {}
        [tens, ones, after @ ..] => {
            second = number(&[*tens, *ones]);
            rest = after;
            if let [b'.', fraction @ ..] = rest {
                let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
                rest = fraction.get(digits..).unwrap_or_default();
            }
        }
        [_] => return Err("x509_time_add_char"),
    }
    let field = |at: usize, len: usize| number(digits.get(at..at + len).unwrap_or_default());
    let days = days_from_civil(field(0, 4), field(4, 2), field(6, 2));
    let time = days * 86_400 + field(8, 2) * 3600 + field(10, 2) * 60 + second;
    Ok(time + offset(rest)?)
}

/// The time for a log. Its nanoseconds end in the year 2262: what is valid for longer ends there.
pub(super) fn ts(seconds: i64) -> Ts {
    Ts::signed(seconds.saturating_mul(NANOS.cast_signed()))
}

/// The offset that is added, as Zeek reckons it (it takes hours for minutes).
fn offset(rest: &[u8]) -> Result<i64, &'static str> {
    match rest {
        [] | [b'Z', ..] => Ok(0),
        [_, _, _, _] | [_, _, _] | [_, _] | [_] => Err("x509_time_offset_underflow"),
        [sign @ (b'+' | b'-'), a, b, c, d, ..] => {
            let digit = |byte: &u8| i64::from(*byte) - i64::from(b'0');
            let total = digit(a) * 10 + digit(b) * 60 + digit(c) * 10 + digit(d);
            Ok(if *sign == b'-' { -total } else { total })
        }
        _ => Err("x509_time_offset_type"),
    }
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |n, digit| n * 10 + i64::from(*digit) - i64::from(b'0'))
}

/// Days since the epoch of a date of the Gregorian calendar; months and days may be out of
/// their range, as `timegm` takes them.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let months = year * 12 + month - 1;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    // Years begin in March, so that the day of a leap year is the last.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &[u8]) -> Result<i64, &'static str> {
        seconds(&Element { tag: tag::UTC_TIME, is_context: false, content: text, raw: text })
    }

    fn generalized(text: &[u8]) -> Result<i64, &'static str> {
        seconds(&Element {
            tag: tag::GENERALIZED_TIME,
            is_context: false,
            content: text,
            raw: text,
        })
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(utc(b"120920172619Z"), Ok(1_348_161_979));
        assert_eq!(utc(b"1209201726Z"), Ok(1_348_161_960));
        assert_eq!(utc(b"700101000000Z"), Ok(0));
        assert_eq!(generalized(b"20281231235959Z"), Ok(1_861_919_999));
        assert_eq!(generalized(b"99991231235959Z"), Ok(253_402_300_799));
        assert_eq!(generalized(b"20000229000000.25Z"), Ok(951_782_400));
    }

    #[test]
    fn what_cannot_be_read_has_a_name() {
        assert_eq!(utc(b"12"), Err("x509_utc_length"));
        assert_eq!(utc(b"120920172619+0100"), Err("x509_utc_format"));
        assert_eq!(generalized(b"2"), Err("x509_gen_time_length"));
        assert_eq!(generalized(b"2028123123595"), Err("x509_time_add_char"));
        assert_eq!(generalized(b"20281231235959x"), Err("x509_time_offset_underflow"));
    }

    #[test]
    fn logs_have_times_before_the_epoch_and_end_in_2262() {
        assert_eq!(ts(-86_400).nanos_signed(), -86_400_000_000_000);
        assert_eq!(ts(253_402_300_799).nanos_signed(), i64::MAX);
    }
}
