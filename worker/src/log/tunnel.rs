//! `tunnel.log`: tunnels, when a connection is seen inside, when their outer connection is over,
//! and when nothing was seen inside for long.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tyto_core::net::{ConnId, Port, Proto};
use tyto_core::record::LogRecord;
use tyto_core::record::value::EnumName;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

use crate::analyzer::Cx;
use crate::decode::addr::Addr;
use crate::flow::conn::{ConnCore, EndName};
use crate::output::Output;

/// A tunnel in which no connection began for so long is forgotten, seconds (Zeek:
/// `Tunnel::expiration_interval`).
const IDLE_S: u64 = 3600;
/// Tunnels are looked through this often, seconds (Zeek: `table_expire_interval`).
const LOOK_S: u64 = 10;
/// Tunnels that are remembered. Further ones are told each time a connection begins inside.
const TUNNELS_MAX: usize = 1 << 16;

/// Something about a tunnel.
#[derive(Debug, LogRecord)]
#[log(stream = "tunnel")]
pub struct TunnelLog {
    /// When it happened.
    pub ts: Ts,
    /// The outer connection, or the tunnel itself where the outer packets are none.
    pub uid: Option<Uid>,
    /// Between whom.
    #[log(nested)]
    pub id: ConnId,
    /// Kind of tunnel.
    pub tunnel_type: EnumName,
    /// What happened.
    pub action: EnumName,
}

/// The ends of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelEnds {
    orig: Addr,
    orig_port: u16,
    resp: Addr,
    resp_port: u16,
    proto: Proto,
}

/// The tunnels that are known.
#[derive(Debug, Default)]
pub struct Tunnels {
    active: BTreeMap<TunnelEnds, Active>,
    /// Time of the first look, from which on idle times are counted in whole seconds.
    begin: Option<Ts>,
    next_look: Ts,
    refused: u64,
}

#[derive(Clone, Copy, Debug)]
struct Active {
    uid: Option<Uid>,
    kind: &'static str,
    used: Ts,
}

impl TunnelEnds {
    /// The ends of a connection.
    pub const fn of_conn(core: &ConnCore, proto: Proto) -> Self {
        let EndName { addr: orig, port: orig_port } = core.orig;
        let EndName { addr: resp, port: resp_port } = core.resp;
        Self { orig, orig_port, resp, resp_port, proto }
    }

    /// Two addresses.
    pub const fn of_addrs(orig: Addr, resp: Addr) -> Self {
        Self { orig, orig_port: 0, resp, resp_port: 0, proto: Proto::UnknownTransport }
    }

    fn id(&self) -> ConnId {
        ConnId {
            orig_h: IpAddr::from(self.orig),
            orig_p: Port(self.orig_port),
            resp_h: IpAddr::from(self.resp),
            resp_p: Port(self.resp_port),
        }
    }
}

impl Default for TunnelEnds {
    fn default() -> Self {
        Self::of_addrs(Addr::default(), Addr::default())
    }
}

impl Tunnels {
    /// A connection began inside of a tunnel.
    pub fn register(
        &mut self,
        now: Ts,
        ends: &TunnelEnds,
        uid: Option<Uid>,
        kind: &'static str,
        out: &mut Output,
    ) {
        if let Some(active) = self.active.get_mut(ends) {
            active.used = now;
            return;
        }
        if self.active.len() < TUNNELS_MAX {
            self.active.insert(*ends, Active { uid, kind, used: now });
        } else {
            self.refused += 1;
        }
        tell(now, ends, Active { uid, kind, used: now }, "Tunnel::DISCOVER", out);
    }

    /// The connection between `ends` is over: if it is a tunnel, that is too.
    pub fn close(&mut self, now: Ts, ends: &TunnelEnds, out: &mut Output) {
        if self.active.is_empty() {
            return;
        }
        if let Some(active) = self.active.remove(ends) {
            tell(now, ends, active, "Tunnel::CLOSE", out);
        }
    }

    /// Forgets tunnels in which nothing began for long.
    #[inline]
    pub fn expire(&mut self, now: Ts, out: &mut Output) {
        if self.next_look <= now {
            self.look(now, out);
        }
    }

    #[cold]
    fn look(&mut self, now: Ts, out: &mut Output) {
        let begin = *self.begin.get_or_insert(now);
        self.next_look = now.plus_secs(LOOK_S);
        self.active.retain(|ends, active| {
            // Times of use count whole seconds since the begin.
            let used_s = active.used.0.saturating_sub(begin.0) / tyto_core::time::NANOS;
            let is_live = begin.plus_secs(used_s).plus_secs(IDLE_S) >= now;
            if !is_live {
                tell(now, ends, *active, "Tunnel::EXPIRE", out);
            }
            is_live
        });
    }

    /// Tunnels that were not remembered, at the limit.
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

fn tell(now: Ts, ends: &TunnelEnds, active: Active, action: &'static str, out: &mut Output) {
    out.row(&TunnelLog {
        ts: now,
        uid: active.uid,
        id: ends.id(),
        tunnel_type: EnumName(active.kind),
        action: EnumName(action),
    });
}

impl Cx<'_> {
    /// The connection is a tunnel that an application protocol makes: `kind` is `Tunnel::HTTP`
    /// or `Tunnel::SOCKS`. Whoever opened it, all tunnels between the same ends are one.
    pub fn tunnel(&mut self, kind: &'static str) {
        let ends = TunnelEnds { orig_port: 0, ..TunnelEnds::of_conn(self.conn, self.proto) };
        self.shared.tunnels.register(self.now, &ends, None, kind, self.out);
    }
}
