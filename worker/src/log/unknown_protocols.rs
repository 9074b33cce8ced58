//! `unknown_protocols.log`: what layers below TCP and UDP name that no analyzer knows. Written
//! when asked for; of what comes often, samples.

use std::collections::BTreeMap;

use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::{Interval, Ts};

use crate::analyzer::state::Shared;
use crate::decode::link::Path;
use crate::output::Output;

/// Of one protocol, so many are told before it is sampled (Zeek:
/// `UnknownProtocol::sampling_threshold`, which tells one less than it says).
const SAMPLING_THRESHOLD: u64 = 3;
/// Of those above the threshold, one in so many is told (`sampling_rate`).
const SAMPLING_RATE: u64 = 100_000;
/// Sampling begins anew after this, seconds (`sampling_duration`).
const SAMPLING_DURATION_S: i64 = 3600;
/// Bytes that are told (`first_bytes_count`).
const FIRST_BYTES: usize = 10;
/// Protocols that are counted. Further ones are not told.
const PROTOCOLS_MAX: usize = 4096;

/// A protocol that no analyzer knows.
#[derive(Debug, LogRecord)]
#[log(stream = "unknown_protocols")]
pub struct UnknownProtocolsLog {
    /// When it was seen.
    pub ts: Ts,
    /// The layer that names it.
    pub analyzer: &'static str,
    /// Its number, hexadecimal.
    pub protocol_id: String,
    /// The first bytes of it, hexadecimal.
    pub first_bytes: String,
    /// The layers that led to it, the outermost first.
    pub analyzer_history: Vector<&'static str>,
}

/// Counts unknown protocols, by layer and number.
#[derive(Debug, Default)]
pub struct UnknownProtocols {
    seen: BTreeMap<(&'static str, u64), (u64, Ts)>,
}

impl UnknownProtocols {
    /// Counts one more; whether it is told.
    fn is_told(&mut self, layer: &'static str, protocol: u64, now: Ts) -> bool {
        if self.seen.len() >= PROTOCOLS_MAX && !self.seen.contains_key(&(layer, protocol)) {
            return false;
        }
        let (count, since) = self.seen.entry((layer, protocol)).or_insert((0, now));
        if now.since(*since) >= Interval::from_secs(SAMPLING_DURATION_S) {
            (*count, *since) = (0, now);
        }
        *count += 1;
        *count < SAMPLING_THRESHOLD || (*count - SAMPLING_THRESHOLD).is_multiple_of(SAMPLING_RATE)
    }
}

impl Shared {
    /// The last layer of `path` names `protocol`, of which `bytes` are there.
    pub(crate) fn unknown_protocol(
        &mut self,
        now: Ts,
        path: &Path,
        protocol: u64,
        bytes: &[u8],
        out: &mut Output,
    ) {
        let Some(analyzer) = path.names().next_back() else { return };
        if !self.config.unknown_protocols
            || !self.unknown_protocols.is_told(analyzer, protocol, now)
        {
            return;
        }
        let first_bytes = bytes.iter().take(FIRST_BYTES).map(|byte| format!("{byte:02x}"));
        out.row(&UnknownProtocolsLog {
            ts: now,
            analyzer,
            protocol_id: format!("{protocol:#x}"),
            first_bytes: first_bytes.collect(),
            analyzer_history: Vector(path.names().collect()),
        });
    }
}
