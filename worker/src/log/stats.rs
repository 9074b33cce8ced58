//! `stats.log`: what the worker did and holds, every five minutes (Zeek: misc/stats). Columns of
//! what this worker does not have, such as Zeek's event queue, are there and unset.

use std::fs::File;
use std::os::unix::fs::FileExt;

use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};

use crate::output::Output;
use crate::stats::PipelineStats;

/// Time between two reports, seconds (Zeek: `report_interval`).
const INTERVAL_S: u64 = 300;
/// Bytes of a page.
const PAGE_BYTES: u64 = 4096;

/// One report.
#[derive(Debug, LogRecord)]
#[log(stream = "stats")]
pub struct StatsLog {
    /// When it was made.
    pub ts: Ts,
    /// The node.
    pub peer: String,
    /// Memory in use, MiB.
    pub mem: u64,
    /// Packets analysed since the last report.
    pub pkts_proc: u64,
    /// Bytes received since the last report.
    pub bytes_recv: u64,
    /// Packets that found the ring full since the last report; live only.
    pub pkts_dropped: Option<u64>,
    /// Packets that the interface had for us since the last report; live only.
    pub pkts_link: Option<u64>,
    /// How far packet time is behind the clock; live only.
    pub pkt_lag: Option<Interval>,
    /// Packets that a filter kept away: the kernel does, and does not count them.
    pub pkts_filtered: Option<u64>,
    /// Zeek's events; there are none here.
    pub events_proc: Option<u64>,
    /// Zeek's events; there are none here.
    pub events_queued: Option<u64>,
    /// TCP connections open.
    pub active_tcp_conns: u64,
    /// UDP flows open.
    pub active_udp_conns: u64,
    /// ICMP flows open.
    pub active_icmp_conns: u64,
    /// TCP connections begun since the last report.
    pub tcp_conns: u64,
    /// UDP flows begun since the last report.
    pub udp_conns: u64,
    /// ICMP flows begun since the last report.
    pub icmp_conns: u64,
    /// Timers set; here a connection has one place for all of its.
    pub timers: Option<u64>,
    /// Timers that wait: one per connection.
    pub active_timers: u64,
    /// Files begun since the last report.
    pub files: u64,
    /// Files open.
    pub active_files: u64,
    /// Zeek's own DNS requests; there are none here.
    pub dns_requests: Option<u64>,
    /// Zeek's own DNS requests; there are none here.
    pub active_dns_requests: Option<u64>,
    /// Bytes of TCP streams that wait for others before them.
    pub reassem_tcp_size: u64,
    /// Bytes of files that wait for others before them.
    pub reassem_file_size: u64,
    /// Bytes of IP fragments that wait for others.
    pub reassem_frag_size: u64,
    /// Bytes of others; there are none here.
    pub reassem_unknown_size: Option<u64>,
}

/// What the capture knows, for the report of a live worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCapture {
    /// Packets that found the ring full.
    pub dropped_packets: u64,
    /// Packets that the interface had for us.
    pub link_packets: u64,
    /// How far packet time is behind the clock.
    pub lag: Interval,
}

/// What the report is made of.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    pipeline: PipelineStats,
    live: Option<LiveCapture>,
}

/// Reports at intervals of packet time.
#[derive(Debug)]
pub struct StatsReports {
    due: Option<Ts>,
    last: Seen,
    /// Where the system tells our memory, opened before the worker confines itself.
    memory: Option<File>,
    /// What the capture told last; none when there is none.
    live: Option<LiveCapture>,
}

impl Default for StatsReports {
    fn default() -> Self {
        let memory = File::open("/proc/self/statm").ok();
        Self { due: None, last: Seen::default(), memory, live: None }
    }
}

impl StatsReports {
    /// What the capture counted up to now. It counts on over all lives of a worker: the first
    /// report is of what came since this one began.
    pub fn counted(&mut self, live: LiveCapture) {
        self.last.live.get_or_insert(live);
        self.live = Some(live);
    }

    /// Whether it is time for a report.
    pub fn is_due(&mut self, now: Ts) -> bool {
        let due = *self.due.get_or_insert_with(|| now.plus_secs(INTERVAL_S));
        now >= due
    }

    /// Makes a report.
    pub fn report(&mut self, now: Ts, stats: &PipelineStats, peer: &str, out: &mut Output) {
        let before = std::mem::replace(&mut self.last, Seen { pipeline: *stats, live: self.live });
        let old = before.pipeline;
        let [tcp, udp, icmp] = stats.flows_by_kind;
        let [old_tcp, old_udp, old_icmp] = old.flows_by_kind;
        let [active_tcp_conns, active_udp_conns, active_icmp_conns] = stats.flows_open_by_kind;
        let was = before.live.unwrap_or_default();
        out.row(&StatsLog {
            ts: now,
            peer: peer.to_owned(),
            mem: self.resident_bytes() >> 20,
            pkts_proc: stats.packets - old.packets,
            bytes_recv: stats.wire_bytes - old.wire_bytes,
            pkts_dropped: self.live.map(|live| live.dropped_packets - was.dropped_packets),
            pkts_link: self.live.map(|live| live.link_packets - was.link_packets),
            pkt_lag: self.live.map(|live| live.lag),
            pkts_filtered: None,
            events_proc: None,
            events_queued: None,
            active_tcp_conns,
            active_udp_conns,
            active_icmp_conns,
            tcp_conns: tcp - old_tcp,
            udp_conns: udp - old_udp,
            icmp_conns: icmp - old_icmp,
            timers: None,
            active_timers: stats.flows_open,
            files: stats.files.begun - old.files.begun,
            active_files: stats.files.open,
            dns_requests: None,
            active_dns_requests: None,
            reassem_tcp_size: stats.beyond_bytes,
            reassem_file_size: stats.files.waiting_bytes,
            reassem_frag_size: stats.fragment_bytes,
            reassem_unknown_size: None,
        });
        self.due = Some(now.plus_secs(INTERVAL_S));
    }

    /// Memory of this process that is in use, bytes; 0 where the system does not say.
    fn resident_bytes(&self) -> u64 {
        let mut text = [0; 128];
        let len = self.memory.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let text = text.get(..len.unwrap_or(0)).unwrap_or_default();
        let mut words = text.split(|byte| *byte == b' ');
        let pages = words.nth(1).and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        pages.unwrap_or(0_u64) * PAGE_BYTES
    }
}
