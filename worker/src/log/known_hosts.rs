//! `known_hosts.log`: a local host that took part in an established TCP connection, once a day.

use std::net::IpAddr;

use hashbrown::HashMap;
use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};

use crate::decode::addr::Addr;
use crate::flow::hash::KeyedHasher;
use crate::output::{Claim, Output};

/// A host is logged again after this, seconds (Zeek: `create_expire=1day`).
const EXPIRY_S: u64 = 86_400;
/// Hosts that one worker remembers. At the limit it forgets them all: the cluster's table, which
/// is asked in any case, still knows them.
const HOSTS_MAX: usize = 1 << 20;

/// A host that is alive.
#[derive(Debug, LogRecord)]
#[log(stream = "known_hosts")]
pub struct KnownHostsLog {
    /// When it was seen.
    pub ts: Ts,
    /// Its address.
    pub host: IpAddr,
}

/// The hosts that this worker asked about already.
#[derive(Debug)]
pub struct KnownHosts {
    seen: HashMap<Addr, Ts, KeyedHasher>,
    forgotten: u64,
}

impl KnownHosts {
    /// Nobody is known; addresses are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self { seen: HashMap::with_hasher(hasher), forgotten: 0 }
    }

    /// A local host took part in an established connection.
    pub fn found(&mut self, host: Addr, now: Ts, out: &mut Output) {
        let expiry = Interval::from_secs(EXPIRY_S.cast_signed());
        if self.seen.get(&host).is_some_and(|seen| now.since(*seen) < expiry) {
            return;
        }
        if self.seen.len() >= HOSTS_MAX {
            self.forgotten += self.seen.len() as u64;
            self.seen.clear();
        }
        self.seen.insert(host, now);
        let claim = Claim {
            table: KnownHostsLog::STREAM,
            key: IpAddr::from(host).into(),
            ts: now,
            expiry_s: EXPIRY_S,
        };
        out.claim(claim, &KnownHostsLog { ts: now, host: host.into() });
    }

    /// Hosts forgotten at the limit.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}
