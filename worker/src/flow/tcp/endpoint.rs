//! One end of a TCP connection: its state, its place in the sequence space, its window.

use tyto_core::time::Ts;

use super::window::Window;
use crate::flow::history::ScaledCount;
use crate::reassembly::Reassembler;

/// State of an end, in Zeek's words and order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndState {
    /// Sent nothing.
    #[default]
    Inactive,
    /// Sent a SYN.
    SynSent,
    /// Sent a SYN with ACK although no SYN of the other end was seen.
    SynAckSent,
    /// Sent something, but no SYN.
    Partial,
    /// Opened the connection on its side.
    Established,
    /// Sent a FIN.
    Closed,
    /// Sent a RST.
    Reset,
}

impl EndState {
    /// The handshake goes on on this side.
    pub(super) const fn is_handshake(self) -> bool {
        matches!(self, Self::Inactive | Self::SynSent | Self::SynAckSent)
    }
}

/// One end.
#[derive(Debug, Default)]
pub struct Endpoint {
    pub(super) state: EndState,
    pub(super) previous: EndState,
    /// Number of its SYN, or one made up.
    pub(super) start_seq: u32,
    /// Next number after what it sent.
    pub(super) last_seq: u32,
    /// What the other end acknowledged.
    pub(super) ack_seq: u32,
    pub(super) seq_wraps: u32,
    pub(super) ack_wraps: u32,
    pub(super) fin_count: u16,
    pub(super) rst_count: u16,
    /// Where its FIN ends, relative.
    pub(super) fin_seq: u64,
    pub(super) did_close: bool,
    /// Time of its latest segment.
    pub(super) last_time: Ts,
    pub(super) history_last_syn: u32,
    pub(super) history_last_fin: u32,
    pub(super) history_last_rst: u32,
    pub(super) bad_checksums: ScaledCount,
    pub(super) retransmissions: ScaledCount,
    pub(super) zero_windows: ScaledCount,
    pub(super) gaps: ScaledCount,
    pub(super) stream: Reassembler,
    pub(super) window: Window,
}

impl Endpoint {
    /// Enters `state`.
    pub(super) fn enter(&mut self, state: EndState) {
        if self.state != state {
            self.previous = self.state;
            self.state = state;
        }
    }

    /// Begins at `seq`, the number of the SYN; everything before is forgotten.
    pub(super) fn begin(&mut self, seq: u32, last: u32) {
        self.start_seq = seq;
        self.ack_seq = seq;
        self.last_seq = last;
    }

    pub(super) fn update_last(&mut self, seq: u32) {
        self.seq_wraps = self.seq_wraps.wrapping_add(u32::from(seq < self.last_seq));
        self.last_seq = seq;
    }

    pub(super) fn update_ack(&mut self, seq: u32) {
        self.ack_wraps = self.ack_wraps.wrapping_add(u32::from(seq < self.ack_seq));
        self.ack_seq = seq;
    }

    /// What the other end acknowledged, relative.
    pub(super) fn acked(&self) -> u64 {
        self.relative(self.ack_seq, self.ack_wraps)
    }

    /// The other end acknowledged nothing, or only the SYN.
    pub(super) fn nothing_acked(&self) -> bool {
        let (ack, start) = (full(self.ack_seq, self.ack_wraps), self.start());
        ack == start || ack == start.wrapping_add(1)
    }

    /// `seq` relative to the SYN, by the number of wraps before it.
    pub(super) fn relative(&self, seq: u32, wraps: u32) -> u64 {
        full(seq, wraps).wrapping_sub(self.start())
    }

    /// The start in the full sequence space.
    fn start(&self) -> u64 {
        u64::from(self.start_seq)
    }

    /// Bytes it sent by the sequence numbers, SYN and FIN not counted.
    pub(super) fn size(&self, peer: EndState) -> u64 {
        // A SYN answered by its own sender's RST: a half-open connection that was noticed, whose
        // numbers say nothing about data.
        if self.previous == EndState::SynSent
            && self.state == EndState::Reset
            && peer == EndState::Inactive
            && !self.nothing_acked()
        {
            return 0;
        }
        let last = full(self.last_seq, self.seq_wraps);
        let acked = full(self.ack_seq, self.ack_wraps);
        let size = last.max(acked).wrapping_sub(self.start()).saturating_sub(1);
        size.saturating_sub(u64::from(self.fin_count > 0))
    }

    /// It ended its side in order, or goes on in order.
    pub(super) fn is_clean(&self) -> bool {
        self.state == EndState::Established
            || (self.state == EndState::Closed && self.previous == EndState::Established)
    }

    /// Bytes it sent are still to be delivered, or the `peer`'s to be acknowledged by it.
    pub(super) fn has_pending(&self, peer: &Self) -> bool {
        if self.stream.is_skipping() {
            return false;
        }
        let delivered = self.start().wrapping_add(self.stream.delivered());
        let last = full(self.last_seq, self.seq_wraps);
        if last < delivered {
            return false;
        }
        // A FIN takes one number, a RST none.
        if delivered != last.wrapping_sub(1) && delivered != last {
            return true;
        }
        // After a RST no more acknowledgements come.
        self.state != EndState::Reset && peer.stream.has_pending()
    }
}

/// A number in the space of 64 bits.
pub(super) fn full(seq: u32, wraps: u32) -> u64 {
    (u64::from(wraps) << 32) | u64::from(seq)
}

/// How far `a` is ahead of `b`.
pub(super) const fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}
