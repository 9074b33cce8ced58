//! Wall-clock time for file names, headers and rotation. Given from outside, so that tests
//! set it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tyto_core::time::Ts;

/// Tells the time of day.
pub type Clock = Box<dyn Fn() -> Ts + Send>;

/// `at` in local time, by a `strftime` pattern. A time that no calendar holds prints as 1970.
pub(crate) fn local(at: Ts, zone: &TimeZone, pattern: &str) -> String {
    let seconds = i64::try_from(at.secs()).unwrap_or(0);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(zone.clone()).strftime(pattern).to_string()
}
