//! From rows to batches, on the packet thread: each log stream fills a buffer of its own, and a
//! full or old one goes to the ship thread over a bounded channel. Never waits on live traffic.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::quality::RandomState;
use hashbrown::HashMap;
use tokio::sync::mpsc::{self, error::TrySendError};
use tyto_capture::account::{Account, Slot};
use tyto_core::config::runtime::ShipConfig;
use tyto_core::time::Ts;
use tyto_writer::RowTimes;

use super::claim::ClaimedRow;
use super::ledger::Reason;
use crate::output::{Claim, ClaimKey, RowSink, StreamRef};

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
    pub(crate) times: RowTimes,
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
    interval: Duration,
    overflow: Overflow,
    /// Packets of a file were captured some time: how late their rows are says nothing.
    is_live: bool,
    queue: mpsc::Sender<Intake>,
    claims: mpsc::Sender<ClaimedRow>,
    buffers: Vec<Buffer>,
    /// Rows given up that the ship thread has not been told of.
    dropped: Vec<(&'static str, u64, Reason)>,
    /// When claims made run out, packet time.
    claimed: HashMap<(&'static str, ClaimKey), Ts, RandomState>,
    now: Ts,
    steady: Steady,
    /// Counts what a kill would cost.
    account: Option<Account>,
}

#[derive(Debug)]
struct Buffer {
    stream: StreamRef,
    slot: Option<Slot>,
    rows: u32,
    bytes: Vec<u8>,
    /// When the first row came: packet time, and by a clock that nobody sets.
    since: Ts,
    begun: Instant,
}

/// A clock that only rises. Packets of a link carry the time of the host's clock: set back by an
/// hour, it would let rows wait for that hour.
struct Steady(Box<dyn Fn() -> Instant + Send>);

impl fmt::Debug for Steady {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Steady")
    }
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
            interval: Duration::from_millis(config.batch_interval_ms),
            overflow,
            is_live: overflow == Overflow::Drop,
            queue,
            claims,
            buffers: Vec::new(),
            dropped: Vec::new(),
            claimed: HashMap::default(),
            now: Ts::default(),
            // Tokio's, which goes with simulated time where there is such.
            steady: Steady(Box::new(|| tokio::time::Instant::now().into_std())),
            account: None,
        }
    }

    /// The same, with each row counted where the next life finds it.
    pub fn counted(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }

    fn flush(&mut self, index: usize) {
        let Some(buffer) = self.buffers.get_mut(index) else { return };
        if buffer.rows == 0 {
            return;
        }
        let (stream, rows) = (buffer.stream, std::mem::take(&mut buffer.rows));
        let capacity = buffer.bytes.len();
        let bytes = std::mem::replace(&mut buffer.bytes, Vec::with_capacity(capacity));
        let times = match self.is_live {
            true => RowTimes { first_ns: buffer.since.0, last_ns: self.now.0 },
            false => RowTimes::default(),
        };
        let batch = RowBatch { stream, rows, payload: bytes.into(), times };
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
            let slot = self.account.as_ref().and_then(|account| account.slot(stream.name));
            let (bytes, since, begun) = (Vec::new(), self.now, (self.steady.0)());
            self.buffers.push(Buffer { stream, slot, rows: 0, bytes, since, begun });
            self.buffers.len() - 1
        });
        let Some(buffer) = self.buffers.get_mut(index) else { return };
        if buffer.rows == 0 {
            (buffer.since, buffer.begun) = (self.now, (self.steady.0)());
        }
        if let (Some(account), Some(slot)) = (&self.account, buffer.slot) {
            account.add_rows(slot, 1);
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
        if let Some(account) = &self.account {
            account.claim_made(stream.name);
        }
        match self.claims.try_send(wanted) {
            Ok(()) => {
                if self.claimed.len() >= CLAIMS_KNOWN_MAX {
                    self.claimed.clear();
                }
                self.claimed.insert(key, claim.ts.plus_secs(claim.expiry_s));
            }
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                if let Some(account) = &self.account {
                    account.add_row(stream.name);
                    account.claim_done(stream.name);
                }
                self.count_dropped(stream.name, 1, Reason::Unclaimed);
            }
        }
    }

    fn idle(&mut self, now: Ts) {
        self.now = self.now.max(now);
        // Packets of a file may come faster than their time: there it is theirs that counts.
        let steady_now = (self.steady.0)();
        for index in 0..self.buffers.len() {
            let waited = |buffer: &Buffer| match self.is_live {
                true => steady_now.saturating_duration_since(buffer.begun),
                false => Duration::from_nanos(self.now.0.saturating_sub(buffer.since.0)),
            };
            let is_old = |buffer: &Buffer| buffer.rows > 0 && waited(buffer) >= self.interval;
            if self.buffers.get(index).is_some_and(is_old) {
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tyto_core::record::schema::Schema;

    use super::*;

    const CONN: StreamRef =
        StreamRef { name: "conn", schema: || Schema { stream: "conn".into(), fields: Vec::new() } };
    const DNS: StreamRef = StreamRef { name: "dns", ..CONN };

    fn output(queue: usize, claims: usize) -> Ends {
        let config = ShipConfig { batch_rows_max: 3, batch_interval_ms: 200, ..Default::default() };
        let (rows, intake) = mpsc::channel(queue);
        let (asked, wanted) = mpsc::channel(claims);
        (ShipOutput::new(&config, Overflow::Drop, rows, asked), intake, wanted)
    }

    type Ends = (ShipOutput, mpsc::Receiver<Intake>, mpsc::Receiver<ClaimedRow>);

    /// What came: stream, rows, and whether they were dropped.
    fn taken(intake: &mut mpsc::Receiver<Intake>) -> Vec<(&'static str, u64, Option<Reason>)> {
        std::iter::from_fn(|| intake.try_recv().ok())
            .map(|intake| match intake {
                Intake::Rows(batch) => (batch.stream.name, u64::from(batch.rows), None),
                Intake::Dropped { stream, rows, reason } => (stream, rows, Some(reason)),
            })
            .collect()
    }

    fn host(last: u8) -> Claim {
        let key = IpAddr::from([192, 0, 2, last]).into();
        Claim { table: "known_hosts", key, ts: Ts::new(1_000, 0), expiry_s: 60 }
    }

    #[test]
    fn a_batch_goes_out_when_it_is_full_of_rows_or_bytes() {
        let (mut output, mut intake, _wanted) = output(8, 8);
        (0..4).for_each(|_| output.row(CONN, b"row"));
        assert_eq!(taken(&mut intake), [("conn", 3, None)]);
        output.row(DNS, &vec![0; BATCH_BYTES_MAX]);
        assert_eq!(taken(&mut intake), [("dns", 1, None)]);
    }

    /// A clock that a test sets, ms.
    fn steady(output: &mut ShipOutput) -> Arc<AtomicU64> {
        let (begun, passed_ms) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let shared = passed_ms.clone();
        let now = move || begun + Duration::from_millis(shared.load(Ordering::Relaxed));
        output.steady = Steady(Box::new(now));
        passed_ms
    }

    #[test]
    fn a_batch_goes_out_when_its_first_row_waited_long_enough() {
        let (mut output, mut intake, _wanted) = output(8, 8);
        let passed_ms = steady(&mut output);
        output.row(CONN, b"row");
        passed_ms.store(199, Ordering::Relaxed);
        output.idle(Ts::new(100, 0));
        assert_eq!(taken(&mut intake), []);
        output.row(CONN, b"row");
        passed_ms.store(200, Ordering::Relaxed);
        output.idle(Ts::new(100, 1));
        assert_eq!(taken(&mut intake), [("conn", 2, None)]);
    }

    #[test]
    fn rows_of_a_link_wait_no_longer_and_no_shorter_when_the_clock_is_set_by_an_hour() {
        for now_s in [100_000 - 3_600, 100_000 + 3_600] {
            let (mut output, mut intake, _wanted) = output(8, 8);
            let passed_ms = steady(&mut output);
            output.idle(Ts::new(100_000, 0));
            output.row(CONN, b"row");
            output.idle(Ts::new(now_s, 0));
            assert_eq!(taken(&mut intake), [], "{now_s}");
            passed_ms.store(200, Ordering::Relaxed);
            output.idle(Ts::new(now_s, 200_000_000));
            assert_eq!(taken(&mut intake), [("conn", 1, None)], "{now_s}");
        }
    }

    #[test]
    fn rows_of_a_capture_file_wait_by_the_time_of_its_packets() {
        let (mut output, mut intake, _wanted) = output(8, 8);
        output.is_live = false;
        output.idle(Ts::new(100, 0));
        output.row(CONN, b"row");
        output.idle(Ts::new(100, 199_000_000));
        assert_eq!(taken(&mut intake), []);
        output.idle(Ts::new(100, 200_000_000));
        assert_eq!(taken(&mut intake), [("conn", 1, None)]);
    }

    #[test]
    fn what_a_full_queue_refuses_is_counted_and_told_when_there_is_room() {
        let (mut output, mut intake, _wanted) = output(1, 8);
        (0..9).for_each(|_| output.row(CONN, b"row"));
        assert_eq!(taken(&mut intake), [("conn", 3, None)]);
        output.idle(Ts::new(1, 0));
        assert_eq!(taken(&mut intake), [("conn", 6, Some(Reason::QueueFull))]);
    }

    #[test]
    fn the_end_hands_over_what_is_left() {
        let (mut output, mut intake, _wanted) = output(8, 8);
        output.row(CONN, b"row");
        output.row(DNS, b"row");
        output.finish(Ts::default()).unwrap();
        assert_eq!(taken(&mut intake), [("conn", 1, None), ("dns", 1, None)]);
    }

    #[test]
    fn a_claim_is_made_once_until_it_runs_out() {
        let (mut output, _intake, mut wanted) = output(8, 8);
        output.claim(host(1), CONN, b"row");
        output.claim(host(1), CONN, b"row");
        output.claim(host(2), CONN, b"row");
        output.claim(Claim { ts: Ts::new(1_060, 0), ..host(1) }, CONN, b"row");
        let asked = std::iter::from_fn(|| wanted.try_recv().ok());
        let asked: Vec<_> =
            asked.map(|wanted| (wanted.claim.key, wanted.claim.ts.secs())).collect();
        assert_eq!(asked, [(host(1).key, 1_000), (host(2).key, 1_000), (host(1).key, 1_060)]);
    }

    #[test]
    fn claims_that_find_no_room_are_dropped_and_counted_and_may_be_made_again() {
        let (mut output, mut intake, mut wanted) = output(8, 1);
        output.claim(host(1), CONN, b"row");
        output.claim(host(2), CONN, b"row");
        output.idle(Ts::new(1, 0));
        assert_eq!(taken(&mut intake), [("conn", 1, Some(Reason::Unclaimed))]);
        assert_eq!(wanted.try_recv().unwrap().claim, host(1));
        output.claim(host(2), CONN, b"row");
        assert_eq!(wanted.try_recv().unwrap().claim, host(2));
    }
}
