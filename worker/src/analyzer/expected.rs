//! Connections that another one announced, such as the data connections of FTP: they begin
//! with an analyzer of their own, whatever their port and content.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use tyto_core::net::Proto;
use tyto_core::time::Ts;

use super::state::Shared;
use super::{Cx, Spec};
use crate::decode::addr::Addr;
use crate::flow::conn::ConnCore;
use crate::flow::hash::KeyedHasher;
use crate::neighbours::{Announced, Announcer, Note};

/// Announced connections that are waited for. At the limit the oldest is given up.
const EXPECTED_MAX: usize = 1 << 16;

/// A connection that will come.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Its originator; `None` when anybody may be.
    pub orig: Option<IpAddr>,
    /// Its responder.
    pub resp: IpAddr,
    /// The responder's port.
    pub resp_port: u16,
    /// Transport.
    pub proto: Proto,
    /// Who analyses it.
    pub spec: &'static Spec,
    /// How long it is waited for, seconds.
    pub timeout_s: u64,
}

/// The announced connections of a worker.
#[derive(Debug)]
pub struct ExpectedConns {
    waiting: HashMap<Key, Entry, KeyedHasher>,
    /// Keys in the order in which they came, with their time; one that was announced again
    /// since is stale.
    order: VecDeque<(Ts, Key)>,
    stats: ExpectedStats,
}

/// What happened to announced connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedStats {
    /// Connections announced, here or by another worker.
    pub announced: u64,
    /// Connections that came.
    pub met: u64,
    /// Announcements given up at the limit.
    pub forgotten: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Unspecified when anybody may be the originator.
    orig: Addr,
    resp: Addr,
    resp_port: u16,
    proto: Proto,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    spec: &'static Spec,
    until: Ts,
    /// Another worker told of it.
    is_heard: bool,
}

const ANYBODY: Addr = Addr::v6([0; 16]);

impl ExpectedConns {
    /// None is announced; keys are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            waiting: HashMap::with_hasher(hasher),
            order: VecDeque::new(),
            stats: ExpectedStats::default(),
        }
    }

    /// Waits for `expected` from `now` on. The same announced again waits for the later end.
    pub fn add(&mut self, now: Ts, expected: &Expected) {
        self.wait_for(now, expected, false);
    }

    /// The same for what another worker announced.
    pub fn hear(&mut self, now: Ts, expected: &Expected) {
        self.wait_for(now, expected, true);
    }

    fn wait_for(&mut self, now: Ts, expected: &Expected, is_heard: bool) {
        self.stats.announced += 1;
        self.expire(now);
        let key = Key {
            orig: expected.orig.map_or(ANYBODY, Addr::from),
            resp: Addr::from(expected.resp),
            resp_port: expected.resp_port,
            proto: expected.proto,
        };
        let until = now.plus_secs(expected.timeout_s);
        if let Some(known) = self.waiting.get_mut(&key) {
            known.spec = expected.spec;
            known.until = known.until.max(until);
            known.is_heard = is_heard;
            return;
        }
        while self.waiting.len() >= EXPECTED_MAX {
            let Some((_, oldest)) = self.order.pop_front() else { break };
            self.stats.forgotten += u64::from(self.waiting.remove(&oldest).is_some());
        }
        self.waiting.insert(key, Entry { spec: expected.spec, until, is_heard });
        self.order.push_back((until, key));
    }

    /// Who is to analyse the connection that begins.
    pub fn of(&mut self, now: Ts, conn: &ConnCore, proto: Proto) -> Option<&'static Spec> {
        self.find(now, conn, proto, false)
    }

    /// Who is to analyse a connection that began before another worker's announcement came.
    pub fn of_late(&mut self, now: Ts, conn: &ConnCore, proto: Proto) -> Option<&'static Spec> {
        self.find(now, conn, proto, true)
    }

    fn find(
        &mut self,
        now: Ts,
        conn: &ConnCore,
        proto: Proto,
        is_late: bool,
    ) -> Option<&'static Spec> {
        if self.waiting.is_empty() {
            return None;
        }
        let (orig, resp, resp_port) = (conn.orig.addr, conn.resp.addr, conn.resp.port);
        let found = [orig, ANYBODY].into_iter().find_map(|orig| {
            let entry = self.waiting.get(&Key { orig, resp, resp_port, proto })?;
            (entry.until > now && (entry.is_heard || !is_late)).then_some(entry.spec)
        })?;
        self.stats.met += 1;
        Some(found)
    }

    /// What happened so far.
    pub const fn stats(&self) -> ExpectedStats {
        self.stats
    }

    /// Gives up what did not come in time, of the oldest.
    fn expire(&mut self, now: Ts) {
        while let Some(&(until, key)) = self.order.front() {
            if until > now {
                return;
            }
            self.order.pop_front();
            match self.waiting.get(&key) {
                // Announced again since.
                Some(entry) if entry.until > now => self.order.push_back((entry.until, key)),
                Some(_) => {
                    self.waiting.remove(&key);
                }
                None => {}
            }
        }
    }
}

impl ConnCore {
    /// It is the connection that was announced for `spec`.
    pub fn is_announced_for(&mut self, spec: &'static Spec) {
        self.expected = Some(spec);
        if let Some(service) = service_of(spec) {
            self.services.add(service);
        }
    }
}

/// The service that a connection has by being announced, where that says so.
fn service_of(spec: &Spec) -> Option<&'static str> {
    match spec.name {
        "FTP_DATA" => Some("ftp-data"),
        "IRC_DATA" => Some("irc-dcc-data"),
        _ => None,
    }
}

impl Cx<'_> {
    /// Announces a connection, to the other workers too (Zeek: `Analyzer::schedule_analyzer`).
    /// `by` tells them what they have to know of who announces it.
    pub fn expect(&mut self, expected: &Expected, by: impl FnOnce(&Arc<str>) -> Announcer) {
        self.shared.expected.add(self.now, expected);
        let neighbours = &mut self.shared.neighbours;
        let Some(by) = neighbours.me().map(by) else { return };
        let Expected { orig, resp, resp_port, timeout_s, .. } = *expected;
        let announced = Announced { at: self.now, timeout_s, orig, resp, resp_port, by };
        // What does not fit is counted.
        drop(neighbours.tell(Note::Announced(announced)));
    }

    /// This protocol announces connections, for which the other workers are to be ready.
    pub fn attention(&mut self) {
        let Shared { neighbours, late, .. } = &mut *self.shared;
        if neighbours.me().is_some() && late.asks(self.now) {
            drop(neighbours.tell(Note::Attention(self.now)));
        }
    }

    /// The connection was announced since it began, as another worker saw.
    pub(super) fn meet_late(&mut self) {
        if let Some(spec) = self.shared.expected.of_late(self.now, self.conn, self.proto) {
            self.conn.is_announced_for(spec);
        }
    }
}

#[cfg(test)]
mod tests {
    use tyto_core::uid::Uid;

    use super::*;
    use crate::flow::conn::EndName;

    static SPEC: Spec = Spec {
        name: "FTP_DATA",
        ports: &[],
        tcp_probe: None,
        udp_probe: None,
        begin: |_| unreachable!("nothing begins here"),
    };

    fn conn(orig: [u8; 4], port: u16) -> ConnCore {
        let (orig, resp) = (Addr::v4(orig), Addr::v4([10, 0, 0, 9]));
        let name = |addr, port| EndName { addr, port };
        ConnCore::new(Uid { hi: 0, lo: 1 }, name(orig, 1), name(resp, port))
    }

    fn expected(orig: Option<[u8; 4]>, resp_port: u16, timeout_s: u64) -> Expected {
        Expected {
            orig: orig.map(IpAddr::from),
            resp: IpAddr::from([10, 0, 0, 9]),
            resp_port,
            proto: Proto::Tcp,
            spec: &SPEC,
            timeout_s,
        }
    }

    #[test]
    fn an_announced_connection_is_known_until_its_time_is_over() {
        let mut conns = ExpectedConns::new(KeyedHasher::with_seed(1));
        let comes = |conns: &mut ExpectedConns, secs, orig, port| {
            conns.of(Ts::new(secs, 0), &conn(orig, port), Proto::Tcp).is_some()
        };
        conns.add(Ts::new(100, 0), &expected(Some([10, 0, 0, 1]), 2000, 60));
        conns.add(Ts::new(100, 0), &expected(None, 2001, 60));
        assert!(comes(&mut conns, 159, [10, 0, 0, 1], 2000));
        assert!(!comes(&mut conns, 159, [10, 0, 0, 2], 2000));
        assert!(comes(&mut conns, 159, [10, 0, 0, 2], 2001));
        assert!(!comes(&mut conns, 160, [10, 0, 0, 2], 2001));
        // Announced again, it is waited for longer.
        conns.add(Ts::new(150, 0), &expected(Some([10, 0, 0, 1]), 2000, 60));
        conns.add(Ts::new(170, 0), &expected(None, 2002, 60));
        assert!(comes(&mut conns, 170, [10, 0, 0, 1], 2000));
        assert_eq!(conns.stats(), ExpectedStats { announced: 4, met: 3, forgotten: 0 });
    }

    /// Zeek looks when a connection begins, and so does who sees both ends of the matter.
    #[test]
    fn what_others_announce_is_known_late_too() {
        let mut conns = ExpectedConns::new(KeyedHasher::with_seed(1));
        conns.add(Ts::new(100, 0), &expected(None, 2000, 60));
        conns.hear(Ts::new(100, 0), &expected(None, 2001, 60));
        let late = |conns: &mut ExpectedConns, port| {
            conns.of_late(Ts::new(101, 0), &conn([10, 0, 0, 1], port), Proto::Tcp).is_some()
        };
        assert_eq!([late(&mut conns, 2000), late(&mut conns, 2001)], [false, true]);
        assert!(conns.of(Ts::new(101, 0), &conn([10, 0, 0, 1], 2001), Proto::Tcp).is_some());
    }

    #[test]
    fn at_the_limit_the_oldest_is_given_up() {
        let mut conns = ExpectedConns::new(KeyedHasher::with_seed(1));
        for at in 0..=u32::try_from(EXPECTED_MAX).unwrap() {
            let orig = (at + 1).to_be_bytes();
            conns.add(Ts::new(100, 0), &expected(Some(orig), 2000, 60));
        }
        assert_eq!(conns.stats().forgotten, 1);
        assert!(conns.of(Ts::new(101, 0), &conn([0, 0, 0, 1], 2000), Proto::Tcp).is_none());
        assert!(conns.of(Ts::new(101, 0), &conn([0, 0, 0, 2], 2000), Proto::Tcp).is_some());
    }
}
