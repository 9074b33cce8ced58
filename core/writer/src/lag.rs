//! Log lag: how long rows took from the packet that made them until their file was synced. Batches
//! tell when their rows were written (packet time); the commit tells when they were durable.
//! Counts go into HDR histograms: figures of the last minute and of all the time since the start.
//!
//! Packet time is the clock of the host that captured, the commit's that of this one: what one
//! is ahead of the other adds to the lag, or counts as none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hdrhistogram::Histogram;
use tyto_core::lag::{BUCKETS_MS, LagFigures, LagReport, StreamLag};
use tyto_core::time::{NANOS, Ts};

use crate::batch::Batch;

/// Longest lag told apart, milliseconds; what is older is no packet of now but of a file that was
/// played with its own times, or of a clock that is wrong, and is not measured.
const LAG_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// Log streams measured one by one; rows of further ones count in the sum of all only.
const STREAMS_MAX: usize = 256;

/// Batches that may wait for one commit; those beyond are not measured.
const WAITING_MAX: usize = 4096;

/// A window is made of this many slices, so that old rows leave it bit by bit.
const SLICES: usize = 6;

/// Length of one slice, ns: all together are a minute.
const SLICE_NS: u64 = 10 * NANOS;

/// Rows of a batch are taken as written evenly over its time, in this many steps.
const STEPS: u64 = 4;

/// Significant digits of the histograms of all streams together.
const ALL_DIGITS: u8 = 2;
/// The same of one stream: its histograms take a tenth of the room.
const STREAM_DIGITS: u8 = 1;

/// Measures the lag of one log store. Bounded by [`STREAMS_MAX`] times some 40 KiB.
#[derive(Debug)]
pub(crate) struct LagMeter {
    waiting: Vec<Waiting>,
    all: Recorder,
    streams: BTreeMap<Arc<str>, Recorder>,
    unmeasured_rows: u64,
}

/// Rows that were taken and are not durable.
#[derive(Debug)]
struct Waiting {
    stream: Arc<str>,
    first_ns: u64,
    last_ns: u64,
    rows: u64,
}

#[derive(Debug)]
struct Recorder {
    digits: u8,
    total: Histogram<u64>,
    slices: VecDeque<Slice>,
    buckets: [u64; BUCKETS_MS.len() + 1],
    sum_ms: u64,
}

#[derive(Debug)]
struct Slice {
    begun_ns: u64,
    rows: Histogram<u64>,
}

impl LagMeter {
    /// Nothing was measured yet.
    pub(crate) fn new() -> Self {
        let (waiting, streams) = (Vec::new(), BTreeMap::new());
        Self { waiting, all: Recorder::new(ALL_DIGITS), streams, unmeasured_rows: 0 }
    }

    /// The last `rows` rows of `batch` were taken.
    pub(crate) fn taken(&mut self, batch: &Batch, rows: u64) {
        let times = batch.times;
        if rows == 0 {
            return;
        }
        if times.first_ns == 0 || self.waiting.len() >= WAITING_MAX {
            self.unmeasured_rows += rows;
            return;
        }
        let (stream, first_ns) = (batch.stream.clone(), times.first_ns);
        self.waiting.push(Waiting { stream, first_ns, last_ns: times.last_ns.max(first_ns), rows });
    }

    /// All rows that were taken are durable at `now`, a wall clock.
    pub(crate) fn committed(&mut self, now: Ts) {
        for waiting in std::mem::take(&mut self.waiting) {
            if now.0.saturating_sub(waiting.first_ns) / (NANOS / 1_000) > LAG_MS_MAX {
                self.unmeasured_rows += waiting.rows;
                continue;
            }
            let known = self.streams.contains_key(&waiting.stream);
            if !known && self.streams.len() < STREAMS_MAX {
                self.streams.insert(waiting.stream.clone(), Recorder::new(STREAM_DIGITS));
            }
            for (written_ns, rows) in waiting.spread() {
                let lag_ms = now.0.saturating_sub(written_ns) / (NANOS / 1_000);
                self.all.record(now, lag_ms, rows);
                if let Some(stream) = self.streams.get_mut(&waiting.stream) {
                    stream.record(now, lag_ms, rows);
                }
            }
        }
    }

    /// What was measured up to `now`.
    pub(crate) fn report(&mut self, now: Ts) -> LagReport {
        let streams = self.streams.iter_mut();
        LagReport {
            all: self.all.report(now),
            streams: streams.map(|(name, stream)| (name.clone(), stream.report(now))).collect(),
            unmeasured_rows: self.unmeasured_rows,
        }
    }
}

impl Waiting {
    /// When how many of the rows were written, the first one for itself: it waited longest.
    fn spread(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let (first_ns, span_ns, rows) =
            (self.first_ns, self.last_ns - self.first_ns, self.rows - 1);
        let step = move |step: u64| {
            let until = |step: u64| rows * step / STEPS;
            (first_ns + span_ns / STEPS * step, until(step) - until(step - 1))
        };
        std::iter::once((first_ns, 1)).chain((1..=STEPS).map(step)).filter(|&(_, rows)| rows > 0)
    }
}

impl Recorder {
    fn new(digits: u8) -> Self {
        Self {
            digits,
            total: histogram(digits),
            slices: VecDeque::with_capacity(SLICES),
            buckets: [0; BUCKETS_MS.len() + 1],
            sum_ms: 0,
        }
    }

    fn record(&mut self, now: Ts, lag_ms: u64, rows: u64) {
        self.forget_old(now);
        if self.slices.back().is_none_or(|slice| now.0 >= slice.begun_ns + SLICE_NS) {
            let rows = histogram(self.digits);
            self.slices.push_back(Slice { begun_ns: now.0, rows });
        }
        if let Some(slice) = self.slices.back_mut() {
            slice.rows.saturating_record_n(lag_ms, rows);
        }
        self.total.saturating_record_n(lag_ms, rows);
        let bucket = BUCKETS_MS.partition_point(|&bound_ms| bound_ms < lag_ms);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += rows;
        }
        self.sum_ms = self.sum_ms.saturating_add(lag_ms.saturating_mul(rows));
    }

    fn report(&mut self, now: Ts) -> StreamLag {
        self.forget_old(now);
        let mut window = histogram(self.digits);
        for slice in &self.slices {
            // Of the same bounds and digits, so that there is a place for each.
            if let Err(error) = window.add(&slice.rows) {
                tracing::error!(%error, "log lag of a slice is left out");
            }
        }
        let (last_minute, total) = (figures(&window), figures(&self.total));
        StreamLag { last_minute, total, buckets: self.buckets, sum_ms: self.sum_ms }
    }

    /// Slices go when a minute is over since they began; all do when the clock was set back.
    fn forget_old(&mut self, now: Ts) {
        let window_ns = SLICE_NS * SLICES as u64;
        self.slices.retain(|slice| now.0 >= slice.begun_ns && now.0 - slice.begun_ns < window_ns);
    }
}

#[allow(clippy::expect_used, reason = "constants, see inside")]
fn histogram(digits: u8) -> Histogram<u64> {
    // The library takes bounds from 1 to at least twice that, and digits from 0 to 5.
    Histogram::new_with_bounds(1, LAG_MS_MAX, digits).expect("constants that it takes")
}

fn figures(rows: &Histogram<u64>) -> LagFigures {
    LagFigures {
        rows: rows.len(),
        p50_ms: rows.value_at_quantile(0.5),
        p99_ms: rows.value_at_quantile(0.99),
        max_ms: rows.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::RowTimes;

    const MS: u64 = NANOS / 1_000;

    fn batch(stream: &str, rows: u32, first_ms: u64, last_ms: u64) -> Batch {
        Batch {
            node: "worker-1".into(),
            epoch: 1,
            stream: stream.into(),
            fingerprint: 0,
            first_seq: 0,
            rows,
            payload: bytes::Bytes::new(),
            crc32: 0,
            times: RowTimes { first_ns: first_ms * MS, last_ns: last_ms * MS },
        }
    }

    fn measured(batches: &[Batch], now_ms: u64) -> LagMeter {
        let mut meter = LagMeter::new();
        for batch in batches {
            meter.taken(batch, u64::from(batch.rows));
        }
        meter.committed(Ts(now_ms * MS));
        meter
    }

    #[test]
    fn rows_are_measured_from_the_packet_to_the_commit() {
        let batches = [batch("conn", 100, 1_000, 1_000), batch("dns", 1, 500, 500)];
        let report = measured(&batches, 1_100).report(Ts(1_100 * MS));
        let LagFigures { rows, p50_ms, p99_ms, max_ms } = report.all.last_minute;
        assert_eq!((rows, report.all.total.rows), (101, 101));
        assert!((100..=101).contains(&p50_ms) && (100..=101).contains(&p99_ms), "{p50_ms}");
        assert!((600..=604).contains(&max_ms), "{max_ms}");
        assert_eq!(report.all.sum_ms, 100 * 100 + 600);
        let streams: Vec<_> =
            report.streams.iter().map(|(s, lag)| (&**s, lag.total.rows)).collect();
        assert_eq!(streams, [("conn", 100), ("dns", 1)]);
    }

    #[test]
    fn rows_of_a_batch_are_spread_over_its_time() {
        let report = measured(&[batch("conn", 401, 1_000, 1_400)], 1_400).report(Ts(1_400 * MS));
        let LagFigures { rows, p50_ms, max_ms, .. } = report.all.total;
        assert_eq!(rows, 401);
        assert!(
            (150..=210).contains(&p50_ms) && (400..=404).contains(&max_ms),
            "{p50_ms} {max_ms}"
        );
        assert_eq!(report.all.buckets[..5], [100, 100, 100, 101, 0]);
    }

    #[test]
    fn a_minute_later_only_the_total_knows_of_it() {
        let mut meter = measured(&[batch("conn", 7, 1_000, 1_000)], 2_000);
        assert_eq!(meter.report(Ts(61_999 * MS)).all.last_minute.rows, 7);
        let report = meter.report(Ts(62_000 * MS));
        assert_eq!((report.all.last_minute, report.all.total.rows), (LagFigures::default(), 7));
        // A clock that was set back leaves nothing behind in the window.
        meter.taken(&batch("conn", 1, 1_000, 1_000), 1);
        meter.committed(Ts(50_000 * MS));
        assert_eq!(meter.report(Ts(40_000 * MS)).all.last_minute.rows, 0);
    }

    #[test]
    fn rows_without_a_time_or_of_another_year_are_counted_and_not_measured() {
        let year_ms = 365 * 24 * 3_600_000;
        let batches = [batch("conn", 5, 0, 0), batch("conn", 6, 1_000, 1_000)];
        let mut meter = measured(&batches, year_ms);
        let report = meter.report(Ts(year_ms * MS));
        assert_eq!((report.unmeasured_rows, report.all.total.rows), (11, 0));
        assert!(report.streams.is_empty());
    }

    #[test]
    fn a_packet_from_the_future_took_no_time() {
        let report = measured(&[batch("conn", 3, 9_000, 9_500)], 8_000).report(Ts(8_000 * MS));
        assert_eq!((report.all.total.rows, report.all.total.max_ms), (3, 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut meter = LagMeter::new();
        for n in 0..WAITING_MAX + 5 {
            meter.taken(&batch(&format!("s{n}"), 1, 1_000, 1_000), 1);
        }
        meter.committed(Ts(2_000 * MS));
        let report = meter.report(Ts(2_000 * MS));
        assert_eq!(report.streams.len(), STREAMS_MAX);
        assert_eq!((report.all.total.rows, report.unmeasured_rows), (WAITING_MAX as u64, 5));
    }
}
