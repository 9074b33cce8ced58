//! `capture_loss.log`: how much of the traffic did not come here, as acknowledgements tell: one
//! that asks for what follows on bytes that never passed is a gap (Zeek: misc/capture-loss).

use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};

use crate::output::Output;
use crate::reassembly::StreamTotals;

/// Time from the begin to the first measurement, seconds (Zeek: `initial_watch_interval`).
const FIRST_S: u64 = 60;
/// Time between two measurements, seconds (Zeek: `watch_interval`).
const INTERVAL_S: u64 = 900;

/// One measurement.
#[derive(Debug, LogRecord)]
#[log(stream = "capture_loss")]
pub struct CaptureLossLog {
    /// When it was made.
    pub ts: Ts,
    /// Time since the one before.
    pub ts_delta: Interval,
    /// The node that measured.
    pub peer: String,
    /// Acknowledgements of bytes that never passed here.
    pub gaps: u64,
    /// All acknowledgements that told something new.
    pub acks: u64,
    /// The share of the former in the latter.
    pub percent_lost: f64,
}

/// Measures at intervals of packet time.
#[derive(Debug, Default)]
pub struct CaptureLoss {
    /// The next measurement, once time was seen.
    due: Option<Ts>,
    last: Ts,
    seen: StreamTotals,
}

impl CaptureLoss {
    /// Measures when it is time to.
    pub fn tick(&mut self, now: Ts, totals: &StreamTotals, peer: &str, out: &mut Output) {
        match self.due {
            None => {
                self.due = Some(now.plus_secs(FIRST_S));
                self.last = now;
                return;
            }
            Some(due) if now < due => return,
            Some(_) => {}
        }
        let (acks, gaps) = (totals.acks - self.seen.acks, totals.gaps - self.seen.gaps);
        #[allow(clippy::cast_precision_loss, reason = "counts of fifteen minutes")]
        let percent_lost = if acks == 0 { 0.0 } else { 100.0 * gaps as f64 / acks as f64 };
        let ts_delta = now.since(self.last);
        out.row(&CaptureLossLog {
            ts: now,
            ts_delta,
            peer: peer.to_owned(),
            gaps,
            acks,
            percent_lost,
        });
        (self.last, self.seen) = (now, *totals);
        self.due = Some(now.plus_secs(INTERVAL_S));
    }
}
