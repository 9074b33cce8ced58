//! Text of single values: numbers, times, addresses. The inverse of what the writers print.

use std::net::IpAddr;

use crate::record::FieldSink;
use crate::record::schema::Scalar;
use crate::time::{Interval, NANOS, Ts};

/// Whole numbers of a time that mean milliseconds: as seconds, they lie behind the year 5000.
const MILLIS_FROM: i128 = 100_000_000_000;

/// Hands a value that is not a string to `sink`. None when the text is not of the type.
pub(super) fn plain(scalar: Scalar, text: &[u8], sink: &mut impl FieldSink) -> Option<()> {
    let text = std::str::from_utf8(text).ok()?;
    match scalar {
        Scalar::Time => sink.time(time(text)?),
        Scalar::Interval => sink.interval(Interval(i64::try_from(nanos(text)?).ok()?)),
        Scalar::Addr => sink.addr(text.parse().ok()?),
        Scalar::Port => sink.port(text.parse().ok()?),
        Scalar::Subnet => {
            let (net, bits) = text.split_once('/')?;
            let net: IpAddr = net.parse().ok()?;
            sink.subnet(net, bits.parse().ok()?);
        }
        Scalar::Enum | Scalar::String => sink.string(text.as_bytes()),
        Scalar::Count => sink.count(text.parse().ok()?),
        Scalar::Int => sink.int(text.parse().ok()?),
        Scalar::Double => sink.double(text.parse().ok()?),
        Scalar::Bool => sink.bool(match text {
            "T" | "true" => true,
            "F" | "false" => false,
            _ => return None,
        }),
    }
    Some(())
}

/// Seconds with a fraction, whole milliseconds, or ISO 8601: Zeek's three styles.
pub fn time(text: &str) -> Option<Ts> {
    if text.contains('T') {
        let at: jiff::Timestamp = text.parse().ok()?;
        return Some(Ts::signed(i64::try_from(at.as_nanosecond()).ok()?));
    }
    let mut value = nanos(text)?;
    let whole = value / i128::from(NANOS);
    if !text.contains('.') && whole.abs() >= MILLIS_FROM {
        value /= 1_000;
    }
    Some(Ts::signed(i64::try_from(value).ok()?))
}

/// A decimal number of seconds in nanoseconds; exact. JSON's shortest form may have an
/// exponent, which goes by way of a double.
fn nanos(text: &str) -> Option<i128> {
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().ok()?;
        return nanos(&format!("{value:.6}"));
    }
    let (digits, sign) = text.strip_prefix('-').map_or((text, 1), |digits| (digits, -1));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.get(..fraction.len().min(9))?;
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') || whole.is_empty() {
        return None;
    }
    let mut below = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().ok()? };
    for _ in fraction.len()..9 {
        below *= 10;
    }
    Some(sign * (whole.parse::<u64>().map(i128::from).ok()? * i128::from(NANOS) + below))
}
