//! The time by which archived logs get old: the wall clock's, but for a step forward, which is
//! believed only when it has lasted. Logs that went because of a wrong clock do not come back; those
//! that stay a little longer do no harm. A clock that was set back makes logs younger at once.

use std::time::{Duration, Instant};

use tyto_core::time::Ts;

/// How long a step forward has to last.
const BELIEVED_AFTER: Duration = Duration::from_secs(2 * 3_600);

/// More than this is a step; less is a clock that is being brought into step.
const STEP_MIN: Duration = Duration::from_secs(60);

/// Time that steps forward do not hurry.
#[derive(Debug, Default)]
pub(super) struct SteadyTime {
    /// The wall clock at the last look, and when that was by a clock that only rises.
    last: Option<(Ts, Instant)>,
    /// How far the wall clock was set forward, ns, and when that was seen.
    ahead_ns: u64,
    since: Option<Instant>,
}

impl SteadyTime {
    /// The time of a look at the moment `at`, when the wall clock says `wall`. The first look of a
    /// life takes the wall clock as it is.
    pub(super) fn now(&mut self, wall: Ts, at: Instant) -> Ts {
        if let Some((last, then)) = self.last.replace((wall, at)) {
            let passed_ns = nanos(at.saturating_duration_since(then));
            let expected = last.0.saturating_add(passed_ns);
            let step_ns = wall.0.abs_diff(expected);
            if step_ns > nanos(STEP_MIN) && wall.0 > expected {
                tracing::warn!(seconds = step_ns / 1_000_000_000, "the clock was set forward");
                self.ahead_ns = self.ahead_ns.saturating_add(step_ns);
                self.since = Some(at);
            } else if step_ns > nanos(STEP_MIN) {
                // Set back: as much of the step before is taken back.
                self.ahead_ns = self.ahead_ns.saturating_sub(step_ns);
            }
        }
        let has_lasted = |since: Instant| at.saturating_duration_since(since) >= BELIEVED_AFTER;
        if self.since.is_some_and(has_lasted) {
            (self.ahead_ns, self.since) = (0, None);
        }
        Ts(wall.0.saturating_sub(self.ahead_ns))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tyto_core::time::NANOS;

    use super::*;

    /// Looks at times of both clocks, seconds from the beginning; what the steady time says.
    fn looks(looks: &[(u64, u64)]) -> Vec<u64> {
        let (mut steady, begin) = (SteadyTime::default(), Instant::now());
        let now = |&(wall_s, passed_s): &(u64, u64)| {
            let wall = Ts((1_000_000 + wall_s) * NANOS);
            steady.now(wall, begin + Duration::from_secs(passed_s)).secs() - 1_000_000
        };
        looks.iter().map(now).collect()
    }

    #[test]
    fn an_hour_forward_and_back_makes_no_log_older() {
        let found = looks(&[(0, 0), (10, 10), (3_620, 20), (3_680, 80), (90, 90), (700, 700)]);
        assert_eq!(found, [0, 10, 20, 80, 90, 700]);
    }

    #[test]
    fn an_hour_forward_that_lasts_is_believed() {
        let found = looks(&[(0, 0), (3_610, 10), (10_800, 7_200), (10_820, 7_220)]);
        assert_eq!(found, [0, 10, 7_200, 10_820]);
    }

    #[test]
    fn an_hour_back_and_forward_makes_logs_younger_for_that_time_and_a_while() {
        let found = looks(&[(5_000, 0), (1_410, 10), (5_020, 20), (12_230, 7_230)]);
        assert_eq!(found, [5_000, 1_410, 1_420, 12_230]);
    }

    #[test]
    fn a_clock_that_is_brought_into_step_is_followed() {
        assert_eq!(looks(&[(0, 0), (40, 10), (45, 20), (600, 600)]), [0, 40, 45, 600]);
    }
}
