//! Alarms: a ledger that does not add up, rows that are dropped, logs that are late. Raised and
//! cleared with their times, by whoever hears of all nodes: the manager, or the supervisor of a
//! standalone node. In: the last reports. Out: [`Change`]s, and the alarms of now. No clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use tyto_proto::v1::Alarm;

use crate::ledger::{Judge, Known};

/// Alarms that stand at the same time; those beyond are counted and not raised.
pub const ALARMS_MAX: usize = 256;

/// Alarms that are over and still shown; the oldest are forgotten first.
pub const OVER_MAX: usize = 64;

/// How long a ledger may not add up: a node that was killed is taken for silent after 10 s, and
/// one that starts reads its spool before it reports.
pub const LEDGER_PATIENCE: Duration = Duration::from_secs(15);

/// Dropping is over when nothing was dropped for so long.
const DROPPED_QUIET: Duration = Duration::from_secs(60);

/// Counts of dropped rows that are remembered: nodes, log streams and reasons.
const DROPS_MAX: usize = 1 << 16;

/// Name of the counter that tells for how long a producer's oldest row waits.
const OLDEST_WAITING: &str = "oldest_waiting_ms";

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Rows are unaccounted for.
    Ledger,
    /// Rows were given up.
    Dropped,
    /// Rows reach their files late, or wait for that.
    Lag,
}

impl Kind {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Dropped => "dropped",
            Self::Lag => "lag",
        }
    }
}

/// Which alarm: there is one of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    kind: &'static str,
    node: String,
    stream: String,
    reason: String,
}

/// Something that is wrong at this moment.
#[derive(Clone, Debug)]
struct Finding {
    id: Id,
    text: String,
    value: u64,
}

/// An alarm that began or is over, as cluster.log tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change(pub Alarm);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(alarm) = self;
        let word = if alarm.cleared_ns == 0 { "raised" } else { "cleared" };
        write!(f, "alarm {word}: {}: {}", alarm.kind, alarm.text)
    }
}

/// Dropped rows of a node, stream and reason.
#[derive(Clone, Copy, Debug)]
struct Drops {
    rows: u64,
    /// What they were when they began to grow, and when they grew last.
    growing: Option<(u64, Instant)>,
}

/// Looks for what an operator must know, look after look.
#[derive(Debug)]
pub struct Watch {
    judge: Judge,
    drops: BTreeMap<Id, Drops>,
    /// Nodes that the last look had.
    nodes: BTreeSet<String>,
    standing: BTreeMap<Id, Alarm>,
    over: VecDeque<Alarm>,
    unraised: u64,
}

impl Watch {
    /// Goes on with the alarms that an earlier life of this process had.
    pub fn new(alarms: Vec<Alarm>) -> Self {
        let (standing, over): (Vec<_>, Vec<_>) =
            alarms.into_iter().partition(|alarm| alarm.cleared_ns == 0);
        let standing = standing.into_iter().filter_map(|alarm| Some((id_of(&alarm)?, alarm)));
        Self {
            judge: Judge::new(LEDGER_PATIENCE),
            drops: BTreeMap::new(),
            nodes: BTreeSet::new(),
            standing: standing.take(ALARMS_MAX).collect(),
            over: over.into_iter().take(OVER_MAX).collect(),
            unraised: 0,
        }
    }

    /// Looks at the last reports. Lags beyond `lag_max` are alarms; zero: none are. `now_ns` is
    /// the wall clock's.
    pub fn look(
        &mut self,
        reports: &[Known<'_>],
        lag_max: Duration,
        now: Instant,
        now_ns: u64,
    ) -> Vec<Change> {
        let mut findings = self.ledger(reports, now);
        findings.extend(self.dropped(reports, now));
        if !lag_max.is_zero() {
            let lag_max_ms = u64::try_from(lag_max.as_millis()).unwrap_or(u64::MAX);
            findings.extend(reports.iter().flat_map(|known| late(known, lag_max_ms, now_ns)));
        }
        self.settle(findings, now_ns)
    }

    /// Those that stand, then those that are over, the latest first.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.standing.values().chain(&self.over).cloned().collect()
    }

    /// How many stand.
    pub fn standing(&self) -> usize {
        self.standing.len()
    }

    /// How often one was not raised because too many stood.
    pub const fn unraised(&self) -> u64 {
        self.unraised
    }

    fn ledger(&mut self, reports: &[Known<'_>], now: Instant) -> Vec<Finding> {
        // Of nodes that never reported here nothing is known, not even that they exist.
        let lines = self.judge.look(reports, |_| false, now);
        let wrong = lines.into_iter().filter(|(_, line)| !line.adds_up());
        wrong
            .map(|((node, stream), line)| Finding {
                id: id(Kind::Ledger, &node, &stream, ""),
                text: line.faults.join("; "),
                value: line.unheard_rows.max(line.unseen_rows),
            })
            .collect()
    }

    fn dropped(&mut self, reports: &[Known<'_>], now: Instant) -> Vec<Finding> {
        let mut findings = Vec::new();
        for health in reports.iter().map(|known| known.health) {
            for row in &health.ledger {
                for part in row.dropped.iter().filter(|part| part.rows > 0) {
                    let id = id(Kind::Dropped, &health.node, &row.stream, &part.reason);
                    findings.extend(self.dropping(id, part.rows, now));
                }
            }
        }
        self.nodes = reports.iter().map(|known| known.health.node.clone()).collect();
        findings
    }

    fn dropping(&mut self, id: Id, rows: u64, now: Instant) -> Option<Finding> {
        if !self.drops.contains_key(&id) && self.drops.len() >= DROPS_MAX {
            return None;
        }
        // What a node brings along when it is first heard of is old; its first drop later is not.
        let before = if self.nodes.contains(&id.node) { 0 } else { rows };
        let fresh = Drops { rows: before, growing: None };
        let drops = self.drops.entry(id.clone()).or_insert(fresh);
        if rows > drops.rows {
            let from = drops.growing.map_or(drops.rows, |(from, _)| from);
            drops.growing = Some((from, now));
        }
        // Fewer than before: the node's ledger was lost, and begins anew.
        drops.rows = rows;
        drops.growing =
            drops.growing.filter(|(_, at)| now.saturating_duration_since(*at) < DROPPED_QUIET);
        let (from, _) = drops.growing?;
        let value = rows.saturating_sub(from);
        let text = format!("{}: {value} {} rows dropped ({})", id.node, id.stream, id.reason);
        Some(Finding { id, text, value })
    }

    fn settle(&mut self, findings: Vec<Finding>, now_ns: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut before = std::mem::take(&mut self.standing);
        for Finding { id, text, value } in findings {
            if let Some(mut alarm) = before.remove(&id) {
                (alarm.text, alarm.value) = (text, value);
                self.standing.insert(id, alarm);
            } else if self.standing.len() + before.len() >= ALARMS_MAX {
                self.unraised += 1;
            } else {
                let alarm = Alarm {
                    kind: id.kind.to_owned(),
                    node: id.node.clone(),
                    stream: id.stream.clone(),
                    reason: id.reason.clone(),
                    text,
                    value,
                    raised_ns: now_ns,
                    cleared_ns: 0,
                };
                changes.push(Change(alarm.clone()));
                self.standing.insert(id, alarm);
            }
        }
        for mut alarm in before.into_values() {
            alarm.cleared_ns = now_ns.max(1);
            changes.push(Change(alarm.clone()));
            self.over.push_front(alarm);
        }
        self.over.truncate(OVER_MAX);
        changes
    }
}

fn id(kind: Kind, node: &str, stream: &str, reason: &str) -> Id {
    let (node, stream, reason) = (node.to_owned(), stream.to_owned(), reason.to_owned());
    Id { kind: kind.as_str(), node, stream, reason }
}

/// The alarm's own; none for a kind of a later release.
fn id_of(alarm: &Alarm) -> Option<Id> {
    let kinds = [Kind::Ledger, Kind::Dropped, Kind::Lag];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == alarm.kind)?;
    Some(id(kind, &alarm.node, &alarm.stream, &alarm.reason))
}

/// Rows of a node that came late into its files, or that wait for a logger.
fn late(known: &Known<'_>, lag_max_ms: u64, now_ns: u64) -> Option<Finding> {
    let health = known.health;
    let of_all = health.log_lag.iter().find(|lag| lag.stream.is_empty());
    let written = of_all.and_then(|lag| lag.last_minute).filter(|_| known.is_live);
    let p99_ms = written.filter(|minute| minute.rows > 0).map_or(0, |minute| minute.p99_ms);
    let waiting_ms = waiting_ms(known, now_ns);
    let (node, bound_s) = (&health.node, lag_max_ms / 1000);
    // A standalone node can have both, of the same rows: one alarm is enough.
    let (value, text) = if waiting_ms > p99_ms {
        let waiting_s = waiting_ms / 1000;
        (waiting_ms, format!("{node}: rows wait for a logger for {waiting_s} s, over {bound_s} s"))
    } else {
        let text =
            format!("{node}: 1 % of the last minute's rows came into their files later than");
        (p99_ms, format!("{text} {} s, over {bound_s} s", p99_ms / 1000))
    };
    (value > lag_max_ms).then(|| Finding { id: id(Kind::Lag, node, "", ""), text, value })
}

/// For how long the node's oldest row has been waiting. That of a node which is silent waits on.
fn waiting_ms(known: &Known<'_>, now_ns: u64) -> u64 {
    let health = known.health;
    let waits = |row: &tyto_proto::v1::LedgerRow| row.pending_rows + row.spooled_rows > 0;
    if !health.ledger.iter().any(waits) {
        return 0;
    }
    let counter = health.counters.iter().find(|counter| counter.name == OLDEST_WAITING);
    let told_ms = counter.map_or(0, |counter| counter.value);
    let since_ms = now_ns.saturating_sub(health.reported_ns) / 1_000_000;
    if told_ms > 0 && !known.is_live { told_ms.saturating_add(since_ms) } else { told_ms }
}

#[cfg(test)]
mod tests {
    use tyto_proto::v1::{Counter, Dropped, LagFigures, LedgerRow, LogLag, NodeHealth, Written};

    use super::*;

    const LAG_MAX: Duration = Duration::from_secs(30);

    struct Scene {
        watch: Watch,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { watch: Watch::new(Vec::new()), start: Instant::now() }
        }

        /// What changes after a look at second `second`.
        fn look(&mut self, second: u64, reports: &[NodeHealth]) -> Vec<String> {
            let known: Vec<_> =
                reports.iter().map(|health| Known { health, is_live: true }).collect();
            let now = self.start + Duration::from_secs(second);
            let changes = self.watch.look(&known, LAG_MAX, now, second * 1_000_000_000);
            changes.iter().map(Change::to_string).collect()
        }
    }

    fn worker(produced: u64, acked: u64, dropped: &[(&str, u64)]) -> NodeHealth {
        let drop = |&(reason, rows): &(&str, u64)| Dropped { reason: reason.into(), rows };
        let row = LedgerRow {
            stream: "conn".into(),
            produced_rows: produced,
            acked_rows: acked,
            dropped: dropped.iter().map(drop).collect(),
            ..LedgerRow::default()
        };
        NodeHealth { node: "w1".into(), ledger: vec![row], ..NodeHealth::default() }
    }

    fn logger(written: u64, p99_ms: u64) -> NodeHealth {
        let written = vec![Written { producer: "w1".into(), rows: written }];
        let row = LedgerRow { stream: "conn".into(), written, ..LedgerRow::default() };
        let last_minute = Some(LagFigures { rows: 1, p99_ms, ..LagFigures::default() });
        let log_lag = vec![LogLag { last_minute, ..LogLag::default() }];
        let role = "logger".to_owned();
        let (node, ledger) = ("l1".to_owned(), vec![row]);
        NodeHealth { node, role, ledger, log_lag, ..NodeHealth::default() }
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn a_lost_row_is_an_alarm_when_reports_had_time_and_none_when_it_turns_up() {
        let mut scene = Scene::new();
        let lost = [worker(100, 100, &[]), logger(99, 0)];
        assert_eq!(scene.look(0, &lost), NONE);
        assert_eq!(scene.look(14, &lost), NONE);
        let text = "w1 has 100 conn rows acked, loggers wrote 99";
        assert_eq!(scene.look(15, &lost), [format!("alarm raised: ledger: {text}")]);
        assert_eq!(scene.look(16, &lost), NONE);
        let whole = [worker(100, 100, &[]), logger(100, 0)];
        assert_eq!(scene.look(17, &whole), [format!("alarm cleared: ledger: {text}")]);
        let alarms = scene.watch.alarms();
        let times: Vec<_> =
            alarms.iter().map(|alarm| (alarm.raised_ns, alarm.cleared_ns)).collect();
        assert_eq!(times, [(15_000_000_000, 17_000_000_000)]);
    }

    #[test]
    fn dropping_is_an_alarm_until_nothing_was_dropped_for_a_minute() {
        let mut scene = Scene::new();
        // Of old.
        assert_eq!(scene.look(0, &[worker(10, 5, &[("spool_full", 5)])]), NONE);
        let more = [worker(12, 5, &[("spool_full", 7)])];
        let raised = "alarm raised: dropped: w1: 2 conn rows dropped (spool_full)";
        assert_eq!(scene.look(1, &more), [raised]);
        let other = [worker(13, 5, &[("spool_full", 7), ("refused", 1)])];
        let raised = "alarm raised: dropped: w1: 1 conn rows dropped (refused)";
        assert_eq!(scene.look(30, &other), [raised]);
        let cleared = "alarm cleared: dropped: w1: 2 conn rows dropped (spool_full)";
        assert_eq!(scene.look(61, &other), [cleared]);
        assert_eq!(scene.look(90, &other).len(), 1);
    }

    #[test]
    fn logs_that_are_late_are_an_alarm_and_so_are_rows_that_wait() {
        let mut scene = Scene::new();
        assert_eq!(scene.look(0, &[logger(0, 30_000)]), NONE);
        assert_eq!(scene.look(1, &[logger(0, 31_000)]).len(), 1);
        assert_eq!(scene.look(2, &[logger(0, 0)]).len(), 1);
        let waiting = |ms| {
            let mut worker = worker(100, 90, &[]);
            worker.ledger[0].spooled_rows = 10;
            worker.counters = vec![Counter { name: OLDEST_WAITING.into(), value: ms }];
            worker
        };
        assert_eq!(scene.look(3, &[waiting(30_000)]), NONE);
        let raised = "alarm raised: lag: w1: rows wait for a logger for 31 s, over 30 s";
        assert_eq!(scene.look(4, &[waiting(31_000)]), [raised]);
    }

    #[test]
    fn rows_of_a_node_that_is_silent_wait_on() {
        let mut health = worker(100, 90, &[]);
        health.ledger[0].spooled_rows = 10;
        health.counters = vec![Counter { name: OLDEST_WAITING.into(), value: 5_000 }];
        health.reported_ns = 10_000_000_000;
        let at = |is_live| waiting_ms(&Known { health: &health, is_live }, 70_000_000_000);
        assert_eq!((at(true), at(false)), (5_000, 65_000));
    }

    #[test]
    fn alarms_are_bounded_and_a_later_life_goes_on_with_them() {
        let mut scene = Scene::new();
        let nodes = |rows: u64| -> Vec<NodeHealth> {
            let of =
                |n| NodeHealth { node: format!("w{n}"), ..worker(rows, 0, &[("refused", rows)]) };
            (0..ALARMS_MAX + 2).map(of).collect()
        };
        scene.look(0, &nodes(0));
        assert_eq!(scene.look(1, &nodes(3)).len(), ALARMS_MAX);
        assert_eq!((scene.watch.standing(), scene.watch.unraised()), (ALARMS_MAX, 2));
        let mut later = Watch::new(scene.watch.alarms());
        assert_eq!(later.standing(), ALARMS_MAX);
        assert_eq!(later.look(&[], LAG_MAX, scene.start, 9).len(), ALARMS_MAX);
        assert_eq!((later.standing(), later.alarms().len()), (0, OVER_MAX));
    }
}
