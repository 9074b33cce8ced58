//! Tunnels: from an outer packet to the one inside, which is analysed like any other and
//! remembers what it came in.

use hashbrown::HashMap;
use tyto_core::net::Side;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::{Uid, UidMaker};

use crate::decode::addr::Addr;
use crate::decode::ip::IpPacket;
use crate::decode::tunnel::{self, Found, Inner, port};
use crate::flow::conn::Conn;
use crate::flow::encapsulation::{Tunnel, TunnelKind};
use crate::flow::hash::KeyedHasher;
use crate::flow::table::FlowId;
use crate::pipeline::{Carrier, Pipeline};
use tyto_capture::LinkType;

/// Idle time after which a tunnel that is no connection is forgotten, seconds (Zeek:
/// `Tunnel::ip_tunnel_timeout`).
const IP_TUNNEL_TIMEOUT_S: i64 = 86_400;
/// Such tunnels that are remembered. At the limit all are forgotten: tunnels that go on get
/// another id.
const IP_TUNNELS_MAX: usize = 65_536;

/// The tunnels whose outer packets are no connection: IP in IP and GRE, by their two ends.
#[derive(Debug)]
pub(crate) struct IpTunnels {
    tunnels: HashMap<(Addr, Addr), IpTunnel, KeyedHasher>,
    forgotten: u64,
}

#[derive(Debug)]
struct IpTunnel {
    tunnel: Tunnel,
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
    ) -> Tunnel {
        let ends = (outer.src.min(outer.dst), outer.src.max(outer.dst));
        let timeout = Interval::from_secs(IP_TUNNEL_TIMEOUT_S);
        if let Some(known) = self.tunnels.get_mut(&ends)
            && now.since(known.last) < timeout
        {
            known.last = now;
            return known.tunnel;
        }
        if self.tunnels.len() >= IP_TUNNELS_MAX {
            self.forgotten += self.tunnels.len() as u64;
            self.tunnels.clear();
        }
        let tunnel = Tunnel { kind, uid: uids.next_uid() };
        self.tunnels.insert(ends, IpTunnel { tunnel, last: now });
        tunnel
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
        if tunnel::whole_ip(payload, outer.next_proto) {
            self.in_ip_tunnel(carrier, outer, TunnelKind::Ip, Inner::Ip(payload));
        } else {
            self.stats.unread += 1;
        }
    }

    /// GRE, as the payload of `outer` or of UDP within it.
    pub(crate) fn gre(&mut self, carrier: &Carrier, outer: &IpPacket<'_>, bytes: &[u8]) {
        match tunnel::gre(bytes) {
            Some(inner) => self.in_ip_tunnel(carrier, outer, TunnelKind::Gre, inner),
            None => self.stats.unread += 1,
        }
    }

    /// Looks for a tunnel in a datagram of connection `id`, by its port, else by its bytes.
    pub(crate) fn tunnels_over_udp(
        &mut self,
        id: FlowId,
        carrier: &Carrier,
        outer: &IpPacket<'_>,
        payload: &[u8],
    ) {
        let Some(Conn { core, .. }) = self.flows.conn(id) else { return };
        let (uid, resp_port, not_tunnels) = (core.uid, core.resp.port, core.not_tunnels);
        let (kind, read): (_, fn(&[u8]) -> Found<'_>) = match resp_port {
            port::VXLAN => (TunnelKind::Vxlan, tunnel::vxlan),
            port::GENEVE => (TunnelKind::Geneve, tunnel::geneve),
            port::AYIYA => (TunnelKind::Ayiya, tunnel::ayiya),
            port::TEREDO => (TunnelKind::Teredo, tunnel::teredo),
            port::GTP_USER | port::GTP_CONTROL => {
                return self.gtp(uid, carrier, payload);
            }
            port::GRE => return self.gre(carrier, outer, payload),
            _ if tunnel::looks_like_ayiya(payload) => (TunnelKind::Ayiya, tunnel::ayiya),
            _ if tunnel::looks_like_teredo(payload) => (TunnelKind::Teredo, tunnel::teredo),
            _ => return,
        };
        let bit = 1 << kind as u8;
        if not_tunnels & bit != 0 {
            return;
        }
        if carrier.tunnels.is_full() {
            core.history.push_once(Side::Orig, b'X');
            return;
        }
        match read(payload) {
            Found::Inner(inner) => self.inside(carrier, Tunnel { kind, uid }, inner),
            Found::Nothing => {}
            Found::Violation => {
                if let Some(Conn { core, .. }) = self.flows.conn(id) {
                    core.not_tunnels |= bit;
                }
            }
        }
    }

    fn gtp(&mut self, uid: Uid, carrier: &Carrier, payload: &[u8]) {
        // GTP never travels in GTP.
        let is_nested = carrier.tunnels.last().is_some_and(|last| last.kind == TunnelKind::Gtp);
        if is_nested || carrier.tunnels.is_full() {
            return;
        }
        if let Some(inner) = tunnel::gtp(payload) {
            self.inside(carrier, Tunnel { kind: TunnelKind::Gtp, uid }, inner);
        }
    }

    fn in_ip_tunnel(
        &mut self,
        carrier: &Carrier,
        outer: &IpPacket<'_>,
        kind: TunnelKind,
        inner: Inner<'_>,
    ) {
        if carrier.tunnels.is_full() {
            self.stats.unread += 1;
            return;
        }
        let tunnel = self.ip_tunnels.between(outer, kind, self.now, &mut self.shared.uids);
        let len = inner_bytes(inner).len();
        // What such a tunnel carries is taken as captured whole.
        self.inside(&Carrier { captured: len, wire_len: len, ..*carrier }, tunnel, inner);
    }

    /// Analyses the packet inside `tunnel`.
    fn inside(&mut self, outer: &Carrier, tunnel: Tunnel, inner: Inner<'_>) {
        let Some(tunnels) = outer.tunnels.inside(tunnel) else { return };
        let captured = inner_bytes(inner).len();
        let around = outer.captured.saturating_sub(captured);
        let wire_len = outer.wire_len.saturating_sub(around);
        let carrier = Carrier { ts: outer.ts, captured, wire_len, checksum_good: false, tunnels };
        match inner {
            Inner::Ip(packet) => self.ip(&carrier, 0, packet),
            Inner::Ethernet(frame) => self.link_layer(&carrier, LinkType::ETHERNET, frame),
            Inner::Wlan(frame) => self.link_layer(&carrier, LinkType::IEEE802_11, frame),
        }
    }
}

const fn inner_bytes(inner: Inner<'_>) -> &[u8] {
    match inner {
        Inner::Ip(bytes) | Inner::Ethernet(bytes) | Inner::Wlan(bytes) => bytes,
    }
}
