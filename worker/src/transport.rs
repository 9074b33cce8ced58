//! What one packet does to its connection: finds or begins it, checks the packet, counts it.
//! The order of the steps is Zeek's: it decides what a broken or cut packet still counts for.

use tyto_core::net::{Proto, Side};

use crate::analyzer::cx::Cx;
use crate::decode::checksum;
use crate::decode::ip::{IpPacket, proto};
use crate::decode::tcp::{self, TCP_HEADER_LEN_MIN, TcpHeader};
use crate::decode::{be16, tunnel};
use crate::flow::conn::{Conn, ConnCore, EndName, Transport};
use crate::flow::encapsulation::{Change, Encapsulation};
use crate::flow::icmp::{self, Icmp};
use crate::flow::key::FlowKey;
use crate::flow::ports;
use crate::flow::table::FlowId;
use crate::flow::tcp::{Segment, Tcp, WEIRD_SOURCE};
use crate::flow::udp::{self, Udp};
use crate::listening::{Analysis, listening};
use crate::log::weird::Weird;
use crate::pipeline::{Carrier, Pipeline};

const UDP_HEADER_LEN: usize = 8;
/// Transports as weirds name them.
const UDP: &str = "UDP";
const ICMP: &str = "ICMP";
/// Idle time of other protocols, seconds (Zeek: `unknown_ip_inactivity_timeout`).
const UNKNOWN_INACTIVITY_S: u32 = 60;

/// How a packet names its connection.
#[derive(Clone, Copy)]
struct Names {
    src: EndName,
    dst: EndName,
    ip_proto: u8,
    is_one_way: bool,
}

impl Names {
    fn key(&self) -> FlowKey {
        let (src, dst) = (self.src, self.dst);
        FlowKey::new((src.addr, src.port), (dst.addr, dst.port), self.ip_proto, self.is_one_way)
    }
}

impl Pipeline {
    pub(crate) fn tcp(&mut self, carrier: &Carrier, packet: &IpPacket<'_>) {
        let bytes = packet.payload();
        if self.is_header_cut(carrier, packet, ("TCP", TCP_HEADER_LEN_MIN)) {
            return;
        }
        let (Some(ports), Some(header)) = (tcp::ports(bytes), TcpHeader::parse(bytes)) else {
            return;
        };
        let names = names(packet, ports, false);
        let header_len = tcp::header_len(bytes).unwrap_or_default();
        let mut found = self.flows.find(&names.key());
        if let Some(id) = found
            && header_len >= TCP_HEADER_LEN_MIN
            && header.flags.syn()
            && self.is_reuse(id, carrier, &header)
        {
            self.end_flow(id);
            found = None;
        }
        let id = match found {
            Some(id) => self.known_flow(id, carrier),
            None => {
                let flips = tcp_flips(&header, ports);
                let (now, spare) = (self.now, self.flows.spare_tcp());
                self.new_flow(&names, carrier, flips, |core| {
                    Transport::Tcp(Tcp::new(core, now).within(spare))
                })
            }
        };
        self.trace(id, packet);
        self.tcp_segment(id, &names, carrier, packet, &header);
        self.flows.reschedule(id);
    }

    /// Whether a SYN begins another connection in place of `id`.
    #[inline(never)]
    fn is_reuse(&mut self, id: FlowId, carrier: &Carrier, header: &TcpHeader<'_>) -> bool {
        let Some(Conn { core, transport: Transport::Tcp(tcp), .. }) = self.flows.conn(id) else {
            return false;
        };
        let Some(weird) = tcp.is_reuse(core, header, carrier.ts) else { return false };
        if let Some(name) = weird {
            let weird = Weird { source: WEIRD_SOURCE, ..Weird::new(name) };
            self.shared.weird(self.now, core, &weird, &mut self.output);
        }
        true
    }

    fn tcp_segment(
        &mut self,
        id: FlowId,
        names: &Names,
        carrier: &Carrier,
        packet: &IpPacket<'_>,
        header: &TcpHeader<'_>,
    ) {
        let bytes = packet.payload();
        let len = stated_len(packet, bytes);
        let header_len = tcp::header_len(bytes).unwrap_or_default();
        let is_short = header_len < TCP_HEADER_LEN_MIN;
        if is_short || header_len > len || header_len > bytes.len() {
            self.stats.unread += 1;
            let name = if is_short { "bad_TCP_header_len" } else { "truncated_header" };
            self.tcp_weird(id, name);
            return;
        }
        let checks = !self.ignore_checksums && !carrier.checksum_good && bytes.len() >= len;
        let is_bad = checks && !is_valid(packet, proto::TCP, len);
        let Some(Conn { core, transport: Transport::Tcp(tcp), stage }) = self.flows.conn(id) else {
            return;
        };
        let side = core.side_of(names.src);
        if is_bad {
            tcp.bad_checksum(core, side);
            self.stats.bad_checksums += 1;
            self.tcp_weird(id, "bad_TCP_checksum");
            return;
        }
        let segment = Segment {
            ts: carrier.ts,
            header: *header,
            len: u32::try_from(len - header_len).unwrap_or(u32::MAX),
            payload: bytes.get(header_len..len),
        };
        let (shared, out) = (&mut self.shared, &mut self.output);
        let mut sink = Analysis { now: self.now, stage, shared, out, totals: &mut self.streams };
        let (side, events) = tcp.segment(core, side, &segment, &mut sink);
        core.count(side, packet.total_len);
        self.stats.streams_given_up += u64::from(events.given_up);
        if events.established {
            let hosts = [core.orig.addr, core.resp.addr];
            for host in hosts {
                if self.shared.site.is_local(host) == Some(true) {
                    self.shared.known_hosts.found(host, self.now, &mut self.output);
                }
            }
        }
    }

    /// Whether the header of a transport, by name and length, is not there as a whole.
    fn is_header_cut(
        &mut self,
        carrier: &Carrier,
        packet: &IpPacket<'_>,
        (transport, header_len): (&'static str, usize),
    ) -> bool {
        let is_short = packet.payload_len != 0 && usize::from(packet.payload_len) < header_len;
        if !is_short && packet.payload().len() >= header_len {
            return false;
        }
        self.stats.unread += 1;
        let name = if is_short { "truncated_header" } else { "internally_truncated_header" };
        self.odd(carrier, Some(packet), &Weird::new(name).from(transport));
        true
    }

    /// Looks whether a packet of connection `id` is part of a traceroute.
    fn trace(&mut self, id: FlowId, packet: &IpPacket<'_>) {
        if !self.shared.config.traceroute {
            return;
        }
        if let Some(conn) = self.flows.conn(id) {
            let ends = (conn.core.orig.addr, conn.core.resp.addr, conn.proto());
            self.shared.trace_packet(self.now, packet, ends, &mut self.output);
        }
    }

    #[cold]
    fn tcp_weird(&mut self, id: FlowId, name: &'static str) {
        let Some(Conn { core, .. }) = self.flows.conn(id) else { return };
        let weird = Weird { source: WEIRD_SOURCE, ..Weird::new(name) };
        self.shared.weird(self.now, core, &weird, &mut self.output);
    }

    pub(crate) fn udp(&mut self, carrier: &Carrier, packet: &IpPacket<'_>) {
        let bytes = packet.payload();
        if self.is_header_cut(carrier, packet, (UDP, UDP_HEADER_LEN)) {
            return;
        }
        let Some(ports) = tcp::ports(bytes) else { return };
        let names = names(packet, ports, false);
        let id = match self.flows.find(&names.key()) {
            Some(id) => self.known_flow(id, carrier),
            None => {
                let flips = ports::is_udp_server(ports.0) && !ports::is_udp_server(ports.1);
                self.new_flow(&names, carrier, flips, |core| {
                    core.set_inactivity_timeout(udp::INACTIVITY_S);
                    Transport::Udp(Udp::default())
                })
            }
        };
        let side = match self.flows.conn(id) {
            Some(Conn { core, .. }) => core.side_of(names.src),
            None => return,
        };
        self.trace(id, packet);
        let is_read = self.udp_datagram(id, &names, carrier, packet);
        if self.flows.conn(id).is_some_and(|conn| conn.core.wants_end) {
            self.end_flow(id);
        }
        self.flows.reschedule(id);
        if is_read {
            self.tunnels_over_udp(id, side, carrier, packet);
        }
    }

    /// Counts a datagram; false when it is broken.
    fn udp_datagram(
        &mut self,
        id: FlowId,
        names: &Names,
        carrier: &Carrier,
        packet: &IpPacket<'_>,
    ) -> bool {
        let bytes = packet.payload();
        let len = stated_len(packet, bytes);
        let checks = !self.ignore_checksums
            && !carrier.checksum_good
            && bytes.len() >= len
            && carrier.wire_len <= carrier.captured
            && !is_unchecked_vxlan(bytes);
        let is_sent = !packet.is_v4 || be16(bytes, 6) != Some(0);
        let is_bad = checks && is_sent && !is_valid(packet, proto::UDP, len);
        let Some(Conn { core, transport: Transport::Udp(udp), stage }) = self.flows.conn(id) else {
            return false;
        };
        let side = core.side_of(names.src);
        if is_bad {
            udp.bad_checksum(core, side);
            self.stats.bad_checksums += 1;
            let weird = Weird::new("bad_UDP_checksum").from(UDP);
            self.shared.weird(self.now, core, &weird, &mut self.output);
            return false;
        }
        let stated_len = be16(bytes, 4).unwrap_or_default();
        if usize::from(stated_len) != len {
            let addl = format!("{stated_len} != {len}");
            let weird = Weird::new("UDP_datagram_length_mismatch").with(&addl).from(UDP);
            self.shared.weird(self.now, core, &weird, &mut self.output);
        }
        core.last = carrier.ts;
        let stated = i64::from(stated_len) - UDP_HEADER_LEN as i64;
        udp.datagram(core, side, stated);
        let flow_bytes = udp.total();
        let responder = udp.responder();
        let payload = udp_payload(packet);
        let mut cx = Cx::new(self.now, core, Proto::Udp, &mut self.shared, &mut self.output);
        cx.payload_bytes = flow_bytes;
        cx.responder = responder;
        match listening(stage, Proto::Udp, &mut cx) {
            Some(stage) if payload.is_empty() => stage.empty(&mut cx),
            Some(stage) => stage.deliver(side, payload, &mut cx),
            None => {}
        }
        if std::mem::take(&mut core.wants_flip) {
            core.flip();
            if let Some(stage) = stage {
                stage.flipped();
            }
        }
        // By the role before roles were swapped, as Zeek counts.
        core.count(side, packet.total_len);
        true
    }

    pub(crate) fn icmp(&mut self, carrier: &Carrier, packet: &IpPacket<'_>) {
        let bytes = packet.payload();
        if self.is_header_cut(carrier, packet, (ICMP, icmp::HEADER_LEN)) {
            return;
        }
        let &[kind, code, ..] = bytes else { return };
        let is_v4 = packet.next_proto == proto::ICMP;
        let (answer, is_one_way) = icmp::counterpart(is_v4, kind, code);
        let names = names(packet, (u16::from(kind), u16::from(answer)), is_one_way);
        let id = match self.flows.find(&names.key()) {
            Some(id) => self.known_flow(id, carrier),
            None => self.new_flow(&names, carrier, false, |core| {
                core.set_inactivity_timeout(icmp::INACTIVITY_S);
                Transport::Icmp(Icmp::default())
            }),
        };
        self.trace(id, packet);
        self.icmp_message(id, &names, carrier, packet);
        self.flows.reschedule(id);
    }

    fn icmp_message(
        &mut self,
        id: FlowId,
        names: &Names,
        carrier: &Carrier,
        packet: &IpPacket<'_>,
    ) {
        let bytes = packet.payload();
        let len = stated_len(packet, bytes);
        let is_whole = bytes.len() >= len;
        let is_bad = !self.ignore_checksums && !carrier.checksum_good && is_whole && {
            let message = bytes.get(..len).unwrap_or(bytes);
            match packet.next_proto {
                proto::ICMP => !checksum::is_valid(message),
                other => !is_valid(packet, other, len),
            }
        };
        let Some(Conn { core, transport: Transport::Icmp(icmp), .. }) = self.flows.conn(id) else {
            return;
        };
        if is_bad {
            self.stats.bad_checksums += 1;
            let weird = Weird::new("bad_ICMP_checksum").from(ICMP);
            self.shared.weird(self.now, core, &weird, &mut self.output);
            return;
        }
        if packet.next_proto == proto::ICMPV6
            && let Some(name) = icmp::odd(bytes)
        {
            let weird = Weird::new(name).from(ICMP);
            self.shared.weird(self.now, core, &weird, &mut self.output);
        }
        let side = core.side_of(names.src);
        core.last = carrier.ts;
        icmp.message(side, len as i64 - icmp::HEADER_LEN as i64);
        // Zeek counts what was captured whole only.
        if is_whole {
            core.count(side, packet.total_len);
        }
    }

    pub(crate) fn unknown_transport(&mut self, carrier: &Carrier, packet: &IpPacket<'_>) {
        let names = names(packet, (0, 0), false);
        let id = match self.flows.find(&names.key()) {
            Some(id) => self.known_flow(id, carrier),
            None => self.new_flow(&names, carrier, false, |core| {
                core.set_inactivity_timeout(UNKNOWN_INACTIVITY_S);
                Transport::Unknown
            }),
        };
        if let Some(Conn { core, .. }) = self.flows.conn(id) {
            core.last = carrier.ts;
            core.count(core.side_of(names.src), packet.total_len);
        }
        self.flows.reschedule(id);
    }

    /// Notes the tunnels around a packet of a connection that is there.
    #[inline]
    fn known_flow(&mut self, id: FlowId, carrier: &Carrier) -> FlowId {
        let Some(Conn { core, .. }) = self.flows.conn(id) else { return id };
        if core.encapsulation.is_some() || !carrier.tunnels.is_empty() {
            self.note_tunnels(id, carrier);
        }
        id
    }

    #[inline(never)]
    fn note_tunnels(&mut self, id: FlowId, carrier: &Carrier) {
        let Some(Conn { core, .. }) = self.flows.conn(id) else { return };
        match Encapsulation::check(&mut core.encapsulation, carrier.tunnels) {
            Change::None => {}
            Change::Noted => self.register_tunnels(carrier),
            Change::TooMany(limit) => {
                let weird = Weird::new("tunnel_max_changes_per_connection_exceeded").with(limit);
                core.history.push_once(Side::Orig, b'X');
                self.shared.weird(self.now, core, &weird, &mut self.output);
            }
        }
    }

    /// Apart from what packets of known connections run through.
    #[inline(never)]
    fn new_flow(
        &mut self,
        names: &Names,
        carrier: &Carrier,
        flips: bool,
        transport: impl FnOnce(&mut ConnCore) -> Transport,
    ) -> FlowId {
        if self.flows.is_full()
            && let Some(soonest) = self.flows.soonest()
        {
            self.stats.flows_evicted += 1;
            self.end_flow(soonest);
        }
        let mut core = ConnCore::new(self.shared.uids.next_uid(), names.src, names.dst);
        core.serial = self.stats.flows;
        core.ip_proto = names.ip_proto;
        core.is_one_way = names.is_one_way;
        core.start = carrier.ts;
        core.last = carrier.ts;
        core.encapsulation = Encapsulation::at_begin(carrier.tunnels);
        self.stats.flows += 1;
        if flips && !core.resp.addr.is_broadcast() {
            core.flip();
        }
        core.service_port = core.resp.port;
        let transport = transport(&mut core);
        if let Some(spec) = self.shared.expected.of(self.now, &core, transport.proto()) {
            core.is_announced_for(spec);
        }
        self.register_tunnels(carrier);
        let conn = Conn { core, transport, stage: None };
        if let Some(at) = conn.proto_index() {
            self.stats.flows_by_kind[at] += 1;
            self.stats.flows_open_by_kind[at] += 1;
        }
        self.flows.insert(conn)
    }
}

fn names(packet: &IpPacket<'_>, ports: (u16, u16), is_one_way: bool) -> Names {
    Names {
        src: EndName { addr: packet.src, port: ports.0 },
        dst: EndName { addr: packet.dst, port: ports.1 },
        ip_proto: packet.next_proto,
        is_one_way,
    }
}

/// Length of the transport's header and payload by the IP header; what was captured where
/// offload left that empty.
fn stated_len(packet: &IpPacket<'_>, bytes: &[u8]) -> usize {
    match packet.payload_len {
        0 => bytes.len(),
        len => usize::from(len),
    }
}

fn is_valid(packet: &IpPacket<'_>, ip_proto: u8, len: usize) -> bool {
    let bytes = packet.payload();
    let bytes = bytes.get(..len).unwrap_or(bytes);
    checksum::is_valid_with_pseudo_header(packet.src, packet.dst, ip_proto, bytes)
}

fn udp_payload<'a>(packet: &IpPacket<'a>) -> &'a [u8] {
    packet.payload().get(UDP_HEADER_LEN..).unwrap_or_default()
}

/// VXLAN's outer checksum is usually zero, and not checked where it is not (Zeek:
/// `validate_vxlan_checksums` decides; RFC 7348 section 5 lets receivers ignore zero only).
fn is_unchecked_vxlan(bytes: &[u8]) -> bool {
    const LEN: usize = UDP_HEADER_LEN + 8 + 14;
    let is_flagged = bytes.get(UDP_HEADER_LEN).is_some_and(|flags| flags & 0x08 != 0);
    bytes.len() > LEN
        && is_flagged
        && be16(bytes, 2) == Some(tunnel::port::VXLAN)
        && be16(bytes, 6) == Some(0)
}

/// Whether a connection whose first segment this is goes the other way: it began before we saw
/// it, and the server is where its port says.
fn tcp_flips(header: &TcpHeader<'_>, (src, dst): (u16, u16)) -> bool {
    let flags = header.flags;
    if flags.syn() && !flags.ack() || !ports::is_tcp_server(src) {
        return false;
    }
    if ports::is_tcp_server(dst) { !flags.syn() && src < dst } else { true }
}
