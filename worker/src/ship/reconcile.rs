//! What the loggers say against what the ledger believes, at each welcome.
//!
//! A logger tells how many rows of this node it has written, over all lives of both. That is
//! as many as were acked by it, or something happened that nobody saw:
//! - it has more: a crash of this host lost the end of the spool after it was sent. The rows
//!   are there, so they were produced and acked;
//! - it has fewer: it refused batches, and the session broke before it could say so; or it
//!   lost its disk. The rows are dropped, with the reason.
//!
//! After a crash of this host, sequence numbers were given out that the spool does not have:
//! behind its end, which loggers then know of, or in the middle, where the disk failed to sync.
//! Rows of that life below the highest number that nobody has were produced and lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tyto_capture::account::{Account, Left, LeftRows};
use tyto_writer::Position;

use super::backlog::Backlog;
use super::ledger::{Ledger, Reason, Tally};
use super::recovery::Recovered;

/// Earlier lives that loggers are still asked about, at most; the oldest is then given up.
const HEARINGS_MAX: usize = 16;

/// Each connection that was open would have given a row of this one.
const CONNECTIONS: &str = "conn";

/// What loggers have said of an earlier life of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hearing {
    /// The life.
    epoch: u64,
    /// Rows that the spool or its ledger has counted.
    known: BTreeMap<String, u64>,
    /// Sequence numbers below these were given out, as far as the spool or any logger knows.
    heard: BTreeMap<String, u64>,
    /// Rows that loggers have and the ledger did not know, of this life or an earlier one.
    found: BTreeMap<String, u64>,
    /// Loggers that have not been heard.
    silent: BTreeSet<String>,
}

impl Ledger {
    /// The life before this one is over: loggers are asked about it.
    pub(super) fn begin_hearing(&mut self, found: &Recovered, loggers: &[Arc<str>]) {
        let (epoch, gone_rows) = (self.epoch, self.gone_rows.take());
        let mut heard = std::mem::take(&mut self.next_seqs);
        if epoch == 0 {
            return;
        }
        for ((_, stream), &end) in found.ends.iter().filter(|((of, _), _)| *of == epoch) {
            let heard = heard.entry(stream.to_string()).or_default();
            *heard = end.max(*heard);
        }
        let mut known = heard.clone();
        if let Some(gone) = gone_rows {
            for (stream, rows) in &mut known {
                let gone = gone.get(stream).copied().unwrap_or(0);
                *rows = gone + found.numbered(epoch, &stream.as_str().into());
            }
        }
        let silent = loggers.iter().map(ToString::to_string).collect();
        self.hearings.push(Hearing { epoch, known, heard, silent, ..Hearing::default() });
        if self.hearings.len() > HEARINGS_MAX {
            self.hearings.remove(0);
        }
    }

    /// A segment is removed that had these rows.
    pub(super) fn add_gone(&mut self, numbered: &BTreeMap<(u64, Arc<str>), u64>) {
        let Some(gone) = &mut self.gone_rows else { return };
        for ((_, stream), rows) in numbered.iter().filter(|((of, _), _)| *of == self.epoch) {
            *gone.entry(stream.to_string()).or_default() += rows;
        }
    }
}

impl Backlog {
    /// Takes over the page of counts from the life before.
    pub(crate) fn take_page(&mut self, page: &Account) {
        let left = page.left();
        if let Some(segment) = left.unsynced {
            self.distrust(segment);
        }
        self.count_left(&left);
        page.begin(self.epoch(), self.produced());
    }

    /// Counts what the life before was killed with: rows that never came to the spool, claims
    /// that nobody decided on, and the rows that its open connections would have given.
    pub(super) fn count_left(&mut self, left: &Left) {
        // Lives may lie between that did not come so far as to count; none is counted twice.
        if left.epoch <= self.ledger.counted_epoch || left.epoch > self.previous_epoch {
            return;
        }
        for LeftRows { stream, rows, claims } in &left.streams {
            let known = self.totals.get(stream.as_str()).map_or(0, |tally| tally.produced);
            let known = known.saturating_sub_signed(self.ledger.aside.rows(left.epoch, stream));
            self.count_killed(stream, rows.saturating_sub(known), Reason::Killed);
            self.count_killed(stream, *claims, Reason::Unclaimed);
        }
        self.count_killed(CONNECTIONS, left.flows, Reason::Killed);
        self.ledger.counted_epoch = left.epoch;
        self.ledger_changed = true;
        self.save_ledger();
    }

    fn count_killed(&mut self, stream: &str, rows: u64, reason: Reason) {
        if rows > 0 {
            let reason_word = reason.as_str();
            tracing::warn!(stream, rows, reason = reason_word, "lost when the node was killed");
            self.count_dropped(stream, rows, reason);
        }
    }

    /// A session with a logger begins: settles what it has, and mends the ledger.
    pub(super) fn hear_welcome(
        &mut self,
        logger: &str,
        durable: &[Position],
        written: Option<&[(Arc<str>, u64)]>,
    ) {
        let written: Option<BTreeMap<&str, u64>> =
            written.map(|written| written.iter().map(|(s, rows)| (&**s, *rows)).collect());
        if let Some(written) = &written {
            self.attribute(logger, written);
        }
        let before = self.acked_by(logger);
        durable.iter().for_each(|position| self.acked(logger, position));
        for position in durable {
            for hearing in &mut self.ledger.hearings {
                if hearing.epoch == position.epoch {
                    let heard = hearing.heard.entry(position.stream.to_string()).or_default();
                    *heard = position.next_seq.max(*heard);
                }
            }
        }
        match written {
            Some(written) => self.reconcile(logger, &before, &written),
            // Without its word nothing can be said of what it has.
            None => self.ledger.hearings.clear(),
        }
        self.heard(logger);
        // At once: what a later life believes of this must not depend on when it is killed.
        self.save_ledger();
    }

    /// Nothing more is to be heard of a logger: once all were, what no logger has is lost. All
    /// lives together: a logger does not say of which one its rows are.
    pub(super) fn heard(&mut self, logger: &str) {
        for hearing in &mut self.ledger.hearings {
            self.ledger_changed |= hearing.silent.remove(logger);
        }
        if self.ledger.hearings.iter().any(|hearing| !hearing.silent.is_empty()) {
            return;
        }
        let (mut given, mut counted) = (BTreeMap::new(), BTreeMap::new());
        for Hearing { known, heard, found, .. } in std::mem::take(&mut self.ledger.hearings) {
            add_rows(&mut given, &heard);
            add_rows(&mut counted, &known);
            add_rows(&mut counted, &found);
        }
        for stream in counted.keys() {
            given.entry(stream.clone()).or_default();
        }
        for (stream, given) in given {
            let counted = counted.get(&stream).copied().unwrap_or(0);
            self.find_again(&stream, counted.saturating_sub(given));
            let rows = given.saturating_sub(counted);
            if rows == 0 {
                continue;
            }
            tracing::error!(stream, rows, "a crash of this host lost rows");
            self.count_dropped(&stream, rows, Reason::HostCrash);
            self.ledger.aside.add(self.ledger.epoch, &stream, rows.cast_signed());
        }
    }

    fn acked_by(&self, logger: &str) -> BTreeMap<Arc<str>, u64> {
        let of = |(stream, tally): (&Arc<str>, &Tally)| {
            Some((stream.clone(), *tally.acked_by.get(logger)?))
        };
        self.totals.iter().filter_map(of).collect()
    }

    /// Rows that were acked before the ledger noted by whom are those that the logger has.
    fn attribute(&mut self, logger: &str, written: &BTreeMap<&str, u64>) {
        for (&stream, &rows) in written {
            let Some(tally) = self.totals.get(stream) else { continue };
            let unattributed = tally.acked - tally.acked_by.values().sum::<u64>();
            let rows = rows.min(unattributed);
            if rows == 0 || tally.acked_by.contains_key(logger) {
                continue;
            }
            for tallies in [&mut self.totals, &mut self.ledger.settled] {
                let tally = tallies.entry(stream.into()).or_default();
                tally.acked_by.insert(logger.to_owned(), rows);
            }
            self.ledger_changed = true;
        }
    }

    fn reconcile(
        &mut self,
        logger: &str,
        before: &BTreeMap<Arc<str>, u64>,
        written: &BTreeMap<&str, u64>,
    ) {
        let acked = self.acked_by(logger);
        let mut streams: BTreeSet<Arc<str>> = acked.keys().cloned().collect();
        streams.extend(written.keys().map(|stream| Arc::from(*stream)));
        for stream in streams {
            let acked_rows = acked.get(&stream).copied().unwrap_or(0);
            let written_rows = written.get(&*stream).copied().unwrap_or(0);
            if written_rows > acked_rows {
                self.add_found(logger, &stream, written_rows - acked_rows);
            } else if written_rows < acked_rows {
                let just_acked = acked_rows - before.get(&stream).copied().unwrap_or(0);
                let missing = acked_rows - written_rows;
                let is_refused = missing <= just_acked;
                let reason = if is_refused { Reason::Refused } else { Reason::LoggerLost };
                self.take_back(logger, &stream, missing, reason);
            }
        }
    }

    fn add_found(&mut self, logger: &str, stream: &Arc<str>, rows: u64) {
        tracing::warn!(peer = logger, %stream, rows, "logger has rows that the ledger had lost");
        for tallies in [&mut self.totals, &mut self.ledger.settled] {
            let tally = tallies.entry(stream.clone()).or_default();
            tally.produced += rows;
            tally.add_acked(Some(logger), rows);
        }
        self.ledger.aside.add(self.ledger.epoch, stream, rows.cast_signed());
        match self.ledger.hearings.last_mut() {
            Some(hearing) => *hearing.found.entry(stream.to_string()).or_default() += rows,
            None => self.find_again(stream, rows),
        }
        self.ledger_changed = true;
    }

    /// A logger that was not part of the cluster when the others were heard has rows that were
    /// counted as lost since.
    fn find_again(&mut self, stream: &str, rows: u64) {
        let lost = |tally: &Tally| tally.dropped.get(&Reason::HostCrash).copied().unwrap_or(0);
        let rows = rows.min(self.ledger.settled.get(stream).map_or(0, lost));
        for tallies in [&mut self.totals, &mut self.ledger.settled] {
            let Some(tally) = tallies.get_mut(stream).filter(|_| rows > 0) else { continue };
            tally.produced -= rows;
            *tally.dropped.entry(Reason::HostCrash).or_default() -= rows;
            tally.dropped.retain(|_, rows| *rows > 0);
        }
        self.ledger.aside.add(self.ledger.epoch, stream, -rows.cast_signed());
    }

    fn take_back(&mut self, logger: &str, stream: &Arc<str>, rows: u64, reason: Reason) {
        tracing::error!(
            peer = logger, %stream, rows, reason = reason.as_str(),
            "logger does not have rows that it had acked or passed over"
        );
        self.corrections_take(logger, stream, rows, reason);
        self.ledger_changed = true;
    }

    /// The batches of those rows may still stand in a segment as acked, so the counts of removed
    /// segments alone could not be lowered: corrections are kept beside them.
    fn corrections_take(&mut self, logger: &str, stream: &Arc<str>, rows: u64, reason: Reason) {
        if let Some(tally) = self.totals.get_mut(stream) {
            tally.take_back(logger, rows, reason);
        }
        let corrections = self.ledger.corrections.entry(stream.to_string()).or_default();
        let of_logger = corrections.entry(logger.to_owned()).or_default();
        *of_logger.entry(reason).or_default() += rows;
    }
}

fn add_rows(to: &mut BTreeMap<String, u64>, rows: &BTreeMap<String, u64>) {
    for (stream, rows) in rows {
        *to.entry(stream.clone()).or_default() += rows;
    }
}
