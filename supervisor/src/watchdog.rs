//! What a node says of itself, and when it has been silent for too long: a process that lives
//! and neither reports nor turns its inner loops hangs. No clock of its own.

use std::fmt;
use std::time::{Duration, Instant};

use tyto_proto::v1::NodeHealth;

/// Time between two looks at all nodes.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// End of the name of a counter that must move while the node runs: turns of an inner loop.
const TURNS: &str = "_turns";

/// Such counters looked at in one report.
const TURNS_MAX: usize = 8;

/// A node's last report of itself.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// The report.
    pub(crate) health: NodeHealth,
    /// When it came.
    pub(crate) at: Instant,
    turns: Vec<Turn>,
}

/// A loop inside a node.
#[derive(Clone, Debug)]
struct Turn {
    counter: String,
    value: u64,
    /// When it was first seen to be there.
    since: Instant,
}

/// Why a node is taken to hang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hung {
    /// No report came.
    Silent(Duration),
    /// Reports come, but a loop inside stands still.
    Stuck {
        /// Name of its counter.
        counter: String,
        /// For how long.
        still: Duration,
    },
}

impl Heard {
    /// The report that came now, after `before` from the same process.
    pub(crate) fn new(before: Option<&Self>, health: NodeHealth, at: Instant) -> Self {
        let before = before.filter(|heard| heard.health.pid == health.pid);
        let known = before.map_or(&[][..], |heard| &heard.turns[..]);
        let loops = health.counters.iter().filter(|counter| counter.name.ends_with(TURNS));
        let turns = loops.take(TURNS_MAX).map(|counter| {
            let same = known.iter().find(|turn| turn.counter == counter.name);
            let still = same.filter(|turn| turn.value == counter.value).map(|turn| turn.since);
            let (counter, value) = (counter.name.clone(), counter.value);
            Turn { counter, value, since: still.unwrap_or(at) }
        });
        Self { turns: turns.collect(), health, at }
    }

    /// Whether it was silent, or a loop of it stood still, for `patience`. Nothing counts that
    /// lies before `from`.
    pub(crate) fn hung(&self, now: Instant, from: Instant, patience: Duration) -> Option<Hung> {
        let silence = now.saturating_duration_since(self.at.max(from));
        if silence >= patience {
            return Some(Hung::Silent(silence));
        }
        // A loop can only be seen to stand still by a report.
        let still = |turn: &Turn| self.at.saturating_duration_since(turn.since.max(from));
        let stuck = self.turns.iter().find(|turn| still(turn) >= patience)?;
        Some(Hung::Stuck { counter: stuck.counter.clone(), still: still(stuck) })
    }
}

impl fmt::Display for Hung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(silence) => write!(f, "hung: no report for {} s", silence.as_secs()),
            Self::Stuck { counter, still } => {
                let what = counter.strip_suffix(TURNS).unwrap_or(counter).replace('_', " ");
                write!(f, "hung: the {what} has not turned for {} s", still.as_secs())
            }
        }
    }
}

/// Since when we have been looking without a pause: while this process itself stood still (its
/// machine was suspended, say) nobody's silence means anything.
#[derive(Debug)]
pub(crate) struct Vigil {
    from: Instant,
    looked: Instant,
}

impl Vigil {
    /// Begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { from: now, looked: now }
    }

    /// Looks again; since when silence counts.
    pub(crate) fn look(&mut self, now: Instant) -> Instant {
        if now.saturating_duration_since(self.looked) > 3 * LOOK_INTERVAL {
            self.from = now;
        }
        self.looked = now;
        self.from
    }
}

#[cfg(test)]
mod tests {
    use tyto_proto::v1::Counter;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn report(pid: u32, turns: u64) -> NodeHealth {
        let counter = |name: &str, value| Counter { name: name.to_owned(), value };
        let counters = vec![counter("packets_received", 5), counter("packet_thread_turns", turns)];
        NodeHealth { pid, counters, ..NodeHealth::default() }
    }

    #[test]
    fn silence_counts_from_the_last_report_and_from_when_we_look() {
        let start = Instant::now();
        let heard = Heard::new(None, report(1, 1), start);
        assert_eq!(heard.hung(start + secs(14), start, PATIENCE), None);
        let hung = heard.hung(start + secs(15), start, PATIENCE).unwrap();
        assert_eq!(hung.to_string(), "hung: no report for 15 s");
        assert_eq!(heard.hung(start + secs(20), start + secs(10), PATIENCE), None);
    }

    #[test]
    fn a_loop_that_stands_still_is_seen_through_the_reports() {
        let start = Instant::now();
        let mut heard = Heard::new(None, report(1, 0), start);
        for second in 1..=30 {
            let now = start + secs(second);
            heard = Heard::new(Some(&heard), report(1, second.min(10)), now);
            let hung = heard.hung(now, start, PATIENCE);
            assert_eq!(hung.is_some(), second >= 25, "second {second}");
        }
        let hung = heard.hung(start + secs(30), start, PATIENCE).unwrap();
        assert_eq!(hung.to_string(), "hung: the packet thread has not turned for 20 s");
        // Another process has its own time.
        let heard = Heard::new(Some(&heard), report(2, 10), start + secs(31));
        assert_eq!(heard.hung(start + secs(31), start, PATIENCE), None);
    }

    #[test]
    fn after_a_pause_of_our_own_everybody_gets_time_again() {
        let start = Instant::now();
        let mut vigil = Vigil::new(start);
        assert_eq!(vigil.look(start + secs(1)), start);
        assert_eq!(vigil.look(start + secs(2)), start);
        assert_eq!(vigil.look(start + secs(60)), start + secs(60));
        assert_eq!(vigil.look(start + secs(61)), start + secs(60));
    }
}
