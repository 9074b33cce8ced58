//! UDP flows: who sent how much, and whose datagrams were broken.

use tyto_core::net::Side;

use super::conn::ConnCore;
use super::history::ScaledCount;
use super::sent::Sent;
use crate::log::known_services::Responder;

/// Idle time after which a flow is over, seconds (Zeek: `udp_inactivity_timeout`).
pub const INACTIVITY_S: u32 = 60;

/// State of a UDP flow.
#[derive(Debug, Default)]
pub struct Udp {
    sent: Sent,
    bad_checksums: [ScaledCount; 2],
}

impl Udp {
    /// `side` sent a datagram with `len` bytes by its own header, which may be wrong.
    pub fn datagram(&mut self, core: &mut ConnCore, side: Side, len: i64) {
        core.history.push_once(side, b'D');
        self.sent.add(side, len);
    }

    /// `side` sent a datagram with a wrong checksum.
    pub fn bad_checksum(&mut self, core: &mut ConnCore, side: Side) {
        let first = self.bad_checksums.get_mut(side.index()).is_some_and(ScaledCount::count);
        if first {
            core.history.push(side, b'C');
        }
    }

    /// Payload bytes of `side`; `None` when it sent nothing.
    pub fn sent(&self, side: Side) -> Option<u64> {
        self.sent.bytes(side)
    }

    /// What the responder did.
    pub fn responder(&self) -> Responder {
        let bytes = self.sent(Side::Resp).unwrap_or_default();
        Responder { is_active: self.sent.has_sent(Side::Resp), bytes }
    }

    /// Payload bytes of both sides.
    pub fn total(&self) -> u64 {
        [Side::Orig, Side::Resp].into_iter().filter_map(|side| self.sent(side)).sum()
    }
}
