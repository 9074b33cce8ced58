//! The packet thread, top to bottom: packets in, rows out. One [`Pipeline`] belongs to one
//! thread; it never waits, locks, or asks what time it is: packet time drives everything.
//!
//! ```text
//! packet ─▶ timers that are due ─▶ link layers ─▶ IP ─▶ fragments ─▶ transport ─▶ flow
//!                                     ▲                                 │
//!                                     └───────────── tunnels ◀──────────┘
//! ```

use std::hash::BuildHasher;
use std::io;

use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::time::Ts;

use crate::analyzer::cx::Cx;
use crate::analyzer::stage::Stage;
use crate::analyzer::state::Shared;
use crate::capture::{CaptureError, Next, PacketSource};
use crate::decode::checksum;
use crate::decode::fragment::Fragments;
use crate::decode::ip::{IpFault, IpPacket, proto};
use crate::decode::ip_odd;
use crate::decode::link::{self, LinkFound};
use crate::file::FileIo;
use crate::flow::conn::{Conn, NEVER, Transport};
use crate::flow::encapsulation::{TUNNEL_DEPTH_MAX, TunnelKind, TunnelStack};
use crate::flow::hash::KeyedHasher;
use crate::flow::table::{FlowId, FlowTable};
use crate::flow::tcp::Expiry;
use crate::log::capture_loss::CaptureLoss;
use crate::log::conn::{ConnLog, ConnLogWithCommunityId};
use crate::log::stats::{LiveCapture, StatsReports};
use crate::log::tunnel::TunnelEnds;
use crate::log::weird::Weird;
use crate::lookahead::Lookahead;
use crate::output::Output;
use crate::reassembly::StreamTotals;
use crate::stats::PipelineStats;
use crate::tunnels::IpTunnels;
use crate::x509::TrustStore;
use tyto_capture::{Frame, LinkType};

/// Timers that fire before one packet at most (Zeek: `max_timer_expires`), so that a burst of
/// them does not hold the packets behind it; the rest fire before the next packets.
const TIMERS_PER_PACKET_MAX: usize = 300;

/// Time before the first packet: Zeek's clock, too, never shows less.
const BEGIN: Ts = Ts::new(1, 0);

/// The analysis of one packet source.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) ignore_checksums: bool,
    community_id: bool,
    pub(crate) flows: FlowTable,
    lookahead: Lookahead,
    fragments: Fragments,
    pub(crate) ip_tunnels: IpTunnels,
    /// The ends of the tunnels around the packet that is analysed, the outermost first.
    pub(crate) tunnel_ends: [TunnelEnds; TUNNEL_DEPTH_MAX],
    pub(crate) shared: Shared,
    pub(crate) output: Output,
    pub(crate) stats: PipelineStats,
    pub(crate) streams: StreamTotals,
    /// What the worker logs of itself; not of files, unless asked.
    reports: Option<Box<Reports>>,
    /// Time of the latest packet; never goes back.
    pub(crate) now: Ts,
}

/// Logs of the worker's own work.
#[derive(Debug, Default)]
struct Reports {
    capture_loss: CaptureLoss,
    stats: StatsReports,
}

/// What carries an IP packet: the frame, or the payload of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier {
    /// When the frame was captured.
    pub(crate) ts: Ts,
    /// Bytes captured.
    pub(crate) captured: usize,
    /// Bytes on the wire.
    pub(crate) wire_len: usize,
    /// The transport checksum need not be checked.
    pub(crate) checksum_good: bool,
    /// The tunnels around.
    pub(crate) tunnels: TunnelStack,
}

impl Pipeline {
    /// From now on servers' certificates are to lead into `store`.
    pub fn validate_against(&mut self, store: TrustStore) {
        self.shared.certificates.validate_against(store);
    }

    /// A pipeline whose uids and hash keys depend on `uid_seed` alone.
    pub fn new(config: &AnalysisConfig, uid_seed: u64, output: Output) -> Self {
        let hasher = KeyedHasher::with_seed(uid_seed);
        // Tables that an outsider may fill get keys of their own.
        let hasher_of = |table: u64| KeyedHasher::with_seed(hasher.hash_one(table));
        Self {
            ignore_checksums: config.ignore_checksums,
            community_id: config.community_id,
            flows: FlowTable::new(hasher_of(0), config.flows_max.0 as usize),
            lookahead: Lookahead::default(),
            fragments: Fragments::new(hasher_of(1)),
            ip_tunnels: IpTunnels::new(hasher_of(2)),
            tunnel_ends: Default::default(),
            shared: Shared::new(config, uid_seed, hasher_of),
            output,
            stats: PipelineStats::default(),
            streams: StreamTotals::default(),
            reports: None,
            now: BEGIN,
        }
    }

    /// Takes everything that `source` has.
    ///
    /// # Errors
    /// When the source is broken; what came before is analysed.
    pub fn run(&mut self, source: &mut impl PacketSource) -> Result<(), CaptureError> {
        loop {
            self.look_ahead(source);
            match source.next_frame()? {
                Next::Frame(frame) => self.packet(&frame),
                Next::Idle(now) => self.idle(now),
                Next::End => return Ok(()),
            }
        }
    }

    /// Before each frame that is taken from `source`: prepares it and those behind it. May be left
    /// out: it costs time only.
    pub fn look_ahead(&mut self, source: &impl PacketSource) {
        self.flows.expect(self.lookahead.next(source, &self.flows));
    }

    /// Analyses one packet.
    pub fn packet(&mut self, frame: &Frame<'_>) {
        if frame.bytes.is_empty() || frame.wire_len == 0 {
            self.stats.empty += 1;
            return;
        }
        // Logs count microseconds: so does all that is compared.
        let ts = Ts(frame.ts.0 - frame.ts.0 % 1000);
        if self.stats.packets == 0 {
            self.output.begin(ts);
        }
        self.stats.packets += 1;
        self.stats.wire_bytes += u64::from(frame.wire_len);
        self.now = self.now.max(ts);
        self.fire_timers(TIMERS_PER_PACKET_MAX);
        let carrier = Carrier {
            ts,
            captured: frame.bytes.len(),
            wire_len: frame.wire_len as usize,
            checksum_good: frame.checksum_good,
            tunnels: TunnelStack::default(),
        };
        self.link_layer(&carrier, frame.link_type, frame.bytes);
    }

    /// Lets time pass without a packet: timers fire, rows that wait are handed on. May be
    /// called between packets too.
    pub fn idle(&mut self, now: Ts) {
        self.now = self.now.max(now);
        self.fire_timers(usize::MAX);
        self.output.idle(self.now);
    }

    /// Lets time pass up to a packet that another pipeline analyses.
    pub fn pass(&mut self, ts: Ts) {
        if self.stats.packets > 0 {
            self.now = self.now.max(Ts(ts.0 - ts.0 % 1000));
            self.fire_timers(TIMERS_PER_PACKET_MAX);
        }
    }

    /// Packet time.
    pub const fn now(&self) -> Ts {
        self.now
    }

    /// Writes capture_loss.log and stats.log from now on.
    pub fn report_itself(&mut self) {
        self.reports = Some(Box::default());
    }

    /// What the capture counted up to now, for stats.log.
    pub fn capture_counted(&mut self, live: LiveCapture) {
        if let Some(reports) = &mut self.reports {
            reports.stats.counted(live);
        }
    }

    /// The ring is filled to `percent`: decides what is analysed from now on.
    pub fn ring_fill(&mut self, percent: u8) {
        self.shared.shedding.ring_fill(percent);
    }

    /// Writes the rows of all that is still open, and ends the output.
    ///
    /// # Errors
    /// When rows could not be written.
    pub fn finish(&mut self) -> io::Result<PipelineStats> {
        self.shared.end_services();
        for id in self.flows.by_age() {
            self.end_flow(id);
        }
        self.shared.expire_services(self.now, &mut self.output);
        FileIo { now: self.now, shared: &mut self.shared, out: &mut self.output }.finish();
        self.shared.dhcp.end(&mut self.output);
        self.output.finish(self.now)?;
        Ok(self.stats())
    }

    /// What was seen and done so far.
    pub fn stats(&self) -> PipelineStats {
        PipelineStats {
            flows_open: self.flows.len() as u64,
            fragments: self.fragments.stats(),
            beyond_bytes: self.streams.beyond_bytes,
            fragment_bytes: self.fragments.bytes() as u64,
            shed: self.shared.shedding.stats,
            files: self.shared.files.stats(),
            analyzers_refused: self.shared.stats.analyzers_refused,
            dhcp_rows_early: self.shared.dhcp.forced(),
            notes: self.note_stats(),
            forgotten: self.shared.forgotten() + self.ip_tunnels.forgotten(),
            ..self.stats
        }
    }

    /// Finds the IP packets in `frame`, which is all that `carrier` captured.
    pub(crate) fn link_layer(&mut self, carrier: &Carrier, link_type: LinkType, frame: &[u8]) {
        link::ip_packets(link_type, frame, |found| match found {
            LinkFound::Ip(packet) => {
                let offset = packet.as_ptr().addr() - frame.as_ptr().addr();
                self.ip(carrier, offset, packet);
            }
            LinkFound::Odd(name, addl, layer) => {
                self.odd(carrier, None, &Weird::new(name).with(addl).from(layer));
            }
            LinkFound::Unknown(path, protocol, bytes) => {
                self.shared.unknown_protocol(self.now, &path, protocol, bytes, &mut self.output);
            }
        });
    }

    /// Takes what should be an IP packet, `offset` bytes into its carrier.
    pub(crate) fn ip(&mut self, carrier: &Carrier, offset: usize, bytes: &[u8]) {
        if let Err(fault) = self.try_ip(carrier, offset, bytes) {
            self.stats.unread += 1;
            self.odd(carrier, None, &Weird::of_ip(fault.name()));
        }
    }

    /// Something odd in a packet, between the ends of `packet` where its header was read.
    #[cold]
    pub(crate) fn odd(
        &mut self,
        carrier: &Carrier,
        packet: Option<&IpPacket<'_>>,
        weird: &Weird<'_>,
    ) {
        let weird = Weird { in_tunnel: !carrier.tunnels.is_empty(), ..*weird };
        let (now, out) = (self.now, &mut self.output);
        match packet {
            Some(packet) => {
                self.shared.weird_of_pair(now, (packet.src, packet.dst), &weird, out);
            }
            None => self.shared.weird_of_nobody(now, &weird, out),
        }
    }

    /// Tells what is odd in the extension headers of an IPv6 packet.
    #[cold]
    fn odd_headers(&mut self, bytes: &[u8]) {
        let (now, shared, out) = (self.now, &mut self.shared, &mut self.output);
        ip_odd::look(bytes, |odd| {
            let number = odd.number.map(|number| number.to_string()).unwrap_or_default();
            let weird = Weird::new(odd.name).with(&number);
            shared.weird_of_pair(now, (odd.src, odd.dst), &weird, out);
        });
    }

    /// Tells what was odd about the fragment `packet`.
    #[cold]
    fn odd_fragment(&mut self, packet: &IpPacket<'_>) {
        for name in self.fragments.odd() {
            let ends = (packet.src, packet.dst);
            self.shared.weird_of_pair(self.now, ends, &Weird::new(name), &mut self.output);
        }
    }

    fn try_ip(&mut self, carrier: &Carrier, offset: usize, bytes: &[u8]) -> Result<(), IpFault> {
        let packet = IpPacket::parse(bytes)?;
        if !packet.is_v4 && ip_odd::has_extensions(bytes) {
            self.odd_headers(bytes);
        }
        if packet.total_len == 0 && self.ignore_checksums {
            self.odd(carrier, None, &Weird::of_ip(IpFault::ZeroLength.name()));
        }
        // Offload leaves lengths and checksums empty: who ignores the one copes with the other.
        packet.check(carrier.wire_len.saturating_sub(offset), self.ignore_checksums)?;
        if packet.is_v4 && !self.ignore_checksums && !checksum::is_valid(packet.header()) {
            self.stats.bad_checksums += 1;
            self.odd(carrier, Some(&packet), &Weird::of_ip("bad_IP_checksum"));
            return Ok(());
        }
        let Some(fragment) = packet.fragment else {
            self.transport(carrier, &packet);
            return Ok(());
        };
        if bytes.len() < packet.total_len as usize {
            self.odd(carrier, Some(&packet), &Weird::of_ip("incompletely_captured_fragment"));
            // Cut: nothing to put together. The first still tells what it belongs to.
            if fragment.offset == 0 {
                self.transport(carrier, &packet);
            }
            return Ok(());
        }
        let whole = self.fragments.add(carrier.ts, &packet);
        if !self.fragments.odd().is_empty() {
            self.odd_fragment(&packet);
        }
        let Some(whole) = whole else { return Ok(()) };
        let whole = IpPacket::parse(&whole)?;
        if u32::from(whole.hdr_len) > whole.total_len {
            self.stats.unread += 1;
            self.odd(carrier, Some(&whole), &Weird::of_ip(IpFault::HeaderSize.name()));
            return Ok(());
        }
        let len = whole.total_len as usize + offset;
        self.transport(&Carrier { captured: len, wire_len: len, ..*carrier }, &whole);
        Ok(())
    }

    fn transport(&mut self, carrier: &Carrier, packet: &IpPacket<'_>) {
        if packet.is_opaque {
            if let Some(name) = ip_odd::of_opaque(packet, self.ignore_checksums) {
                self.odd(carrier, Some(packet), &Weird::of_ip(name));
            }
            return;
        }
        match packet.next_proto {
            proto::TCP => self.tcp(carrier, packet),
            proto::UDP => self.udp(carrier, packet),
            proto::ICMP | proto::ICMPV6 => self.icmp(carrier, packet),
            proto::IPV4 | proto::IPV6 => self.ip_in_ip(carrier, packet),
            proto::GRE => self.gre(carrier, packet, packet.payload()),
            proto::NONE => {
                // In Teredo it is a bubble, which keeps the tunnel open.
                let tunnel = carrier.tunnels.last().map(|tunnel| tunnel.kind);
                if tunnel != Some(TunnelKind::Teredo) {
                    self.odd(carrier, Some(packet), &Weird::of_ip("ipv6_no_next"));
                }
            }
            _ => self.unknown_transport(carrier, packet),
        }
    }

    /// Does what is due, up to `limit` connections.
    fn fire_timers(&mut self, limit: usize) {
        if self.reports.is_some() {
            self.report();
        }
        self.fragments.expire(self.now);
        FileIo { now: self.now, shared: &mut self.shared, out: &mut self.output }.expire();
        self.shared.expire_services(self.now, &mut self.output);
        if self.shared.dhcp.is_due(self.now) {
            self.shared.dhcp.look(self.now, &mut self.output);
        }
        self.shared.tunnels.expire(self.now, &mut self.output);
        let mut budget = limit;
        while let Some(id) = self.flows.pop_due(self.now, &mut budget) {
            let now = self.now;
            let is_over = self.flows.conn(id).is_some_and(|conn| is_over(conn, now));
            if is_over || self.wake(id) {
                self.end_flow(id);
            } else {
                self.flows.reschedule(id);
            }
        }
    }

    /// Writes what is due about the worker itself.
    fn report(&mut self) {
        let Some(mut reports) = self.reports.take() else { return };
        let peer = &self.shared.config.peer;
        reports.capture_loss.tick(self.now, &self.streams, peer, &mut self.output);
        if reports.stats.is_due(self.now) {
            let stats = self.stats();
            let peer = &self.shared.config.peer;
            reports.stats.report(self.now, &stats, peer, &mut self.output);
        }
        self.reports = Some(reports);
    }

    /// Calls the analyzers of a connection whose alarm rang. True when they end it.
    fn wake(&mut self, id: FlowId) -> bool {
        let Some(conn) = self.flows.conn(id) else { return false };
        if conn.core.timers.wake > self.now {
            return false;
        }
        conn.core.timers.wake = NEVER;
        let proto = conn.proto();
        let Conn { core, stage: Some(stage), .. } = conn else { return false };
        stage.wake(&mut Cx::new(self.now, core, proto, &mut self.shared, &mut self.output));
        core.wants_end
    }

    /// The connection is over: writes what its analyzers still hold, then its row.
    pub(crate) fn end_flow(&mut self, id: FlowId) {
        // In its place: a connection is large, and goes nowhere else.
        let Some(conn) = self.flows.conn(id) else { return };
        let (now, shared, output) = (self.now, &mut self.shared, &mut self.output);
        let (proto, at) = (conn.proto(), conn.proto_index());
        if let Some(mut stage) = conn.stage.take() {
            let mut cx = Cx::new(now, &mut conn.core, proto, shared, output);
            stage.end(&mut cx);
            cx.end_windows();
            *stage = Stage::deaf();
            shared.spare_stages.over(stage);
        }
        if let Some(open) = at.and_then(|at| self.stats.flows_open_by_kind.get_mut(at)) {
            *open -= 1;
        }
        if let Transport::Tcp(tcp) = &conn.transport {
            self.streams.beyond_bytes =
                self.streams.beyond_bytes.saturating_sub(tcp.beyond_bytes());
        }
        shared.tunnels.close(now, &TunnelEnds::of_conn(&conn.core, proto), output);
        shared.service_over(now, &conn.core, proto, conn.responder(), output);
        if self.community_id {
            output.row(&ConnLogWithCommunityId::new(conn, &shared.site));
        } else {
            output.row(&ConnLog::new(conn, &shared.site));
        }
        self.flows.remove(id);
    }
}

/// Whether one of the timers that are due at `now` ends the connection. Sets the next ones.
fn is_over(conn: &mut Conn, now: Ts) -> bool {
    let Conn { core, transport, .. } = conn;
    if core.timers.inactivity <= now {
        let over = core.last.plus_secs(u64::from(core.inactivity_timeout_s));
        if over <= now {
            return true;
        }
        core.timers.inactivity = over;
    }
    match transport {
        Transport::Tcp(tcp) => tcp.expire(core, now) == Expiry::Over,
        Transport::Udp(_) | Transport::Icmp(_) | Transport::Unknown => false,
    }
}
