//! The worker's side of the ledger: per log stream, over all lives of the node,
//! `produced = acked + pending + spooled + dropped`.
//!
//! Counts of batches that stand in the spool follow from the spool. The file `ledger` holds
//! the counts of what the spool holds no longer, and is written before a segment is removed:
//! a death at any moment finds each row counted once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
}

impl Reason {
    /// All reasons.
    pub(crate) const ALL: [Self; 5] =
        [Self::QueueFull, Self::SpoolFull, Self::SpoolFault, Self::Refused, Self::Unclaimed];

    /// The word in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::SpoolFull => "spool_full",
            Self::SpoolFault => "spool_fault",
            Self::Refused => "refused",
            Self::Unclaimed => "unclaimed",
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
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.produced += other.produced;
        self.acked += other.acked;
        for (reason, rows) in &other.dropped {
            *self.dropped.entry(*reason).or_default() += rows;
        }
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

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Counts of what the spool holds no longer.
    pub(crate) settled: Tallies,
    /// Segments below this one are counted in `settled`.
    pub(crate) first_segment: u64,
    /// Batches below this number were given out.
    pub(crate) next_number: u64,
    /// The latest life of this node.
    pub(crate) epoch: u64,
}

/// The file: names as plain strings.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerFile {
    settled: BTreeMap<String, Tally>,
    first_segment: u64,
    next_number: u64,
    epoch: u64,
}

impl Ledger {
    /// Reads the file; an empty ledger when there is none. One that cannot be understood is
    /// put aside: rows go on, but the counts begin anew.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<LedgerFile>(&text) {
            Ok(file) => Ok(Self {
                settled: file.settled.into_iter().map(|(k, v)| (k.into(), v)).collect(),
                first_segment: file.first_segment,
                next_number: file.next_number,
                epoch: file.epoch,
            }),
            Err(error) => {
                tracing::error!(%error, "ledger is broken; counts begin anew");
                fs::rename(path, path.with_extension("broken"))?;
                Ok(Self::default())
            }
        }
    }

    /// Puts the file in place of the one before, in one step.
    ///
    /// # Errors
    /// When the disk refuses; the file before is then still there.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let file = LedgerFile {
            settled: self.settled.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
            first_segment: self.first_segment,
            next_number: self.next_number,
            epoch: self.epoch,
        };
        let text = serde_json::to_vec(&file)?;
        let beside = path.with_extension("new");
        let mut out = fs::File::create(&beside)?;
        out.write_all(&text)?;
        out.sync_data()?;
        fs::rename(beside, path)
    }
}
