//! Connections whose announcement may come after their first bytes: another worker saw who
//! announces them. Of what nobody recognises the first bytes are kept for a moment, so that the
//! announced analyzer, when it comes, begins at the begin. Only while the neighbours told that
//! such connections are about.

use std::collections::VecDeque;

use tyto_core::time::Ts;

use crate::decode::addr::Addr;
use crate::flow::conn::ConnCore;
use crate::flow::key::FlowKey;

/// How long after its begin a connection may be announced, seconds: the way over a proxy takes
/// milliseconds, a silent link hears with its next packet, after a tenth of a second at most.
const LATE_S: u64 = 2;
/// Bytes of one connection that are kept.
pub(super) const CONN_BYTES_MAX: usize = 64 << 10;
/// Bytes of all connections that are kept. Past it no further ones are, and that is counted.
const TOTAL_BYTES_MAX: usize = 16 << 20;
/// Connections that may be announced yet. Past it further ones are not looked for, which is
/// counted.
const CONNS_MAX: usize = 1 << 14;
/// How long one word of the neighbours keeps the attention, seconds.
const ATTENTION_S: u64 = 300;
/// How often a worker asks for attention at most, seconds.
const ASK_EVERY_S: u64 = 60;

/// The connections that may be announced yet.
#[derive(Debug, Default)]
pub struct Late {
    attends_until: Ts,
    asks_from: Ts,
    conns: VecDeque<Begun>,
    kept_bytes: usize,
    stats: LateStats,
}

/// What happened to announcements that came late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateStats {
    /// Connections that were analysed from their begin all the same.
    pub joined: u64,
    /// Connections that have the announced service, and whose content was over.
    pub missed: u64,
    /// Connections and bytes that were not kept, because there were too many.
    pub refused: u64,
}

/// A connection that nobody recognised.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// When its first bytes came.
    at: Ts,
    /// Its key.
    pub key: FlowKey,
    /// Its serial number.
    pub serial: u64,
    orig: Addr,
    resp: (Addr, u16),
}

impl Late {
    /// Connections are about to be announced, by others.
    pub fn attend(&mut self, now: Ts) {
        self.attends_until = self.attends_until.max(now.plus_secs(ATTENTION_S));
    }

    /// Whether others announce connections these days.
    pub fn attends(&self, now: Ts) -> bool {
        now < self.attends_until
    }

    /// Whether it is time to ask the others for attention; true once in a while.
    pub fn asks(&mut self, now: Ts) -> bool {
        let is_time = now >= self.asks_from;
        if is_time {
            self.asks_from = now.plus_secs(ASK_EVERY_S);
        }
        is_time
    }

    /// `conn` begins to carry something, and nobody recognises it by its port. False when there
    /// are too many.
    pub(super) fn begins(&mut self, now: Ts, conn: &ConnCore) -> bool {
        if self.conns.len() >= CONNS_MAX {
            self.stats.refused += 1;
            return false;
        }
        let (orig, resp) = (conn.orig.addr, (conn.resp.addr, conn.resp.port));
        self.conns.push_back(Begun { at: now, key: conn.key(), serial: conn.serial, orig, resp });
        true
    }

    /// The next connection that will not be announced any more.
    pub fn pop_over(&mut self, now: Ts) -> Option<Begun> {
        let is_over = self.conns.front()?.at.plus_secs(LATE_S) <= now;
        if is_over { self.conns.pop_front() } else { None }
    }

    /// The connections that are announced as those from `orig`, or anybody, to `resp`.
    pub fn announced(&self, orig: Option<Addr>, resp: (Addr, u16)) -> Vec<Begun> {
        let fits =
            |begun: &&Begun| begun.resp == resp && orig.is_none_or(|orig| orig == begun.orig);
        self.conns.iter().filter(fits).copied().collect()
    }

    /// Whether `more` bytes of a connection, of which `kept` are kept, may be kept.
    pub(super) fn keep(&mut self, kept: usize, more: usize) -> bool {
        if kept + more > CONN_BYTES_MAX {
            return false;
        }
        if self.kept_bytes + more > TOTAL_BYTES_MAX {
            self.stats.refused += 1;
            return false;
        }
        self.kept_bytes += more;
        true
    }

    /// Bytes are kept no longer.
    pub(super) const fn released(&mut self, bytes: usize) {
        self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
    }

    /// A late announcement found its connection, whose bytes `were_kept`.
    pub const fn joined(&mut self, were_kept: bool) {
        if were_kept {
            self.stats.joined += 1;
        } else {
            self.stats.missed += 1;
        }
    }

    /// What happened so far.
    pub const fn stats(&self) -> LateStats {
        self.stats
    }
}
