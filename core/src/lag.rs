//! Log lag as it is reported: how long rows took from the packet that made them until their log
//! file was synced. Measured in `core/writer/src/lag.rs`.

use std::sync::Arc;

/// Upper bounds of the buckets in reports, milliseconds; behind them one without a bound.
pub const BUCKETS_MS: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000,
    86_400_000,
];

/// Figures of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LagFigures {
    /// Rows that were measured.
    pub rows: u64,
    /// Half of them took no longer, milliseconds.
    pub p50_ms: u64,
    /// 99 % of them took no longer, milliseconds.
    pub p99_ms: u64,
    /// The slowest, milliseconds.
    pub max_ms: u64,
}

/// The lag of one log stream, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamLag {
    /// Of the last minute.
    pub last_minute: LagFigures,
    /// Since the start.
    pub total: LagFigures,
    /// Rows since the start per bound of [`BUCKETS_MS`], and those beyond the last one.
    pub buckets: [u64; BUCKETS_MS.len() + 1],
    /// Sum over all rows since the start, milliseconds.
    pub sum_ms: u64,
}

/// The lag of a log store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LagReport {
    /// Of all log streams together.
    pub all: StreamLag,
    /// By log stream.
    pub streams: Vec<(Arc<str>, StreamLag)>,
    /// Rows without a time that is of use, since the start.
    pub unmeasured_rows: u64,
}
