//! Tunnels: from an outer packet to the one inside, which is analysed like any other and
//! remembers what it came in.

use hashbrown::HashMap;
use tyto_core::net::Side;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::UidMaker;

use crate::analyzer::log::AnalyzerLog;
use crate::decode::addr::Addr;
use crate::decode::ip::IpPacket;
use crate::decode::tunnel::{self, Found, Inner, port};
use crate::flow::conn::Conn;
use crate::flow::encapsulation::{Tunnel, TunnelKind};
use crate::flow::hash::KeyedHasher;
use crate::flow::table::FlowId;
use crate::log::tunnel::TunnelEnds;
use crate::log::weird::Weird;
use crate::pipeline::{Carrier, Pipeline};
use tyto_capture::LinkType;

/// Idle time after which a tunnel that is no connection is forgotten, seconds (Zeek:
/// `Tunnel::ip_tunnel_timeout`).
const IP_TUNNEL_TIMEOUT_S: i64 = 86_400;
/// Such tunnels that are remembered. At the limit all are forgotten: tunnels that go on get
/// another id.
const IP_TUNNELS_MAX: usize = 65_536;

/// The analyzer of tunnels in IP and GRE, as weirds name it.
const IP_TUNNEL: &str = "IPTUNNEL";
const UDP_HEADER_LEN: usize = 8;
/// Bytes of a violation that are kept (Zeek: `failure_data_max_size`).
const VIOLATION_BYTES_MAX: usize = 40;

/// The tunnels whose outer packets are no connection: IP in IP and GRE, by their two ends.
#[derive(Debug)]
pub(crate) struct IpTunnels {
    tunnels: HashMap<(Addr, Addr), IpTunnel, KeyedHasher>,
    forgotten: u64,
}

#[derive(Debug)]
struct IpTunnel {
    tunnel: Tunnel,
    /// Its ends as the first packet named them.
    ends: TunnelEnds,
    last: Ts,
}

impl IpTunnels {
    /// No tunnel is known; ends are hashed with `hasher`.
    pub(crate) fn new(hasher: KeyedHasher) -> Self {
        Self { tunnels: HashMap::with_hasher(hasher), forgotten: 0 }
    }

    /// The tunnel between the ends of `outer`.
    fn between(
        &mut self,
        outer: &IpPacket<'_>,
        kind: TunnelKind,
        now: Ts,
        uids: &mut UidMaker,
    ) -> (Tunnel, TunnelEnds) {
        let pair = (outer.src.min(outer.dst), outer.src.max(outer.dst));
        let timeout = Interval::from_secs(IP_TUNNEL_TIMEOUT_S);
        if let Some(known) = self.tunnels.get_mut(&pair)
            && now.since(known.last) < timeout
        {
            known.last = now;
            return (known.tunnel, known.ends);
        }
        if self.tunnels.len() >= IP_TUNNELS_MAX {
            self.forgotten += self.tunnels.len() as u64;
            self.tunnels.clear();
        }
        let tunnel = Tunnel { kind, uid: uids.next_uid() };
        let ends = TunnelEnds::of_addrs(outer.src, outer.dst);
        self.tunnels.insert(pair, IpTunnel { tunnel, ends, last: now });
        (tunnel, ends)
    }

    /// Tunnels forgotten at the limit.
    pub(crate) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl Pipeline {
    /// IPv4 or IPv6 as the payload of IP.
    pub(crate) fn ip_in_ip(&mut self, carrier: &Carrier, outer: &IpPacket<'_>) {
        let payload = outer.payload();
        if self.is_too_deep(carrier, outer, IP_TUNNEL) {
            return;
        }
        match tunnel::check_inner(payload, outer.next_proto) {
            Ok(()) => self.in_ip_tunnel(carrier, outer, TunnelKind::Ip, Inner::Ip(payload)),
            Err(fault) => {
                self.stats.unread += 1;
                self.odd(carrier, Some(outer), &Weird::new(fault.name()).from(IP_TUNNEL));
            }
        }
    }

    /// GRE, as the payload of `outer` or of UDP within it.
    pub(crate) fn gre(&mut self, carrier: &Carrier, outer: &IpPacket<'_>, bytes: &[u8]) {
        match tunnel::gre(bytes) {
            Ok(inner) if !self.is_too_deep(carrier, outer, IP_TUNNEL) => {
                self.in_ip_tunnel(carrier, outer, TunnelKind::Gre, inner);
            }
            Ok(_) => {}
            Err(odd) => {
                self.stats.unread += 1;
                let source = if odd.is_inside { IP_TUNNEL } else { "GRE" };
                let weird = Weird::new(odd.name).with(&odd.addl).from(source);
                self.odd(carrier, Some(outer), &weird);
            }
        }
    }

    /// Looks for a tunnel in a datagram that `side` of connection `id` sent, by its port, else by
    /// its bytes.
    pub(crate) fn tunnels_over_udp(
        &mut self,
        id: FlowId,
        side: Side,
        carrier: &Carrier,
        outer: &IpPacket<'_>,
    ) {
        let payload = outer.payload().get(UDP_HEADER_LEN..).unwrap_or_default();
        let Some(Conn { core, .. }) = self.flows.conn(id) else { return };
        let kind = match core.resp.port {
            port::VXLAN => TunnelKind::Vxlan,
            port::GENEVE => TunnelKind::Geneve,
            port::AYIYA => TunnelKind::Ayiya,
            port::TEREDO => TunnelKind::Teredo,
            port::GTP_USER | port::GTP_CONTROL => TunnelKind::Gtp,
            port::GRE => return self.gre(carrier, outer, payload),
            _ if tunnel::looks_like_ayiya(payload) => TunnelKind::Ayiya,
            _ if tunnel::looks_like_teredo(payload) => TunnelKind::Teredo,
            _ => return,
        };
        // What is not GTP may be GTP again: its control and user messages share connections.
        let is_given_up = core.not_tunnels & kind.bit() != 0 && kind != TunnelKind::Gtp;
        if is_given_up {
            return;
        }
        if carrier.tunnels.is_full() {
            return self.too_deep_over_udp(id, kind, carrier, outer);
        }
        let is_in_gtp = carrier.tunnels.last().is_some_and(|last| last.kind == TunnelKind::Gtp);
        let found = match kind {
            TunnelKind::Vxlan => tunnel::vxlan(payload),
            TunnelKind::Geneve => tunnel::geneve(payload),
            TunnelKind::Ayiya => tunnel::ayiya(payload),
            TunnelKind::Teredo => tunnel::teredo(payload),
            TunnelKind::Gtp => tunnel::gtp(payload, is_in_gtp),
            TunnelKind::Ip | TunnelKind::Gre => Found::Nothing,
        };
        self.found_over_udp(&OverUdp { id, side, kind }, carrier, outer, &found);
    }

    fn found_over_udp(
        &mut self,
        conn: &OverUdp,
        carrier: &Carrier,
        outer: &IpPacket<'_>,
        found: &Found<'_>,
    ) {
        let OverUdp { id, side, kind } = *conn;
        let source = kind.analyzer();
        // Confirmed by both sides' packets, since one alone is easily taken for it. (Of GTP one is
        // enough: Zeek's `Tunnel::delay_gtp_confirmation` is off.)
        let by_both = kind == TunnelKind::Teredo;
        let is_valid = matches!(found, Found::Inner(_) | Found::OddInner(..));
        let Some(Conn { core, .. }) = self.flows.conn(id) else { return };
        let side_bit = 1 << side.index();
        if is_valid {
            core.tunnel_sides |= side_bit;
        }
        let is_confirmed = match found {
            Found::Inner(_) | Found::OddInner(..) => !by_both || core.tunnel_sides == 3,
            Found::OddTunnel(_) => true,
            Found::Odd(..) | Found::Nothing | Found::Violation(..) | Found::Cut(..) => false,
        };
        if is_confirmed {
            self.confirm_tunnel(id, kind);
        }
        match found {
            Found::Inner(inner) => self.in_connection(conn, carrier, *inner),
            Found::OddInner(name, inner) => {
                if let Some(Conn { core, .. }) = self.flows.conn(id) {
                    let weird = Weird::new(name).from(source);
                    self.shared.weird(self.now, core, &weird, &mut self.output);
                }
                self.in_connection(conn, carrier, *inner);
            }
            Found::OddTunnel(name) => {
                self.odd(carrier, Some(outer), &Weird::new(name).from(source));
            }
            Found::Odd(name, number) => {
                let addl = number.to_string();
                self.odd(carrier, Some(outer), &Weird::new(name).with(&addl).from(source));
            }
            Found::Nothing => {}
            Found::Violation(reason, shown) => self.violated_tunnel(id, kind, reason, shown),
            Found::Cut(name, shown) => {
                if let Some(Conn { core, .. }) = self.flows.conn(id)
                    && core.is_tunnels & kind.bit() != 0
                {
                    let weird = Weird::new(name).from(source);
                    self.shared.weird(self.now, core, &weird, &mut self.output);
                }
                self.violated_tunnel(id, kind, tunnel::BAD_TEREDO, shown);
            }
        }
    }

    /// The connection is this tunnel: a service of it, unless it was found to be none before.
    fn confirm_tunnel(&mut self, id: FlowId, kind: TunnelKind) {
        let Some(conn) = self.flows.conn(id) else { return };
        let (proto, responder) = (conn.proto(), conn.responder());
        let core = &mut conn.core;
        if (core.is_tunnels | core.not_tunnels) & kind.bit() != 0 {
            return;
        }
        core.is_tunnels |= kind.bit();
        core.services.add(kind.analyzer());
        self.shared.service_recognised(self.now, core, proto, responder, &mut self.output);
    }

    /// The connection is not this tunnel, after all: told once.
    fn violated_tunnel(&mut self, id: FlowId, kind: TunnelKind, reason: &str, shown: &[u8]) {
        let Some(conn) = self.flows.conn(id) else { return };
        let proto = conn.proto();
        let core = &mut conn.core;
        if core.not_tunnels & kind.bit() != 0 {
            return;
        }
        core.not_tunnels |= kind.bit();
        core.is_tunnels &= !kind.bit();
        let shown = shown.get(..VIOLATION_BYTES_MAX).unwrap_or(shown);
        self.output.row(&AnalyzerLog {
            ts: self.now,
            analyzer_kind: "packet",
            analyzer_name: kind.analyzer(),
            uid: Some(core.uid),
            fuid: None,
            id: Some(core.id()),
            proto: Some(proto),
            failure_reason: reason.to_owned(),
            failure_data: (!shown.is_empty()).then(|| shown.to_vec()),
        });
    }

    fn too_deep_over_udp(
        &mut self,
        id: FlowId,
        kind: TunnelKind,
        carrier: &Carrier,
        outer: &IpPacket<'_>,
    ) {
        if kind == TunnelKind::Gtp {
            self.odd(carrier, None, &Weird::new("tunnel_depth").from(kind.analyzer()));
            return;
        }
        if let Some(Conn { core, .. }) = self.flows.conn(id) {
            core.history.push_once(Side::Orig, b'X');
        }
        self.is_too_deep(carrier, outer, kind.analyzer());
    }

    /// Whether no further tunnel is followed; tells it.
    fn is_too_deep(
        &mut self,
        carrier: &Carrier,
        outer: &IpPacket<'_>,
        source: &'static str,
    ) -> bool {
        if !carrier.tunnels.is_full() {
            return false;
        }
        self.stats.unread += 1;
        self.odd(carrier, Some(outer), &Weird::new("exceeded_tunnel_max_depth").from(source));
        true
    }

    fn in_ip_tunnel(
        &mut self,
        carrier: &Carrier,
        outer: &IpPacket<'_>,
        kind: TunnelKind,
        inner: Inner<'_>,
    ) {
        let (tunnel, ends) = self.ip_tunnels.between(outer, kind, self.now, &mut self.shared.uids);
        let len = inner_bytes(inner).len();
        // What such a tunnel carries is taken as captured whole.
        self.inside(&Carrier { captured: len, wire_len: len, ..*carrier }, tunnel, &ends, inner);
    }

    fn in_connection(&mut self, conn: &OverUdp, carrier: &Carrier, inner: Inner<'_>) {
        let Some(outer) = self.flows.conn(conn.id) else { return };
        let ends = TunnelEnds::of_conn(&outer.core, outer.proto());
        let tunnel = Tunnel { kind: conn.kind, uid: outer.core.uid };
        self.inside(carrier, tunnel, &ends, inner);
    }

    /// Analyses the packet inside `tunnel`.
    fn inside(&mut self, outer: &Carrier, tunnel: Tunnel, ends: &TunnelEnds, inner: Inner<'_>) {
        let Some(tunnels) = outer.tunnels.inside(tunnel) else { return };
        if let Some(place) = self.tunnel_ends.get_mut(outer.tunnels.iter().count()) {
            *place = *ends;
        }
        let captured = inner_bytes(inner).len();
        let around = outer.captured.saturating_sub(captured);
        let wire_len = outer.wire_len.saturating_sub(around);
        let carrier = Carrier { ts: outer.ts, captured, wire_len, checksum_good: false, tunnels };
        match inner {
            Inner::Ip(packet) => self.ip(&carrier, 0, packet),
            Inner::Ethernet(frame) => self.link_layer(&carrier, LinkType::ETHERNET, frame),
            Inner::Wlan(frame) => self.link_layer(&carrier, LinkType::IEEE802_11, frame),
            Inner::Unread => self.stats.unread += 1,
        }
    }

    /// A connection began inside of the tunnels of `carrier`, or moved there.
    pub(crate) fn register_tunnels(&mut self, carrier: &Carrier) {
        for (tunnel, ends) in carrier.tunnels.iter().zip(&self.tunnel_ends) {
            let (uid, kind) = (Some(tunnel.uid), tunnel.kind.log_name());
            self.shared.tunnels.register(self.now, ends, uid, kind, &mut self.output);
        }
    }
}

/// A connection that may be a tunnel, and who sent the datagram.
#[derive(Clone, Copy, Debug)]
struct OverUdp {
    id: FlowId,
    side: Side,
    kind: TunnelKind,
}

const fn inner_bytes(inner: Inner<'_>) -> &[u8] {
    match inner {
        Inner::Ip(bytes) | Inner::Ethernet(bytes) | Inner::Wlan(bytes) => bytes,
        Inner::Unread => &[],
    }
}
