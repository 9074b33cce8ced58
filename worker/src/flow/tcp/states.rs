//! The state machine of the two ends, and what closes a connection.

use tyto_core::net::Side;
use tyto_core::time::Ts;

use super::sink::StreamSink;
use super::{ATTEMPT_DELAY_S, NEXT_EXPIRE_S, Tcp, service_port};
use super::{CLOSE_DELAY_S, EndState, INACTIVITY_S, INTERACTIVE_INACTIVITY_S, INTERACTIVE_PORTS};
use crate::decode::tcp::TcpFlags;
use crate::flow::conn::ConnCore;
use crate::flow::ports;

/// A segment as the state machine sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) ts: Ts,
    /// Role of the sender when the segment came.
    pub(super) side: Side,
    /// The sender.
    pub(super) sender: usize,
    /// Payload, bytes.
    pub(super) len: u32,
    pub(super) flags: TcpFlags,
}

/// What a segment led to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// The sender closed its side.
    pub(super) do_close: bool,
    /// It closed it in a way that ends the connection as such.
    pub(super) finish: bool,
    /// Both ends are established.
    pub(super) established: bool,
}

impl Tcp {
    /// Lets the sender's end go on to its next state.
    pub(super) fn change_state(
        &mut self,
        core: &mut ConnCore,
        step: &Step,
        seq: u32,
        outcome: &mut Outcome,
    ) {
        match self.ends[step.sender].state {
            EndState::Inactive => self.leave_inactive(core, step, seq, outcome),
            EndState::SynSent | EndState::SynAckSent => self.leave_syn_sent(core, step, outcome),
            EndState::Established | EndState::Partial => {
                self.leave_established(core, step, outcome)
            }
            EndState::Closed => self.leave_closed(core, step, outcome),
            EndState::Reset => {}
        }
    }

    fn leave_inactive(
        &mut self,
        core: &mut ConnCore,
        step: &Step,
        seq: u32,
        outcome: &mut Outcome,
    ) {
        let Step { sender, flags, .. } = *step;
        let peer = sender ^ 1;
        if flags.syn() {
            match step.side {
                Side::Orig => {
                    let sent = if flags.ack() { EndState::SynAckSent } else { EndState::SynSent };
                    self.enter(core, sender, sent);
                    core.timers.attempt = step.ts.plus_secs(ATTEMPT_DELAY_S);
                }
                Side::Resp => self.answer_syn(core, step, seq, outcome),
            }
        }
        if flags.fin() {
            self.enter(core, sender, EndState::Closed);
            outcome.do_close = true;
            outcome.finish = true;
        }
        if flags.rst() {
            self.enter(core, sender, EndState::Reset);
            let peer = self.ends[peer].state;
            let is_reject = match step.side {
                // SYN-ACK without SYN before it: a scan in reverse.
                Side::Orig => peer == EndState::Established,
                Side::Resp => matches!(peer, EndState::SynSent | EndState::SynAckSent),
            };
            outcome.do_close = true;
            outcome.finish = !is_reject;
        }
        if self.ends[sender].state == EndState::Inactive {
            self.begin_without_syn(core, step);
        }
    }

    /// The responder's first SYN.
    fn answer_syn(&mut self, core: &mut ConnCore, step: &Step, seq: u32, outcome: &mut Outcome) {
        let Step { sender, flags, .. } = *step;
        let peer = sender ^ 1;
        let is_reversed = !flags.ack()
            && self.ends[peer].state == EndState::SynAckSent
            && seq == self.ends[sender].start_seq;
        if is_reversed {
            // SYN and SYN-ACK passed in the wrong order.
            self.is_partial = false;
            core.flip();
            self.flip();
            self.enter(core, peer, EndState::Established);
            self.first_seen[Side::Orig.index()] = true;
        }
        if self.ends[peer].state == EndState::SynSent {
            self.enter(core, peer, EndState::Established);
        }
        self.enter(core, sender, EndState::Established);
        if self.ends[peer].state != EndState::Partial {
            self.established(core, outcome);
        }
    }

    /// The first segment of an end has no flag that would say what it begins.
    fn begin_without_syn(&mut self, core: &mut ConnCore, step: &Step) {
        let peer = step.sender ^ 1;
        let is_early_ack =
            step.side == Side::Resp && step.len == 0 && self.state(Side::Orig) == EndState::SynSent;
        if is_early_ack {
            // Some hosts acknowledge a SYN before they answer it.
            return;
        }
        if step.flags.ack() && self.ends[peer].state == EndState::Established {
            // The SYN was missed, not its answer.
            self.enter(core, step.sender, EndState::Established);
            self.is_partial = false;
            self.first_seen[step.side.index()] = true;
        } else {
            self.enter(core, step.sender, EndState::Partial);
        }
    }

    fn leave_syn_sent(&mut self, core: &mut ConnCore, step: &Step, outcome: &mut Outcome) {
        if step.flags.fin() {
            self.enter(core, step.sender, EndState::Closed);
            outcome.do_close = true;
            outcome.finish = true;
        }
        if step.flags.rst() {
            self.enter(core, step.sender, EndState::Reset);
            self.is_active = false;
            outcome.do_close = true;
        }
    }

    fn leave_established(&mut self, core: &mut ConnCore, step: &Step, outcome: &mut Outcome) {
        let Step { sender, flags, .. } = *step;
        let peer = sender ^ 1;
        let begins_late = flags.syn()
            && !flags.ack()
            && self.ends[sender].state == EndState::Partial
            && self.ends[peer].state == EndState::Inactive;
        if begins_late {
            self.enter(core, sender, EndState::SynSent);
        }
        if flags.fin() && !flags.rst() {
            self.enter(core, sender, EndState::Closed);
            let end = &self.ends[peer];
            if end.state == EndState::Reset && end.previous == EndState::Closed {
                // A FIN followed by a RST, and now our FIN: a normal end after all.
                self.enter(core, peer, EndState::Closed);
            }
            outcome.do_close = true;
            outcome.finish = true;
        }
        if flags.rst() {
            self.enter(core, sender, EndState::Reset);
            outcome.do_close = true;
            let end = &self.ends[peer];
            if end.state != EndState::Reset || end.previous != EndState::Established {
                self.is_active = false;
            }
        }
    }

    fn leave_closed(&mut self, core: &mut ConnCore, step: &Step, outcome: &mut Outcome) {
        // After FINs of both sides a RST changes nothing.
        if step.flags.rst() && self.ends[step.sender ^ 1].state != EndState::Closed {
            self.enter(core, step.sender, EndState::Reset);
            if !self.ends[step.sender].did_close {
                outcome.do_close = true;
            }
        }
    }

    /// The responder answered: the idle time is that of the service from now on.
    fn established(&self, core: &mut ConnCore, outcome: &mut Outcome) {
        let (orig, resp) = (self.state(Side::Orig), self.state(Side::Resp));
        outcome.established = orig == EndState::Established && resp == EndState::Established;
        let port = service_port(core, orig == EndState::Inactive, ports::is_tcp_server);
        if INTERACTIVE_PORTS.contains(&port) {
            core.set_inactivity_timeout(INTERACTIVE_INACTIVITY_S);
        }
    }

    /// Puts end `index` into `state`. When that ends the handshake, the idle time becomes that
    /// of a connection.
    fn enter(&mut self, core: &mut ConnCore, index: usize, state: EndState) {
        let was_handshake = self.ends.iter().all(|end| end.state.is_handshake());
        if was_handshake && !state.is_handshake() {
            core.set_inactivity_timeout(INACTIVITY_S);
        }
        self.ends[index].enter(state);
    }

    /// Tells the end of the stream that end `index` sent, once, when all of it was delivered.
    pub(super) fn check_end(
        &mut self,
        core: &mut ConnCore,
        index: usize,
        sink: &mut impl StreamSink,
    ) {
        let end = &self.ends[index];
        let is_closing =
            end.fin_count > 0 || matches!(end.state, EndState::Closed | EndState::Reset);
        if end.stream.ended || !is_closing || end.has_pending(&self.ends[index ^ 1]) {
            return;
        }
        self.ends[index].stream.ended = true;
        sink.end_of_side(core, self.view(), self.role_of(index));
        if self.close_deferred {
            let finish = self.deferred_finish;
            self.close_end(core, index, finish);
            self.close_deferred = false;
        }
    }

    /// End `index` closed its side. `finish`: in a way that ends the connection as such.
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
}
