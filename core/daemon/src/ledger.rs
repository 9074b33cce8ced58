//! The ledger: every row that was produced is written, in flight, spooled, or dropped with a
//! reason. Reports of all nodes in, a line per producer and log stream out. No clock of its own.
//!
//! Reports are taken at different moments: under traffic a logger knows of rows that the report
//! of their producer does not have yet, and the other way round. So a look at one moment
//! ([`by_producer`]) only tells what one side has said and the other has to confirm, and the
//! [`Judge`] waits for that: counts only rise, so that the next reports say so, or a row is lost
//! or doubled.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use tyto_proto::v1::{LedgerRow, NodeHealth};

/// Producer and log stream.
pub type Key = (String, String);

/// Lines by producer and log stream.
pub type Lines = BTreeMap<Key, Line>;

/// Unconfirmed counts remembered at most: of 4096 nodes with a dozen log streams each. What is
/// beyond is not judged before others are confirmed.
const CLAIMS_MAX: usize = 1 << 16;

/// A node's last report.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The report.
    pub health: &'a NodeHealth,
    /// Whether more of them come: its process lives, as far as one can tell.
    pub is_live: bool,
}

/// One log stream, of one producer or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The log stream.
    pub stream: String,
    /// Rows handed to delivery.
    pub produced_rows: u64,
    /// Rows durable in log files.
    pub written_rows: u64,
    /// Rows in memory or on their way to a logger.
    pub in_flight_rows: u64,
    /// Rows waiting on a producer's disk.
    pub spooled_rows: u64,
    /// Rows given up, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Of the rows in flight, those that are written by their producer's word only.
    pub unseen_rows: u64,
    /// Of the produced rows, those that their producer's last report does not have.
    pub unheard_rows: u64,
    /// Why the sum is wrong; empty when it is right.
    pub faults: Vec<String>,
}

impl Line {
    /// Rows given up for any reason.
    pub fn dropped_rows(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Every row is accounted for.
    pub fn adds_up(&self) -> bool {
        self.faults.is_empty()
    }

    fn add(&mut self, other: &Self) {
        self.produced_rows += other.produced_rows;
        self.written_rows += other.written_rows;
        self.in_flight_rows += other.in_flight_rows;
        self.spooled_rows += other.spooled_rows;
        self.unseen_rows += other.unseen_rows;
        self.unheard_rows += other.unheard_rows;
        for (reason, rows) in &other.dropped {
            *self.dropped.entry(reason.clone()).or_default() += rows;
        }
        self.faults.extend(other.faults.iter().cloned());
    }
}

/// Lines of each producer and stream, from the reports of all nodes. `is_known` tells the nodes of
/// the configuration: rows that loggers wrote for others, who say nothing, are history and not
/// judged. The faults in the lines are those that one report shows by itself.
pub fn by_producer(reports: &[Known<'_>], is_known: impl Fn(&str) -> bool) -> Lines {
    let mut written: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for row in reports.iter().flat_map(|report| &report.health.ledger) {
        for part in &row.written {
            *written.entry((part.producer.as_str(), row.stream.as_str())).or_default() += part.rows;
        }
    }
    let mut lines = Lines::new();
    for health in reports.iter().map(|report| report.health) {
        for row in health.ledger.iter().filter(|row| is_producers(row)) {
            let rows = written.remove(&(health.node.as_str(), row.stream.as_str())).unwrap_or(0);
            lines.insert((health.node.clone(), row.stream.clone()), line(&health.node, row, rows));
        }
    }
    // Written by nodes that did not tell what they produced.
    for ((producer, stream), rows) in written {
        if rows > 0 && is_known(producer) {
            let line = Line {
                stream: stream.to_owned(),
                produced_rows: rows,
                written_rows: rows,
                unheard_rows: rows,
                ..Line::default()
            };
            lines.insert((producer.to_owned(), line.stream.clone()), line);
        }
    }
    lines
}

/// Sums over producers, in the order of the streams' names.
pub fn by_stream(lines: &Lines) -> Vec<Line> {
    let mut sums: BTreeMap<&str, Line> = BTreeMap::new();
    for ((_, stream), line) in lines {
        let fresh = || Line { stream: stream.clone(), ..Line::default() };
        sums.entry(stream).or_insert_with(fresh).add(line);
    }
    sums.into_values().collect()
}

/// Loggers report what they wrote for others in rows that produced nothing.
fn is_producers(row: &LedgerRow) -> bool {
    let dropped: u64 = row.dropped.iter().map(|part| part.rows).sum();
    row.produced_rows + row.acked_rows + row.pending_rows + row.spooled_rows + dropped > 0
}

fn line(node: &str, row: &LedgerRow, written_rows: u64) -> Line {
    let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
    for part in row.dropped.iter().filter(|part| part.rows > 0) {
        *dropped.entry(part.reason.clone()).or_default() += part.rows;
    }
    let dropped_rows: u64 = dropped.values().sum();
    let own = row.acked_rows + row.pending_rows + row.spooled_rows + dropped_rows;
    let mut faults = Vec::new();
    if own != row.produced_rows {
        let (produced, stream) = (row.produced_rows, &row.stream);
        faults.push(format!("{node} produced {produced} {stream} rows and knows of {own}"));
    }
    // Written already, but the producer has not heard of it.
    let mut unheard = written_rows.saturating_sub(row.acked_rows);
    let mut take = |rows: u64| {
        let taken = rows.min(unheard);
        unheard -= taken;
        rows - taken
    };
    let (pending_rows, spooled_rows) = (take(row.pending_rows), take(row.spooled_rows));
    let unseen_rows = row.acked_rows.saturating_sub(written_rows);
    Line {
        stream: row.stream.clone(),
        produced_rows: row.produced_rows + unheard,
        written_rows,
        in_flight_rows: pending_rows + unseen_rows,
        spooled_rows,
        dropped,
        unseen_rows,
        unheard_rows: unheard,
        faults,
    }
}

/// What one side said, to be confirmed by the other.
#[derive(Clone, Copy, Debug)]
struct Claim {
    rows: u64,
    since: Instant,
}

/// Claims about one producer and stream.
#[derive(Clone, Copy, Debug, Default)]
struct Claims {
    /// The producer says that so many rows are written.
    acked: Option<Claim>,
    /// Loggers say that they wrote so many.
    written: Option<Claim>,
}

/// Tells what is late from what is wrong, over many looks.
#[derive(Debug)]
pub struct Judge {
    patience: Duration,
    open: BTreeMap<Key, Claims>,
}

impl Judge {
    /// One that takes a claim for wrong when it is not confirmed after `patience`.
    pub fn new(patience: Duration) -> Self {
        Self { patience, open: BTreeMap::new() }
    }

    /// Judges what `reports` say at `now`. Of a node that is silent nothing can be confirmed:
    /// what hangs on its word is no fault before it is back.
    pub fn look(
        &mut self,
        reports: &[Known<'_>],
        is_known: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Lines {
        let mut lines = by_producer(reports, is_known);
        self.open.retain(|key, _| lines.contains_key(key));
        let is_live = |name: &str| reports.iter().any(|r| r.is_live && r.health.node == name);
        let is_there = |name: &str| reports.iter().any(|r| r.health.node == name);
        let writers = reports.iter().filter(|r| is_writer(r.health));
        // Without a word of any logger, or without that of one, nothing can be missed.
        let writers_live =
            writers.clone().count() > 0 && writers.clone().all(|report| report.is_live);
        for (key, line) in &mut lines {
            if !self.open.contains_key(key) && self.open.len() >= CLAIMS_MAX {
                continue;
            }
            let claims = self.open.entry(key.clone()).or_default();
            let (producer, stream) = key;
            let acked = line.written_rows + line.unseen_rows;
            claims.acked = confirm(claims.acked, acked, line.written_rows, now);
            let heard = line.written_rows - line.unheard_rows.min(line.written_rows);
            claims.written = confirm(claims.written, line.written_rows, heard, now);
            let overdue = |claim: Option<Claim>| {
                claim.filter(|claim| now.saturating_duration_since(claim.since) >= self.patience)
            };
            if let Some(claim) = overdue(claims.acked).filter(|_| writers_live) {
                let (rows, written) = (claim.rows, line.written_rows);
                line.faults.push(format!(
                    "{producer} has {rows} {stream} rows acked, loggers wrote {written}"
                ));
            }
            let told = is_live(producer) || !is_there(producer);
            if overdue(claims.written).is_some() && told {
                let rows = line.unheard_rows;
                line.faults.push(match is_there(producer) {
                    true => format!("loggers wrote {rows} {stream} rows more than {producer} sent"),
                    false => {
                        format!("no report of the {stream} rows of {producer}, {rows} written")
                    }
                });
            }
        }
        self.open.retain(|_, claims| claims.acked.is_some() || claims.written.is_some());
        lines
    }

    /// Whether something that was said at or before `at` waits for the other side's word.
    pub fn is_open(&self, at: Instant) -> bool {
        let old = |claim: &Option<Claim>| claim.is_some_and(|claim| claim.since <= at);
        self.open.values().any(|claims| old(&claims.acked) || old(&claims.written))
    }
}

/// The claim that stands now: the one of before until it is confirmed, then the one of now.
fn confirm(before: Option<Claim>, said: u64, confirmed: u64, now: Instant) -> Option<Claim> {
    let fresh = Claim { rows: said, since: now };
    let claim = before.unwrap_or(fresh);
    if confirmed >= claim.rows { Some(fresh).filter(|_| confirmed < said) } else { Some(claim) }
}

/// Writes log files.
fn is_writer(health: &NodeHealth) -> bool {
    matches!(health.role.as_str(), "logger" | "standalone")
        || health.ledger.iter().any(|row| !row.written.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tyto_proto::v1::{Dropped, Written};

    use super::*;

    fn producer(node: &str, row: LedgerRow) -> NodeHealth {
        let row = LedgerRow { stream: "conn".into(), ..row };
        NodeHealth { node: node.into(), ledger: vec![row], ..NodeHealth::default() }
    }

    fn logger(node: &str, written: &[(&str, u64)]) -> NodeHealth {
        let part = |&(producer, rows): &(&str, u64)| Written { producer: producer.into(), rows };
        let written = written.iter().map(part).collect();
        producer(node, LedgerRow { written, ..LedgerRow::default() })
    }

    fn row(produced: u64, acked: u64, pending: u64, spooled: u64) -> LedgerRow {
        LedgerRow {
            produced_rows: produced,
            acked_rows: acked,
            pending_rows: pending,
            spooled_rows: spooled,
            ..LedgerRow::default()
        }
    }

    const PATIENCE: Duration = Duration::from_secs(6);

    fn live(reports: &[NodeHealth]) -> Vec<Known<'_>> {
        reports.iter().map(|health| Known { health, is_live: true }).collect()
    }

    fn is_known(node: &str) -> bool {
        ["w1", "w2"].contains(&node)
    }

    /// The sum after two looks at the same, patience apart.
    fn sum(reports: &[NodeHealth]) -> Line {
        judged(&live(reports))
    }

    fn judged(reports: &[Known<'_>]) -> Line {
        let (mut judge, now) = (Judge::new(PATIENCE), Instant::now());
        judge.look(reports, is_known, now);
        by_stream(&judge.look(reports, is_known, now + PATIENCE)).remove(0)
    }

    fn shown(line: &Line) -> u64 {
        line.written_rows + line.in_flight_rows + line.spooled_rows + line.dropped_rows()
    }

    #[test]
    fn what_was_produced_is_written_in_flight_spooled_or_dropped() {
        let dropped = vec![Dropped { reason: "spool_full".into(), rows: 5 }];
        let line = sum(&[
            producer("w1", LedgerRow { dropped, ..row(100, 80, 10, 5) }),
            producer("w2", row(50, 50, 0, 0)),
            logger("l1", &[("w1", 30), ("w2", 50)]),
            logger("l2", &[("w1", 50)]),
        ]);
        assert!(line.adds_up(), "{:?}", line.faults);
        assert_eq!((line.produced_rows, line.written_rows), (150, 130));
        assert_eq!((line.in_flight_rows, line.spooled_rows, line.dropped_rows()), (10, 5, 5));
    }

    #[test]
    fn rows_written_but_not_acked_yet_are_not_counted_twice() {
        let line = sum(&[producer("w1", row(100, 80, 15, 5)), logger("l1", &[("w1", 97)])]);
        assert!(line.adds_up());
        assert_eq!((line.written_rows, line.in_flight_rows, line.spooled_rows), (97, 0, 3));
    }

    #[test]
    fn lost_doubled_and_unaccounted_rows_are_faults() {
        for reports in [
            [producer("w1", row(100, 100, 0, 0)), logger("l1", &[("w1", 99)])],
            [producer("w1", row(100, 100, 0, 0)), logger("l1", &[("w1", 101)])],
            [producer("w1", row(100, 90, 0, 0)), logger("l1", &[("w1", 90)])],
            [producer("w2", row(1, 1, 0, 0)), logger("l1", &[("w1", 9), ("w2", 1)])],
        ] {
            assert!(!sum(&reports).adds_up(), "{reports:?}");
        }
    }

    #[test]
    fn rows_of_a_node_that_left_the_cluster_are_not_judged() {
        let lines = by_producer(&live(&[logger("l1", &[("gone", 7)])]), is_known);
        assert!(lines.is_empty());
    }

    /// Each sees the other late, at every look: no look has both of one moment.
    #[test]
    fn under_steady_traffic_nothing_is_a_fault() {
        let (mut judge, start) = (Judge::new(PATIENCE), Instant::now());
        for second in 1..60 {
            let now = start + Duration::from_secs(second);
            let (behind, ahead) = (second * 1000 - 400, second * 1000 + 300);
            let first = [producer("w1", row(behind, behind - 200, 100, 100))];
            let second = [producer("w1", row(ahead + 100, ahead, 50, 50))];
            let loggers = |rows| logger("l1", &[("w1", rows)]);
            let looks = [(first, loggers(behind + 300)), (second, loggers(behind + 300))];
            for ([worker], logger) in looks {
                let lines = judge.look(&live(&[worker, logger.clone()]), is_known, now);
                let line = &by_stream(&lines)[0];
                assert!(line.adds_up(), "{:?}", line.faults);
                assert_eq!(shown(line), line.produced_rows);
            }
        }
        assert!(!judge.is_open(start + Duration::from_secs(50)));
    }

    #[test]
    fn what_hangs_on_the_word_of_a_node_that_is_silent_is_no_fault_yet() {
        let reports = [producer("w1", row(100, 100, 0, 0)), logger("l1", &[("w1", 130)])];
        let of = |worker, logger| {
            let known = |at: usize, is_live| Known { health: &reports[at], is_live };
            judged(&[known(0, worker), known(1, logger)])
        };
        assert!(!of(true, true).adds_up());
        let line = of(false, true);
        assert!(line.adds_up());
        assert_eq!((line.produced_rows, line.unheard_rows), (130, 30));

        let lost = [producer("w1", row(100, 100, 0, 0)), logger("l1", &[("w1", 90)])];
        let mut lost = live(&lost);
        assert!(!judged(&lost).adds_up());
        lost[1].is_live = false;
        let line = judged(&lost);
        assert!(line.adds_up());
        assert_eq!((line.in_flight_rows, line.unseen_rows, shown(&line)), (10, 10, 100));
    }

    #[test]
    fn a_producer_that_never_reported_is_a_fault_when_others_had_time() {
        let lines = sum(&[logger("l1", &[("w1", 7)])]);
        assert_eq!(lines.faults, ["no report of the conn rows of w1, 7 written"]);
    }

    proptest! {
        #[test]
        fn a_line_that_adds_up_adds_up_as_shown(
            acked in 0..1000_u64, pending in 0..1000_u64, spooled in 0..1000_u64,
            lost in 0..1000_u64, ahead in 0..3000_u64,
        ) {
            let dropped = vec![Dropped { reason: "refused".into(), rows: lost }];
            let produced = acked + pending + spooled + lost;
            prop_assume!(produced > 0);
            let line = sum(&[
                producer("w1", LedgerRow { dropped, ..row(produced, acked, pending, spooled) }),
                logger("l1", &[("w1", acked + ahead)]),
            ]);
            prop_assert_eq!(line.adds_up(), ahead <= pending + spooled);
            prop_assert_eq!(shown(&line), line.produced_rows);
        }
    }
}
