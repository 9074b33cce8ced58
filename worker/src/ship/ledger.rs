//! The worker's side of the ledger: per log stream, over all lives of the node,
//! `produced = acked + pending + spooled + dropped`.
//!
//! Counts of batches that stand in the spool follow from the spool. The file `ledger` holds
//! the counts of what the spool holds no longer, and is written before a segment is removed:
//! a death at any moment finds each row counted once.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tyto_writer::disk::{Disk, Open};

use super::reconcile::Hearing;
use super::spool::{Lease, Place};

/// Why rows were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The queue between packet thread and shipping was full.
    QueueFull,
    /// The spool was full.
    SpoolFull,
    /// The disk under the spool refused them, or gave other bytes back than were written.
    SpoolFault,
    /// A logger can never write them.
    Refused,
    /// No proxy said whether they count: too many waited for its word, or the node ended.
    Unclaimed,
    /// The spool held them longer than it may.
    SpoolAge,
    /// The node was killed: rows that were not in the spool yet, and connections that were open.
    Killed,
    /// The host crashed before the disk had them.
    HostCrash,
    /// A logger acked them and has them no more.
    LoggerLost,
}

impl Reason {
    /// All reasons.
    pub(crate) const ALL: [Self; 9] = [
        Self::QueueFull,
        Self::SpoolFull,
        Self::SpoolFault,
        Self::Refused,
        Self::Unclaimed,
        Self::SpoolAge,
        Self::Killed,
        Self::HostCrash,
        Self::LoggerLost,
    ];

    /// The word in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::SpoolFull => "spool_full",
            Self::SpoolFault => "spool_fault",
            Self::Refused => "refused",
            Self::Unclaimed => "unclaimed",
            Self::SpoolAge => "spool_age",
            Self::Killed => "killed",
            Self::HostCrash => "host_crash",
            Self::LoggerLost => "logger_lost",
        }
    }

    /// The byte in the spool.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// Rows of one log stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Rows handed to delivery.
    pub(crate) produced: u64,
    /// Rows that a logger has on disk.
    pub(crate) acked: u64,
    /// Rows given up.
    pub(crate) dropped: BTreeMap<Reason, u64>,
    /// Of the acked rows, those of each logger. Releases before this was noted left a rest.
    #[serde(default)]
    pub(crate) acked_by: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.produced += other.produced;
        self.acked += other.acked;
        for (reason, rows) in &other.dropped {
            *self.dropped.entry(*reason).or_default() += rows;
        }
        for (logger, rows) in &other.acked_by {
            *self.acked_by.entry(logger.clone()).or_default() += rows;
        }
    }

    /// A logger has rows on disk.
    pub(crate) fn add_acked(&mut self, logger: Option<&str>, rows: u64) {
        self.acked += rows;
        let Some(logger) = logger else { return };
        match self.acked_by.get_mut(logger) {
            Some(acked) => *acked += rows,
            None => {
                self.acked_by.insert(logger.to_owned(), rows);
            }
        }
    }

    /// Rows that counted as acked by a logger are lost for that reason.
    pub(crate) fn take_back(&mut self, logger: &str, rows: u64, reason: Reason) {
        self.acked = self.acked.saturating_sub(rows);
        if let Some(acked) = self.acked_by.get_mut(logger) {
            *acked = acked.saturating_sub(rows);
        }
        *self.dropped.entry(reason).or_default() += rows;
    }

    /// Rows given up, for all reasons.
    pub(crate) fn dropped_rows(&self) -> u64 {
        self.dropped.values().sum()
    }
}

/// Tallies by log stream.
pub(crate) type Tallies = BTreeMap<Arc<str>, Tally>;

/// Adds `more` to `tallies`.
pub(crate) fn add(tallies: &mut Tallies, more: &Tallies) {
    for (stream, tally) in more {
        tallies.entry(stream.clone()).or_default().add(tally);
    }
}

/// Per log stream, logger and reason: rows that count as acked in segments or `settled` and
/// are lost.
pub(crate) type Corrections = BTreeMap<String, BTreeMap<String, BTreeMap<Reason, u64>>>;

/// Adds what the loggers' word has corrected. A mark that said that rows are acked may be lost,
/// and they wait again: of those nothing is taken back, their logger will be asked once more.
pub(crate) fn correct(tallies: &mut Tallies, corrections: &mut Corrections) {
    for (stream, loggers) in corrections {
        let tally = tallies.entry(stream.as_str().into()).or_default();
        for (logger, reasons) in loggers {
            for (reason, rows) in reasons {
                *rows = tally.acked_by.get(logger).map_or(0, |acked| (*rows).min(*acked));
                tally.take_back(logger, *rows, *reason);
            }
        }
    }
}

/// Rows that count as produced in a life and were made in an earlier one, whose host crashed:
/// what the output of the life counts for the next one does not have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Aside {
    epoch: u64,
    rows: BTreeMap<String, i64>,
}

impl Aside {
    /// Rows of an earlier life are counted in the life `epoch`, or no longer.
    pub(super) fn add(&mut self, epoch: u64, stream: &str, rows: i64) {
        if self.epoch != epoch {
            *self = Self { epoch, ..Self::default() };
        }
        *self.rows.entry(stream.to_owned()).or_default() += rows;
    }

    /// How many were, of a log stream.
    pub(super) fn rows(&self, epoch: u64, stream: &str) -> i64 {
        let rows = self.rows.get(stream).filter(|_| self.epoch == epoch);
        rows.copied().unwrap_or(0)
    }
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ledger {
    /// Counts of what the spool holds no longer.
    #[serde(with = "tallies")]
    pub(crate) settled: Tallies,
    /// Segments below this one are counted in `settled`.
    pub(crate) first_segment: u64,
    /// Batches below this number were given out.
    pub(crate) next_number: u64,
    /// The latest life of this node.
    pub(crate) epoch: u64,
    /// Sequence numbers of that life below these were given out.
    pub(crate) next_seqs: BTreeMap<String, u64>,
    /// Rows of that life in segments that are gone; none: by a release that did not count them.
    pub(crate) gone_rows: Option<BTreeMap<String, u64>>,
    /// Who got batches from which number on, as far as it is not said in segments that remain.
    pub(crate) leases: Vec<Lease>,
    /// What the spool says of leases before this is older than the latest of those.
    pub(crate) leases_until: Place,
    /// Earlier lives that not all loggers have been heard about.
    pub(crate) hearings: Vec<Hearing>,
    /// Rows that count as acked and are lost.
    pub(crate) corrections: Corrections,
    /// The run of the host that the latest life belongs to.
    pub(crate) boot: String,
    /// That life came to an orderly end.
    pub(crate) has_ended: bool,
    /// The latest life of which is counted what a kill of it cost.
    pub(crate) counted_epoch: u64,
    /// Rows of a life's counts that its output did not make.
    pub(crate) aside: Aside,
    /// Times that the host crashed under the node.
    pub(crate) host_crashes: u64,
}

/// Tallies with names as plain strings.
mod tallies {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Tallies, Tally};

    pub(super) fn serialize<S: Serializer>(of: &Tallies, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(of.iter().map(|(stream, tally)| (&**stream, tally)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Tallies, D::Error> {
        let plain = BTreeMap::<String, Tally>::deserialize(from)?;
        Ok(plain.into_iter().map(|(stream, tally)| (stream.into(), tally)).collect())
    }
}

impl Ledger {
    /// A life begins, later than all before it whatever the clock says.
    pub(crate) fn begin_life(&mut self, epoch: u64, boot: &str) {
        let is_known = !self.boot.is_empty() && !boot.is_empty();
        if is_known && self.boot != boot && !self.has_ended {
            self.host_crashes += 1;
            tracing::error!("the host has crashed; rows of the last second before may be lost");
        }
        self.epoch = epoch.max(self.again_epoch() + 1);
        self.next_seqs.clear();
        self.gone_rows = Some(BTreeMap::new());
        (self.boot, self.has_ended) = (boot.to_owned(), false);
    }

    /// Batches of this life or an earlier one that were taken back from a logger are numbered
    /// once more, as if of this life. With numbers of their own, because a crash of the host may
    /// lose those numbers and not the rows, and what lacks of a life's numbers counts as lost.
    pub(crate) const fn again_epoch(&self) -> u64 {
        self.epoch + 1
    }

    /// The life whose stamp a batch has, or was given beside ([`Ledger::again_epoch`]) when it
    /// `is_again` one.
    pub(crate) const fn life_of(epoch: u64, is_again: bool) -> u64 {
        if is_again { epoch.saturating_sub(1) } else { epoch }
    }

    /// Reads the file; an empty ledger when there is none. One that cannot be understood is
    /// put aside: rows go on, but the counts begin anew.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn load(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let text = match disk.read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(ledger) => Ok(ledger),
            Err(error) => {
                tracing::error!(%error, "ledger is broken; counts begin anew");
                disk.rename(path, &path.with_extension("broken"))?;
                Ok(Self::default())
            }
        }
    }

    /// Puts the file in place of the one before, in one step.
    ///
    /// # Errors
    /// When the disk refuses; the file before is then still there, or this one is.
    pub(crate) fn save(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let beside = path.with_extension("new");
        let out = disk.open(&beside, Open::Create)?;
        out.write_all_at(&text, 0)?;
        out.sync_data()?;
        disk.rename(&beside, path)?;
        // What it takes over is removed next, and its epoch is used: neither may outlive it.
        disk.sync_folder(path.parent().unwrap_or(Path::new(".")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_in_the_documentation() {
        let operate = include_str!("../../../docs/operate.md");
        let metrics = include_str!("../../../docs/metrics.md");
        for reason in Reason::ALL.map(Reason::as_str) {
            assert!(operate.contains(&format!("| `{reason}` |")), "docs/operate.md: {reason}");
            assert!(metrics.contains(&format!("`{reason}`")), "docs/metrics.md: {reason}");
        }
    }

    #[test]
    fn each_reason_has_a_code_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
    }
}
