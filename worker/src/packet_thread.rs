//! The packet thread of a live node: one OS thread that owns ring, pipeline and output. It
//! waits for packets, for [`IDLE_AFTER`] at most, so that timers fire, rows go out and a wish to
//! stop is heard on a silent link too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing::{error, info, warn};
use tyto_core::time::Ts;
use tyto_daemon::health;
use tyto_proto::v1::Counter;

use crate::log::stats::LiveCapture;
use crate::pipeline::Pipeline;
use crate::stats::PipelineStats;
use tyto_capture::account::Account;
use tyto_capture::live::{AfPacket, CaptureStats, LiveError};

/// How long to wait for a packet before time passes without one.
const IDLE_AFTER: Duration = Duration::from_millis(100);
/// Time between two looks at the interface's name.
const INTERFACE_LOOK: Duration = Duration::from_secs(1);
/// Packets analysed between two looks at timers, counters and the wish to stop.
const TURN_PACKETS_MAX: u32 = 1024;

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct PacketThread {
    pub(crate) capture: AfPacket,
    pub(crate) pipeline: Pipeline,
    /// Set from outside: finish and return.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) interface: InterfaceWatch,
    /// Where it counts what a kill would cost.
    pub(crate) account: Option<Account>,
}

/// What was seen of the interface's name: the capture goes by its number.
#[derive(Debug, Default)]
pub(crate) struct InterfaceWatch {
    looked: Option<Instant>,
    renamed: Option<String>,
}

impl PacketThread {
    /// Captures and analyses until told to stop, then logs what is still open.
    ///
    /// # Errors
    /// When the interface is gone or broken, or the last rows could not be handed on. What
    /// came before is logged all the same.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let captured = self.capture_until_stop();
        if captured.is_err() {
            // What came before the fault counts, also in a block that was not full.
            std::thread::sleep(self.capture.handover_lag());
            while self.turn(Ts(u64::MAX)).is_some() {}
        }
        self.pipeline.hear_last();
        let finished = self.pipeline.finish().context("the last rows could not be handed on");
        let published = self.publish();
        self.count_open(0);
        match captured.and(published).context("capture broke off") {
            Ok(()) => info!(packets = finished?.packets, "capture ended"),
            Err(broken) => {
                if let Err(error) = finished {
                    error!(error = %format!("{error:#}"), "rows lost at the end of capture");
                }
                return Err(broken);
            }
        }
        Ok(())
    }

    fn capture_until_stop(&mut self) -> Result<(), LiveError> {
        while !self.stop.load(Ordering::Relaxed) {
            self.pipeline.ring_fill(self.capture.ring_fill_percent());
            self.pipeline.hear();
            let latest = self.turn(Ts(u64::MAX));
            // Nothing waits any more: time passes as the capture's clock says. Packets that
            // the kernel has not handed over yet are younger than that.
            let passed = match latest {
                None if !self.capture.wait(IDLE_AFTER)? => Some(self.capture.drained_until()),
                latest => latest,
            };
            if let Some(now) = passed {
                self.pipeline.idle(now);
            }
            self.look_at_interface()?;
            self.publish()?;
        }
        self.drain()
    }

    /// Analyses what waits in the ring, but [`TURN_PACKETS_MAX`] packets at most, and none
    /// after one that is younger than `until`. Returns the time of the last one, if any.
    fn turn(&mut self, until: Ts) -> Option<Ts> {
        let mut latest = None;
        for _ in 0..TURN_PACKETS_MAX {
            if latest > Some(until) {
                break;
            }
            self.pipeline.look_ahead(&self.capture);
            let Some(frame) = self.capture.poll_frame() else { break };
            latest = Some(frame.ts);
            self.pipeline.packet(&frame);
        }
        latest
    }

    /// Analyses what came before the wish to stop and is still in the ring, or in the block
    /// that the kernel fills.
    fn drain(&mut self) -> Result<(), LiveError> {
        let until = self.capture.now();
        while self.capture.drained_until() <= until {
            if self.turn(until) > Some(until) {
                return Ok(());
            }
            self.capture.wait(IDLE_AFTER / 10)?;
        }
        Ok(())
    }

    /// Notices that the interface was renamed, which is told once, or removed.
    fn look_at_interface(&mut self) -> Result<(), LiveError> {
        if self.interface.looked.is_some_and(|looked| looked.elapsed() < INTERFACE_LOOK) {
            return Ok(());
        }
        self.interface.looked = Some(Instant::now());
        let renamed = self.capture.renamed()?;
        if renamed != self.interface.renamed {
            if let Some(name) = &renamed {
                warn!(iface = name, "the interface was renamed; capturing it all the same");
            }
            self.interface.renamed = renamed;
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<(), LiveError> {
        let capture = self.capture.statistics()?;
        self.pipeline.capture_counted(LiveCapture {
            dropped_packets: capture.dropped_packets,
            link_packets: capture.link_packets,
            lag: self.capture.now().since(self.pipeline.now()),
        });
        let pipeline = self.pipeline.stats();
        self.gauges.publish(&capture, &pipeline);
        self.count_open(pipeline.flows_open);
        Ok(())
    }

    fn count_open(&self, flows: u64) {
        if let Some(account) = &self.account {
            account.set_flows(flows);
        }
    }
}

/// Counters of the packet thread, for the reports: it writes them, others read.
#[derive(Debug)]
pub(crate) struct Gauges {
    values: [AtomicU64; GAUGES.len()],
    turns: AtomicU64,
}

/// Grows with each turn of the thread, several times a second on a silent link too: the
/// supervisor takes a node that reports and whose `_turns` stand still for hung.
const TURNS: &str = "packet_thread_turns";

/// Where a counter's value comes from.
type Read = fn(&CaptureStats, &PipelineStats) -> u64;

/// What is reported: name and value.
const GAUGES: [(&str, Read); 36] = [
    ("packets_received", |capture, _| capture.received_packets),
    ("bytes_received", |capture, _| capture.received_bytes),
    ("packets_link", |capture, _| capture.link_packets),
    ("packets_dropped", |capture, _| capture.dropped_packets),
    ("ring_freezes", |capture, _| capture.ring_freezes),
    ("packets_truncated", |capture, _| capture.truncated_packets),
    ("packets_malformed", |capture, _| capture.malformed_packets),
    ("interface_downs", |capture, _| capture.interface_downs),
    ("packets_card_time", |capture, _| capture.card_time_packets),
    ("packets_analysed", |_, pipeline| pipeline.packets),
    ("packets_empty", |_, pipeline| pipeline.empty),
    ("packets_unread", |_, pipeline| pipeline.unread),
    ("packets_bad_checksum", |_, pipeline| pipeline.bad_checksums),
    ("flows", |_, pipeline| pipeline.flows),
    ("flows_active", |_, pipeline| pipeline.flows_open),
    ("flows_evicted", |_, pipeline| pipeline.flows_evicted),
    ("streams_given_up", |_, pipeline| pipeline.streams_given_up),
    ("stream_bytes_waiting", |_, pipeline| pipeline.beyond_bytes),
    ("fragments_dropped", |_, pipeline| pipeline.fragments.dropped),
    ("analyzers_refused", |_, pipeline| pipeline.analyzers_refused),
    ("dhcp_rows_early", |_, pipeline| pipeline.dhcp_rows_early),
    ("files_refused", |_, pipeline| pipeline.files.refused),
    ("files_flushed", |_, pipeline| pipeline.files.flushed),
    ("extracted_bytes_lost", |_, pipeline| pipeline.files.extracted_lost_bytes),
    ("table_entries_forgotten", |_, pipeline| pipeline.forgotten),
    ("conns_announced", |_, pipeline| pipeline.notes.announced.announced),
    ("conns_announced_met", |_, pipeline| pipeline.notes.announced.met),
    ("conns_announced_late", |_, pipeline| pipeline.notes.late.joined),
    ("conns_announced_too_late", |_, pipeline| pipeline.notes.late.missed),
    ("late_conns_refused", |_, pipeline| pipeline.notes.late.refused),
    ("notes_dropped", |_, pipeline| pipeline.notes.notes.dropped),
    ("shed_level", |_, pipeline| pipeline.shed.level as u64),
    ("shed_levels_raised", |_, pipeline| pipeline.shed.raised),
    ("shed_undetected", |_, pipeline| pipeline.shed.undetected),
    ("shed_cut_short", |_, pipeline| pipeline.shed.cut_short),
    ("shed_unanalysed", |_, pipeline| pipeline.shed.unanalysed),
];

impl Default for Gauges {
    fn default() -> Self {
        Self { values: std::array::from_fn(|_| AtomicU64::new(0)), turns: AtomicU64::new(0) }
    }
}

impl Gauges {
    fn publish(&self, capture: &CaptureStats, pipeline: &PipelineStats) {
        for (value, (_, read)) in self.values.iter().zip(GAUGES) {
            value.store(read(capture, pipeline), Ordering::Relaxed);
        }
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters as they were published last.
    pub(crate) fn report(&self) -> Vec<Counter> {
        let values = self.values.iter().zip(GAUGES);
        let counters =
            values.map(|(v, (name, _))| health::counter(name, v.load(Ordering::Relaxed)));
        // A node without an interface has no packet thread, and so nothing that has to turn.
        let turns = Some(self.turns.load(Ordering::Relaxed)).filter(|turns| *turns > 0);
        counters.chain(turns.map(|turns| health::counter(TURNS, turns))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_reported_from_the_first_one_on() {
        let gauges = Gauges::default();
        let turns = |gauges: &Gauges| {
            let report = gauges.report();
            report.iter().find(|counter| counter.name == TURNS).map(|counter| counter.value)
        };
        assert_eq!(turns(&gauges), None, "idle");
        for _ in 0..2 {
            gauges.publish(&CaptureStats::default(), &PipelineStats::default());
        }
        assert_eq!(turns(&gauges), Some(2));
    }
}
