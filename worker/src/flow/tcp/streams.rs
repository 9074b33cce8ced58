//! The two byte streams of a connection: what segments and acknowledgements bring to the
//! reassembly, and what it tells of gaps and ends.

use tyto_core::net::Side;

use super::sink::{StreamEnd, StreamSink, StreamView};
use super::{CLOSE_DELAY_S, EndState, Endpoint, NEXT_EXPIRE_S, Tcp, weird};
use crate::flow::conn::ConnCore;
use crate::reassembly::{Delivery, Followed, SenderView};

impl Tcp {
    /// End `sender` sent bytes. True when with them its stream is no longer followed.
    pub(super) fn sent(
        &mut self,
        core: &mut ConnCore,
        sender: usize,
        seq: u64,
        payload: &[u8],
        sink: &mut impl StreamSink,
    ) -> bool {
        let role = self.role_of(sender);
        let stream_view = if sink.listens() { self.view() } else { StreamView::default() };
        let peer_state = self.ends[sender ^ 1].state;
        let end = &mut self.ends[sender];
        let view = SenderView {
            nothing_acked: end.nothing_acked(),
            sent_bytes: end.size(peer_state),
            acked: end.acked(),
            beyond_room: sink.beyond_room(),
        };
        let mut out = |delivery: Delivery<'_>| {
            if let Delivery::Bytes(bytes) = delivery {
                sink.deliver(core, stream_view, role, bytes);
            }
        };
        let before = end.stream.beyond_bytes();
        let followed = end.stream.sent(seq, payload, view, &mut out);
        let after = end.stream.beyond_bytes();
        if before != after {
            sink.beyond_changed(before, after);
        }
        let name = match followed {
            Followed::Fine => return false,
            Followed::AboveHoleUnacked => weird::ABOVE_HOLE,
            Followed::TooMuchUnacked => weird::EXCESSIVE_UNACKED,
            // A bound of ours, which Zeek does not have: counted, not told.
            Followed::NoRoom => return true,
        };
        sink.weird(core, name, "", weird::TCP);
        true
    }

    /// The bytes of end `index` before `seq` were acknowledged.
    pub(super) fn acked(
        &mut self,
        core: &mut ConnCore,
        index: usize,
        seq: u64,
        sink: &mut impl StreamSink,
    ) {
        let end = &self.ends[index];
        let seq = if end.fin_count > 0 { seq.min(end.fin_seq.wrapping_sub(1)) } else { seq };
        if !end.stream.is_news(seq) {
            return;
        }
        // Of most, all that is acknowledged was delivered: there is nothing to tell.
        let role = self.role_of(index);
        let mut view =
            if end.stream.is_delivered(seq) { StreamView::default() } else { self.view() };
        let is_clean = self.ends.iter().all(Endpoint::is_clean);
        let is_partial = self.is_partial;
        let counts = !end.stream.is_skipping()
            && self.ends.iter().all(|end| end.state == EndState::Established);
        let Endpoint { stream, gaps, .. } = &mut self.ends[index];
        let before = stream.beyond_bytes();
        let mut missed = false;
        let mut out = |delivery: Delivery<'_>| match delivery {
            Delivery::Bytes(bytes) => sink.deliver(core, view, role, bytes),
            Delivery::Gap(gap) => {
                missed = true;
                if is_clean {
                    core.missed_bytes = core.missed_bytes.wrapping_add(gap.len);
                    if gaps.count() {
                        core.history.push(role, b'G');
                    }
                }
                sink.gap(core, view, role, gap.len);
                view.had_gap = true;
            }
        };
        stream.acked(seq, is_partial, &mut out);
        let after = stream.beyond_bytes();
        self.had_gap |= missed;
        if before != after {
            sink.beyond_changed(before, after);
        }
        if counts {
            sink.acknowledged(missed);
        }
        self.check_end(core, index, sink);
    }

    /// Tells the end of the stream that end `index` sent, once, when all of it was delivered.
    #[inline]
    pub(super) fn check_end(
        &mut self,
        core: &mut ConnCore,
        index: usize,
        sink: &mut impl StreamSink,
    ) {
        let end = &self.ends[index];
        if end.fin_count > 0 || matches!(end.state, EndState::Closed | EndState::Reset) {
            self.end_if_whole(core, index, sink);
        }
    }

    #[inline(never)]
    fn end_if_whole(&mut self, core: &mut ConnCore, index: usize, sink: &mut impl StreamSink) {
        let end = &self.ends[index];
        if end.stream.ended || end.has_pending(&self.ends[index ^ 1]) {
            return;
        }
        let how = if end.state == EndState::Reset { StreamEnd::Reset } else { StreamEnd::Finished };
        self.ends[index].stream.ended = true;
        sink.end_of_side(core, self.view(), self.role_of(index), how);
        if self.close_deferred {
            let both_closed = self.ends.iter().all(|end| end.did_close);
            if both_closed && self.ends[index].has_pending(&self.ends[index ^ 1]) {
                sink.weird(core, weird::PENDING_WHEN_CLOSED, "", weird::TCP);
            }
            let finish = self.deferred_finish;
            self.close_end(core, index, finish);
            self.close_deferred = false;
        }
    }

    /// End `index` closed its side. Not for each packet, and therefore not within. `finish`: in a way that ends the connection as such.
    #[inline(never)]
    pub(super) fn close_end(&mut self, core: &mut ConnCore, index: usize, finish: bool) {
        let peer = index ^ 1;
        if self.ends[index].has_pending(&self.ends[peer]) {
            self.close_deferred = true;
            self.deferred_finish |= finish;
            return;
        }
        self.close_deferred = false;
        if self.ends[index].did_close {
            return;
        }
        self.ends[index].did_close = true;
        let (end, peer) = (&self.ends[index], &self.ends[peer]);
        let is_complete =
            end.state == EndState::Reset || peer.did_close || peer.state == EndState::Inactive;
        if is_complete {
            let is_connection =
                end.previous != EndState::Inactive || peer.state != EndState::Inactive;
            if is_connection && (finish || std::mem::take(&mut self.deferred_finish)) {
                self.is_active = false;
            }
            core.timers.cancel_transport();
            core.timers.close = core.last.plus_secs(CLOSE_DELAY_S);
        } else if end.previous != EndState::Inactive {
            // Look for the other side's close.
            core.timers.add_expire(core.last.plus_secs(NEXT_EXPIRE_S));
        }
    }

    /// Originator and responder change places, for analyzers too.
    pub(super) fn swap_roles(&mut self, core: &mut ConnCore, sink: &mut impl StreamSink) {
        core.flip();
        self.flip();
        sink.flipped(core);
    }

    /// Bytes beyond holes that wait, of both ends.
    pub fn beyond_bytes(&self) -> u64 {
        self.end(Side::Orig).stream.beyond_bytes() + self.end(Side::Resp).stream.beyond_bytes()
    }
}
