//! The ledger: every row that was produced is written, in flight, spooled, or dropped with a
//! reason. Reports of all nodes in, one line per log stream out. Pure.
//!
//! Reports are taken at different moments, so under traffic a logger may know of rows that
//! their producer's report does not call acked yet. Such rows count as written, and no more as
//! in flight or spooled; a sum that then still does not match is a fault.

use std::collections::BTreeMap;

use serde::Serialize;
use tyto_proto::v1::{LedgerRow, NodeHealth};

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
        for (reason, rows) in &other.dropped {
            *self.dropped.entry(reason.clone()).or_default() += rows;
        }
        self.faults.extend(other.faults.iter().cloned());
    }
}

/// Lines of each producer and stream, from the reports of all nodes. `known` are the nodes of
/// the configuration: rows of others are history and not judged.
pub fn by_producer(reports: &[NodeHealth], known: &[&str]) -> BTreeMap<(String, String), Line> {
    let mut written: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for row in reports.iter().flat_map(|report| &report.ledger) {
        for part in &row.written {
            *written.entry((part.producer.as_str(), row.stream.as_str())).or_default() += part.rows;
        }
    }
    let mut lines = BTreeMap::new();
    for report in reports {
        for row in report.ledger.iter().filter(|row| is_producers(row)) {
            let rows = written.remove(&(report.node.as_str(), row.stream.as_str())).unwrap_or(0);
            let key = (report.node.clone(), row.stream.clone());
            lines.insert(key, line(&report.node, row, rows));
        }
    }
    // Written by nodes that did not tell what they produced.
    for ((producer, stream), rows) in written {
        if rows > 0 && known.contains(&producer) {
            let faults =
                vec![format!("{producer}: no report of its {stream} rows, {rows} written")];
            let (stream, produced_rows) = (stream.to_owned(), rows);
            let key = (producer.to_owned(), stream.clone());
            let line =
                Line { stream, produced_rows, written_rows: rows, faults, ..Line::default() };
            lines.insert(key, line);
        }
    }
    lines
}

/// Sums over producers, in the order of the streams' names.
pub fn by_stream(lines: &BTreeMap<(String, String), Line>) -> Vec<Line> {
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
    let mut faults = Vec::new();
    let own = row.acked_rows + row.pending_rows + row.spooled_rows + dropped_rows;
    if own != row.produced_rows {
        faults.push(format!("{node} produced {} rows and knows of {own}", row.produced_rows));
    }
    if written_rows < row.acked_rows {
        let (acked, stream) = (row.acked_rows, &row.stream);
        faults
            .push(format!("{node} has {acked} {stream} rows acked, loggers wrote {written_rows}"));
    }
    // Written already, but the producer has not heard of it.
    let mut unheard = written_rows.saturating_sub(row.acked_rows);
    let mut take = |rows: u64| {
        let taken = rows.min(unheard);
        unheard -= taken;
        rows - taken
    };
    let (in_flight_rows, spooled_rows) = (take(row.pending_rows), take(row.spooled_rows));
    if unheard > 0 {
        faults.push(format!("loggers wrote {unheard} rows more than {node} sent"));
    }
    Line {
        stream: row.stream.clone(),
        produced_rows: row.produced_rows,
        written_rows,
        in_flight_rows,
        spooled_rows,
        dropped,
        faults,
    }
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

    fn sum(reports: &[NodeHealth]) -> Line {
        by_stream(&by_producer(reports, &["w1", "w2"])).remove(0)
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
        let lines = by_producer(&[logger("l1", &[("gone", 7)])], &["w1"]);
        assert!(lines.is_empty());
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
            if line.adds_up() {
                let shown = line.written_rows + line.in_flight_rows + line.spooled_rows
                    + line.dropped_rows();
                prop_assert_eq!(shown, line.produced_rows);
            }
        }
    }
}
