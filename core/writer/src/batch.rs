//! What producers hand over and what they hear back.

use std::sync::Arc;

use bytes::Bytes;

/// Consecutive rows of one log stream, as a producer numbered them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The producer's node name.
    pub node: Arc<str>,
    /// Life of the producer that numbered the rows: when it began, ns since the Unix epoch.
    pub epoch: u64,
    /// Log stream.
    pub stream: Arc<str>,
    /// Schema of the rows.
    pub fingerprint: u64,
    /// Sequence number of the first row; each row takes one.
    pub first_seq: u64,
    /// Number of rows.
    pub rows: u32,
    /// The rows (`tyto_core::record::wire`).
    pub payload: Bytes,
    /// CRC-32 of the payload.
    pub crc32: u32,
    /// When its rows were written.
    pub times: RowTimes,
}

/// Packet time at which the first and the last row of a batch were written, ns since the Unix
/// epoch; 0 when that is no time of ours, as with packets of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTimes {
    /// Of the first row; up to a turn of the packet thread (0.1 s) early.
    pub first_ns: u64,
    /// Of the last row.
    pub last_ns: u64,
}

impl Batch {
    /// Sequence number behind the last row.
    pub fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(u64::from(self.rows))
    }

    /// What tells it from all other batches of its producer.
    pub fn name(&self) -> BatchName {
        let (epoch, stream, first_seq) = (self.epoch, self.stream.clone(), self.first_seq);
        BatchName { epoch, stream, first_seq }
    }
}

/// A batch of one producer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchName {
    /// Life of the producer.
    pub epoch: u64,
    /// Log stream.
    pub stream: Arc<str>,
    /// Sequence number of its first row.
    pub first_seq: u64,
}

/// What a store has of a producer when a session begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// How far each life and log stream is on disk.
    pub durable: Vec<Position>,
    /// Rows in the files per log stream, over all lives of both.
    pub written: Vec<(Arc<str>, u64)>,
}

/// How far the rows of one producer's life and log stream are on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Life of the producer.
    pub epoch: u64,
    /// Log stream.
    pub stream: Arc<str>,
    /// Rows below this sequence number are on disk or were never sent here.
    pub next_seq: u64,
}

/// Rows that can never be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Life of the producer.
    pub epoch: u64,
    /// Log stream.
    pub stream: Arc<str>,
    /// First of the rows.
    pub first_seq: u64,
    /// Number of rows.
    pub rows: u32,
    /// Why, for the operator.
    pub reason: String,
}
