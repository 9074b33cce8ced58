//! How delivery of rows is bounded, as a worker gets it.

use serde::{Deserialize, Serialize};

/// What the sensor says of itself, then what other streams tell in part too.
const SPOOL_DROP_FIRST: &str = "stats capture_loss unknown_protocols weird analyzer files x509";

/// Bounds of delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShipConfig {
    /// Rows of a log stream that travel together at most.
    pub batch_rows_max: u32,
    /// How long a row may wait for its batch to fill, milliseconds.
    pub batch_interval_ms: u64,
    /// Size of the spool of unacked rows, bytes; past it rows are dropped, counted: the oldest
    /// of the first stream in `spool_drop_first` that has any.
    pub spool_bytes_max: u64,
    /// Unsent rows older than this are dropped, counted, seconds; 0 never.
    #[serde(default)]
    pub spool_age_max_s: u64,
    /// Log streams that a full spool drops first, in this order; then all others but notice
    /// and conn, which go last.
    #[serde(default = "spool_drop_first")]
    pub spool_drop_first: Vec<String>,
    /// A batch whose logger has been away for so long is copied to another one, marked as in
    /// doubt, seconds; 0 never.
    #[serde(default = "doubt_timeout_s")]
    pub doubt_timeout_s: u64,
}

impl Default for ShipConfig {
    fn default() -> Self {
        Self {
            batch_rows_max: 1000,
            batch_interval_ms: 200,
            spool_bytes_max: 1 << 30,
            spool_age_max_s: 0,
            spool_drop_first: spool_drop_first(),
            doubt_timeout_s: doubt_timeout_s(),
        }
    }
}

fn spool_drop_first() -> Vec<String> {
    SPOOL_DROP_FIRST.split(' ').map(str::to_owned).collect()
}

const fn doubt_timeout_s() -> u64 {
    60
}
