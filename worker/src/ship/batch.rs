//! From rows to batches, on the packet thread: each log stream fills a buffer of its own, and a
//! full or old one goes to the ship thread over a bounded channel. Never waits on live traffic.

use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use foldhash::quality::RandomState;
use hashbrown::HashMap;
use tokio::sync::mpsc::{self, error::TrySendError};
use tyto_core::config::runtime::ShipConfig;
use tyto_core::time::{NANOS, Ts};

use super::claim::ClaimedRow;
use super::ledger::Reason;
use crate::output::{Claim, RowSink, StreamRef};

/// Bytes at which a batch goes out, whatever its number of rows.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Batches that may wait for the ship thread. Beyond it, rows are dropped and counted as
/// `queue_full`: the ship thread is behind its disk by [`BATCH_BYTES_MAX`] times this.
pub(crate) const QUEUE_BATCHES_MAX: usize = 256;

/// Claims remembered as made, so that they are not made again with each connection. Past it,
/// all are forgotten, and the proxies say once more that they know.
const CLAIMS_KNOWN_MAX: usize = 1 << 16;

/// Rows of one log stream, without sequence numbers yet.
#[derive(Clone, Debug)]
pub(crate) struct RowBatch {
    pub(crate) stream: StreamRef,
    pub(crate) rows: u32,
    pub(crate) payload: Bytes,
}

/// What comes to the ship thread.
#[derive(Clone, Debug)]
pub(crate) enum Intake {
    /// Rows to deliver.
    Rows(RowBatch),
    /// Rows that were given up on the way.
    Dropped { stream: &'static str, rows: u64, reason: Reason },
}

/// What happens when the ship thread is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Live traffic does not wait: drop rows and count them.
    Drop,
    /// A capture file can wait.
    Wait,
}

/// The packet thread's end: a [`RowSink`].
#[derive(Debug)]
pub struct ShipOutput {
    rows_max: u32,
    interval_ns: u64,
    overflow: Overflow,
    queue: mpsc::Sender<Intake>,
    claims: mpsc::Sender<ClaimedRow>,
    buffers: Vec<Buffer>,
    /// Rows given up that the ship thread has not been told of.
    dropped: Vec<(&'static str, u64, Reason)>,
    /// When claims made run out, packet time.
    claimed: HashMap<(&'static str, IpAddr), Ts, RandomState>,
    now: Ts,
}

#[derive(Debug)]
struct Buffer {
    stream: StreamRef,
    rows: u32,
    bytes: Vec<u8>,
    /// When the first row came.
    since: Ts,
}

impl ShipOutput {
    pub(crate) fn new(
        config: &ShipConfig,
        overflow: Overflow,
        queue: mpsc::Sender<Intake>,
        claims: mpsc::Sender<ClaimedRow>,
    ) -> Self {
        Self {
            rows_max: config.batch_rows_max.max(1),
            interval_ns: config.batch_interval_ms.saturating_mul(NANOS / 1_000),
            overflow,
            queue,
            claims,
            buffers: Vec::new(),
            dropped: Vec::new(),
            claimed: HashMap::default(),
            now: Ts::default(),
        }
    }

    fn flush(&mut self, index: usize) {
        let Some(buffer) = self.buffers.get_mut(index) else { return };
        if buffer.rows == 0 {
            return;
        }
        let (stream, rows) = (buffer.stream, std::mem::take(&mut buffer.rows));
        let capacity = buffer.bytes.len();
        let bytes = std::mem::replace(&mut buffer.bytes, Vec::with_capacity(capacity));
        let batch = RowBatch { stream, rows, payload: bytes.into() };
        if self.send(Intake::Rows(batch)).is_err() {
            self.count_dropped(stream.name, u64::from(rows), Reason::QueueFull);
        }
        self.tell_dropped();
    }

    fn send(&self, intake: Intake) -> Result<(), ()> {
        match self.overflow {
            Overflow::Drop => self.queue.try_send(intake).map_err(|_| ()),
            Overflow::Wait => self.queue.blocking_send(intake).map_err(|_| ()),
        }
    }

    fn count_dropped(&mut self, stream: &'static str, rows: u64, reason: Reason) {
        let same =
            |entry: &&mut (&'static str, u64, Reason)| (entry.0, entry.2) == (stream, reason);
        match self.dropped.iter_mut().find(same) {
            Some(entry) => entry.1 += rows,
            None => self.dropped.push((stream, rows, reason)),
        }
    }

    fn tell_dropped(&mut self) {
        while let Some(&(stream, rows, reason)) = self.dropped.last() {
            if self.send(Intake::Dropped { stream, rows, reason }).is_err() {
                return;
            }
            self.dropped.pop();
        }
    }
}

impl RowSink for ShipOutput {
    fn row(&mut self, stream: StreamRef, row: &[u8]) {
        let found = self.buffers.iter().position(|buffer| buffer.stream.name == stream.name);
        let index = found.unwrap_or_else(|| {
            self.buffers.push(Buffer { stream, rows: 0, bytes: Vec::new(), since: self.now });
            self.buffers.len() - 1
        });
        let Some(buffer) = self.buffers.get_mut(index) else { return };
        if buffer.rows == 0 {
            buffer.since = self.now;
        }
        buffer.bytes.extend_from_slice(row);
        buffer.rows += 1;
        if buffer.rows >= self.rows_max || buffer.bytes.len() >= BATCH_BYTES_MAX {
            self.flush(index);
        }
    }

    fn claim(&mut self, claim: Claim, stream: StreamRef, row: &[u8]) {
        let key = (claim.table, claim.key);
        if self.claimed.get(&key).is_some_and(|until| claim.ts < *until) {
            return;
        }
        let wanted = ClaimedRow { claim, stream, row: row.to_vec().into() };
        match self.claims.try_send(wanted) {
            Ok(()) => {
                if self.claimed.len() >= CLAIMS_KNOWN_MAX {
                    self.claimed.clear();
                }
                self.claimed.insert(key, claim.ts.plus_secs(claim.expiry_s));
            }
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.count_dropped(stream.name, 1, Reason::Unclaimed);
            }
        }
    }

    fn idle(&mut self, now: Ts) {
        self.now = self.now.max(now);
        for index in 0..self.buffers.len() {
            let old = self.buffers.get(index).is_some_and(|buffer| {
                buffer.rows > 0 && self.now.0 - buffer.since.0 >= self.interval_ns
            });
            if old {
                self.flush(index);
            }
        }
        self.tell_dropped();
    }

    fn finish(&mut self, _last: Ts) -> io::Result<()> {
        // The last rows may wait for the ship thread: no packet is behind them.
        self.overflow = Overflow::Wait;
        (0..self.buffers.len()).for_each(|index| self.flush(index));
        self.tell_dropped();
        if self.dropped.is_empty() {
            Ok(())
        } else {
            Err(io::Error::other("shipping ended before the last rows came"))
        }
    }
}
