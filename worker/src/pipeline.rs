//! The packet thread, top to bottom: packets in, rows out. One [`Pipeline`] belongs to one
//! thread; it never waits, locks, or asks what time it is: packet time drives everything.

use std::io;

use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::time::Ts;

use crate::capture::{CaptureError, Frame, LinkType, Next, PacketSource};
use crate::output::Output;

/// What a pipeline has seen and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Packets taken from the source.
    pub packets: u64,
    /// Their bytes on the wire.
    pub wire_bytes: u64,
}

/// The analysis of one packet source.
#[derive(Debug)]
pub struct Pipeline {
    output: Output,
    stats: PipelineStats,
    /// Time of the latest packet; never goes back.
    now: Ts,
}

impl Pipeline {
    /// A pipeline whose uids depend on `uid_seed` and the packets alone.
    pub fn new(_config: &AnalysisConfig, _uid_seed: u64, output: Output) -> Self {
        Self { output, stats: PipelineStats::default(), now: Ts(0) }
    }

    /// Takes everything that `source` has.
    ///
    /// # Errors
    /// When the source is broken; what came before is analysed.
    pub fn run(&mut self, source: &mut impl PacketSource) -> Result<(), CaptureError> {
        loop {
            match source.next_frame()? {
                Next::Frame(Frame { ts, bytes, wire_len, link_type }) => {
                    self.packet(ts, bytes, wire_len, link_type);
                }
                Next::Idle(now) => self.idle(now),
                Next::End => return Ok(()),
            }
        }
    }

    /// Analyses one packet.
    pub fn packet(&mut self, ts: Ts, frame: &[u8], wire_len: u32, _link_type: LinkType) {
        if frame.is_empty() || wire_len == 0 {
            return;
        }
        self.stats.packets += 1;
        self.stats.wire_bytes += u64::from(wire_len);
        self.now = self.now.max(ts);
    }

    /// Lets time pass without a packet: timers fire, rows that wait are handed on. May be
    /// called between packets too.
    pub fn idle(&mut self, now: Ts) {
        self.now = self.now.max(now);
        self.output.idle(self.now);
    }

    /// Writes the rows of all that is still open, and ends the output.
    ///
    /// # Errors
    /// When rows could not be written.
    pub fn finish(&mut self) -> io::Result<PipelineStats> {
        self.output.finish(self.now)?;
        Ok(self.stats)
    }

    /// What was seen and done so far.
    pub const fn stats(&self) -> PipelineStats {
        self.stats
    }
}
