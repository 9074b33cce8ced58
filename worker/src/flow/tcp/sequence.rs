//! Sequence numbers: where an end begins, what a number means relative to that, which numbers
//! are believed.

use super::endpoint::{EndState, Endpoint, ahead};
use super::sink::StreamSink;
use super::{Advance, JUMP_MAX, Tcp, is_jump, weird};
use crate::decode::tcp::TcpFlags;
use crate::flow::conn::ConnCore;

impl Tcp {
    /// Sets where end `sender` begins, at its first segment or when a SYN begins it anew.
    pub(super) fn begin_sender(
        &mut self,
        core: &mut ConnCore,
        sender: usize,
        flags: TcpFlags,
        seq: u32,
        last_seq: u32,
        sink: &mut impl StreamSink,
    ) {
        let peer_state = self.ends[sender ^ 1].state;
        let end = &mut self.ends[sender];
        if end.state == EndState::Inactive {
            return begin_end(end, flags, seq, last_seq);
        }
        if !flags.syn() {
            return;
        }
        if matches!(end.state, EndState::Established | EndState::Partial)
            && end.size(peer_state) > 0
        {
            sink.weird(core, weird::SYN_INSIDE, "", None);
        }
        let is_open = !matches!(end.state, EndState::Closed | EndState::Reset);
        if is_open && seq != end.start_seq {
            sink.weird(core, weird::SYN_SEQ_JUMP, "", None);
        }
        begin_end(end, flags, seq, last_seq);
    }

    /// Takes the number that the sender acknowledges of its `peer`; gives it relative.
    pub(super) fn note_ack(
        &mut self,
        core: &mut ConnCore,
        peer: usize,
        flags: TcpFlags,
        ack: u32,
        sink: &mut impl StreamSink,
    ) -> u64 {
        let sender_state = self.ends[peer ^ 1].state;
        let end = &mut self.ends[peer];
        if end.state == EndState::Inactive {
            // The sender acknowledges what an end sent of which nothing passed here.
            let has_begun = matches!(
                sender_state,
                EndState::SynSent | EndState::SynAckSent | EndState::Established
            );
            if has_begun && !flags.is_special() && !core.did_weird {
                sink.weird(core, weird::SPLIT_ROUTING, "", None);
            }
            // As though there had been a SYN, so that relative numbers stay consistent.
            end.begin(ack.wrapping_sub(1), ack.wrapping_sub(1));
            return 1;
        }
        let (acked, is_before_start) = relative(end, ack, end.ack_seq, end.ack_wraps);
        if is_before_start {
            sink.weird(core, weird::ACK_UNDERFLOW, "", weird::TCP);
            return 0;
        }
        // What a RST acknowledges is not to be trusted.
        if !flags.rst() {
            update_ack(end, ack);
        }
        acked
    }
}

/// Sets where `end` begins, at its first segment or when a SYN begins it anew.
fn begin_end(end: &mut Endpoint, flags: TcpFlags, seq: u32, last_seq: u32) {
    let differs = seq != end.start_seq;
    match end.state {
        EndState::Inactive if flags.syn() => end.begin(seq, last_seq),
        // As though there had been a SYN; the first segment must not look like a repetition.
        EndState::Inactive => end.begin(seq.wrapping_sub(1), seq),
        EndState::SynSent | EndState::SynAckSent if flags.syn() && differs => {
            end.begin(seq, last_seq);
        }
        // A guess: the connection was not established after all, and this SYN sets it up.
        EndState::Established | EndState::Partial if flags.syn() => end.begin(seq, last_seq),
        // The numbers came from a RST that may have been forged.
        EndState::Reset if flags.syn() && end.previous == EndState::Inactive => {
            end.begin(seq, last_seq);
        }
        _ => {}
    }
}

/// `seq` relative to the begin of `end`, and whether it lies before it. `last` and `wraps` tell
/// where the numbers of its kind are.
pub(super) fn relative(end: &Endpoint, seq: u32, last: u32, wraps: u32) -> (u64, bool) {
    let delta = ahead(seq, last);
    let wraps = if delta < 0 && wraps > 0 && seq > last {
        wraps - 1
    } else if delta > 0 && seq < last {
        wraps.wrapping_add(1)
    } else {
        wraps
    };
    if wraps == 0 {
        let delta = ahead(seq, end.start_seq);
        return (i64::from(delta).cast_unsigned(), delta < 0);
    }
    (end.relative(seq, wraps), false)
}

/// Takes what the other end acknowledged.
fn update_ack(end: &mut Endpoint, ack: u32) {
    let delta = ahead(ack, end.ack_seq);
    let is_broken = ack == 0 && delta > JUMP_MAX;
    if delta > 0 && !is_broken {
        end.update_ack(ack);
    }
}

/// Takes the number behind a segment of `end`.
pub(super) fn update_last(end: &mut Endpoint, seq: u32, flags: TcpFlags) -> Advance {
    let delta = ahead(seq, end.last_seq);
    let none = Advance { is_retransmission: false, is_ahead: delta > 0 };
    if (flags.syn() || flags.rst()) && is_jump(end.last_seq, seq) {
        return none;
    }
    // Of connections beyond 2 GB only SYN and FIN may pass here: believe the FIN.
    if flags.fin() && end.last_seq == end.start_seq.wrapping_add(1) {
        end.update_last(seq);
        return none;
    }
    if end.state == EndState::Reset {
        return none;
    }
    if delta > 0 {
        end.update_last(seq);
        return none;
    }
    Advance { is_retransmission: true, is_ahead: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(seq: u32) -> Endpoint {
        let mut end = Endpoint::default();
        begin_end(&mut end, TcpFlags(0x02), seq, seq.wrapping_add(1));
        end
    }

    #[test]
    fn numbers_count_on_beyond_the_wrap() {
        let mut end = begun(u32::MAX - 9);
        update_last(&mut end, 100, TcpFlags(0x10));
        assert_eq!(end.seq_wraps, 1);
        assert_eq!(relative(&end, 100, end.last_seq, end.seq_wraps), (110, false));
        assert_eq!(relative(&end, u32::MAX, end.last_seq, end.seq_wraps), (9, false));
    }

    #[test]
    fn a_number_before_the_begin_is_told() {
        let end = begun(1000);
        let (_, is_before) = relative(&end, 900, end.last_seq, end.seq_wraps);
        assert!(is_before);
    }

    #[test]
    fn a_reset_with_a_far_number_moves_nothing() {
        let mut end = begun(1000);
        update_last(&mut end, 1000 + 2_000_000, TcpFlags(0x04));
        assert_eq!(end.last_seq, 1001);
        update_last(&mut end, 1000 + 2_000_000, TcpFlags(0x10));
        assert_eq!(end.last_seq, 2_001_000);
    }
}
