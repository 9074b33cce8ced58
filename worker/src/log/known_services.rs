//! `known_services.log`: a service on a port of a local host, once a day: when its protocol is
//! recognised, else, as a service of no known protocol, some time after its connection.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use tyto_core::net::{Port, Proto};
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;

use super::lately::Lately;
use crate::analyzer::state::Shared;
use crate::decode::addr::Addr;
use crate::flow::conn::ConnCore;
use crate::flow::hash::KeyedHasher;
use crate::output::{Claim, ClaimKey, Output};

/// A service is logged again after this, seconds (Zeek: `create_expire=1day`).
const EXPIRY_S: u64 = 86_400;
/// Services that one worker remembers. At the limit those are forgotten that are over, else
/// all: the cluster's table, which is asked in any case, still knows them.
const SERVICES_MAX: usize = 1 << 18;
/// A connection without a protocol waits this long for another one to show the protocol of its
/// port, seconds.
const UNKNOWN_DELAY_S: u64 = 300;
/// Ports whose protocol is not known yet that may wait. At the limit the oldest is told early.
const WAITING_MAX: usize = 1 << 16;

/// A service of a host.
#[derive(Debug, LogRecord)]
#[log(stream = "known_services")]
pub struct KnownServicesLog {
    /// When it was seen.
    pub ts: Ts,
    /// Where it runs.
    pub host: IpAddr,
    /// Its port.
    pub port_num: Port,
    /// Its transport.
    pub port_proto: Proto,
    /// Its protocols; empty when none was recognised.
    pub service: BTreeSet<&'static str>,
}

/// What the responder did on the connection of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Responder {
    /// It answered: shook hands, or sent a datagram.
    pub is_active: bool,
    /// Bytes that it sent.
    pub bytes: u64,
}

/// The services that this worker asked about already.
#[derive(Debug)]
pub struct KnownServices {
    seen: Lately<(Place, &'static str)>,
    waiting: VecDeque<(Ts, Place)>,
    /// No more packets come: nothing new waits.
    is_ending: bool,
}

/// Host, port and transport.
type Place = (Addr, u16, Proto);

impl KnownServices {
    /// Nothing is known; services are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            seen: Lately::new(hasher, EXPIRY_S, SERVICES_MAX),
            waiting: VecDeque::new(),
            is_ending: false,
        }
    }

    /// Services forgotten at the limit.
    pub const fn forgotten(&self) -> u64 {
        self.seen.forgotten()
    }

    /// A protocol of `conn` was recognised, or it is over.
    fn found(
        &mut self,
        now: Ts,
        conn: &ConnCore,
        proto: Proto,
        responder: Responder,
        out: &mut Output,
    ) -> bool {
        let mut names = conn.services.names();
        let first = names.next();
        let only = first.filter(|_| names.next().is_none());
        let is_silent_dns = only == Some("DNS") && responder.bytes == 0;
        if only == Some("ftp-data") || is_silent_dns || !is_service(proto, conn, responder) {
            return false;
        }
        let place = (conn.resp.addr, conn.resp.port, proto);
        if first.is_none() {
            if self.is_ending {
                return true;
            }
            if self.waiting.len() >= WAITING_MAX
                && let Some((since, place)) = self.waiting.pop_front()
            {
                self.tell(now, since, place, [""], out);
            }
            self.waiting.push_back((now, place));
        } else {
            self.tell(now, now, place, conn.services.names(), out);
        }
        true
    }

    /// Whether there are ports whose protocol did not show in time; at the end, all are such.
    #[inline]
    fn is_due(&self, now: Ts) -> bool {
        self.waiting
            .front()
            .is_some_and(|(since, _)| since.plus_secs(UNKNOWN_DELAY_S) <= now || self.is_ending)
    }

    /// Tells of those ports.
    #[cold]
    fn expire(&mut self, now: Ts, out: &mut Output) {
        while self.is_due(now) {
            let Some((since, place)) = self.waiting.pop_front() else { return };
            self.tell(now, since, place, [""], out);
        }
    }

    fn tell(
        &mut self,
        now: Ts,
        since: Ts,
        place: Place,
        services: impl IntoIterator<Item = &'static str>,
        out: &mut Output,
    ) {
        let services = services.into_iter();
        let mut services: Vec<_> =
            services.filter(|service| self.seen.is_new((place, service), now)).collect();
        if services.is_empty() {
            return;
        }
        services.sort_unstable();
        let (host, port, proto) = place;
        let names = services.join(",");
        let parts: [&[u8]; 4] = [
            &host.bits().to_be_bytes(),
            &port.to_be_bytes(),
            proto.as_str().as_bytes(),
            names.as_bytes(),
        ];
        let claim = Claim {
            table: KnownServicesLog::STREAM,
            key: ClaimKey::of_parts(&parts),
            ts: now,
            expiry_s: EXPIRY_S,
        };
        let row = KnownServicesLog {
            ts: since,
            host: host.into(),
            port_num: Port(port),
            port_proto: proto,
            service: services.into_iter().filter(|service| !service.is_empty()).collect(),
        };
        out.claim(claim, &row);
    }
}

impl Shared {
    /// A protocol of `conn` was recognised.
    pub fn service_recognised(
        &mut self,
        now: Ts,
        conn: &mut ConnCore,
        proto: Proto,
        responder: Responder,
        out: &mut Output,
    ) {
        if self.site.is_local(conn.resp.addr) == Some(true) {
            let told = self.known_services.found(now, conn, proto, responder, out);
            conn.service_told |= told;
        }
    }

    /// `conn` is over.
    pub(crate) fn service_over(
        &mut self,
        now: Ts,
        conn: &ConnCore,
        proto: Proto,
        responder: Responder,
        out: &mut Output,
    ) {
        if !conn.service_told && self.site.is_local(conn.resp.addr) == Some(true) {
            self.known_services.found(now, conn, proto, responder, out);
        }
    }

    /// No more packets will come. Connections that end only now wait for nothing, and are not
    /// told without a protocol (Zeek schedules nothing once it terminates).
    pub(crate) const fn end_services(&mut self) {
        self.known_services.is_ending = true;
    }

    /// Time has passed. Asked before each packet.
    #[inline]
    pub(crate) fn expire_services(&mut self, now: Ts, out: &mut Output) {
        if self.known_services.is_due(now) {
            self.known_services.expire(now, out);
        }
    }
}

/// Whether the responder is a server at all.
fn is_service(proto: Proto, conn: &ConnCore, responder: Responder) -> bool {
    match proto {
        Proto::Tcp => responder.is_active || conn.history.letters().contains(&b'h'),
        Proto::Udp => responder.is_active,
        _ => false,
    }
}
