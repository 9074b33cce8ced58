//! How long what died stays down before it is started again. No clock and no chance of its
//! own: both come as arguments.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Wait after the first death.
const DELAY_MIN: Duration = Duration::from_millis(100);

/// Wait at most; also the wait of a node that fails again and again.
const DELAY_MAX: Duration = Duration::from_secs(30);

/// A node that lived this long ran well: its next death waits [`DELAY_MIN`] only.
const RAN_WELL: Duration = Duration::from_secs(10);

/// This many deaths within [`DEATHS_WINDOW`] make a node `failed`.
const DEATHS_MAX: usize = 5;

/// See [`DEATHS_MAX`]. A node that lived this long is not `failed` any more.
const DEATHS_WINDOW: Duration = Duration::from_secs(60);

/// The delays of one node.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    short_lives: u32,
    deaths: VecDeque<Instant>,
    failed: bool,
}

impl Backoff {
    /// The wait after a death at `now` of a process that lived for `lived`. `chance`, from 0
    /// to 1, takes up to a quarter off, so that nodes that died together come back apart.
    pub(crate) fn after_death(&mut self, now: Instant, lived: Duration, chance: f64) -> Duration {
        if lived >= DEATHS_WINDOW {
            *self = Self::default();
        } else if lived >= RAN_WELL {
            self.short_lives = 0;
        }
        self.deaths.retain(|death| now.saturating_duration_since(*death) < DEATHS_WINDOW);
        if self.deaths.len() >= DEATHS_MAX {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        self.failed |= self.deaths.len() >= DEATHS_MAX;

        let delay = if self.failed { DELAY_MAX } else { doubled(self.short_lives) };
        self.short_lives = self.short_lives.saturating_add(1);
        delay.mul_f64(1.0 - 0.25 * chance.clamp(0.0, 1.0))
    }

    /// It died [`DEATHS_MAX`] times within [`DEATHS_WINDOW`] and has not run well since.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }
}

/// [`DELAY_MIN`], doubled that often, up to [`DELAY_MAX`].
pub(crate) fn doubled(times: u32) -> Duration {
    DELAY_MIN.saturating_mul(2_u32.saturating_pow(times)).min(DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(1);

    fn delays_ms(lives: &[Duration]) -> Vec<u128> {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        lives
            .iter()
            .map(|lived| {
                now += *lived;
                let delay = backoff.after_death(now, *lived, 0.0);
                now += delay;
                delay.as_millis()
            })
            .collect()
    }

    #[test]
    fn delays_double_until_the_fifth_death_in_a_minute_which_waits_longest() {
        assert_eq!(delays_ms(&[AT_ONCE; 7]), [100, 200, 400, 800, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn a_node_that_ran_well_comes_back_fast_again() {
        let well = Duration::from_secs(15);
        assert_eq!(
            delays_ms(&[AT_ONCE, AT_ONCE, AT_ONCE, well, AT_ONCE]),
            [100, 200, 400, 100, 30_000]
        );
        let lives = [AT_ONCE, well, well, well, well, well];
        assert_eq!(delays_ms(&lives), [100; 6]);
    }

    #[test]
    fn a_minute_of_life_ends_a_crash_loop() {
        let mut lives = vec![AT_ONCE; 5];
        lives.extend([DEATHS_WINDOW, AT_ONCE]);
        assert_eq!(delays_ms(&lives), [100, 200, 400, 800, 30_000, 100, 200]);
    }

    proptest! {
        #[test]
        fn chance_takes_at_most_a_quarter_off(chance in 0.0..=1.0, deaths in 1_usize..9) {
            let mut whole = Backoff::default();
            let mut some = Backoff::default();
            let now = Instant::now();
            for _ in 0..deaths {
                let longest = whole.after_death(now, AT_ONCE, 0.0);
                let delay = some.after_death(now, AT_ONCE, chance);
                prop_assert!(delay <= longest && delay >= longest.mul_f64(0.75));
            }
            prop_assert_eq!(whole.failed(), deaths >= DEATHS_MAX);
        }
    }
}
