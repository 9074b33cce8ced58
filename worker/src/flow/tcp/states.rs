//! The state machine of the two ends, and what closes a connection.

use tyto_core::net::Side;
use tyto_core::time::Ts;

use super::sink::StreamSink;
use super::{ATTEMPT_DELAY_S, EndState, INACTIVITY_S, INTERACTIVE_INACTIVITY_S};
use super::{INTERACTIVE_PORTS, Tcp, service_port, weird};
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
    /// Sequence number as sent.
    pub(super) seq: u32,
    /// Acknowledgement number as sent.
    pub(super) ack: u32,
    /// It ends behind all that its sender sent before.
    pub(super) is_ahead: bool,
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
        outcome: &mut Outcome,
        sink: &mut impl StreamSink,
    ) {
        match self.ends[step.sender].state {
            EndState::Inactive => self.leave_inactive(core, step, outcome, sink),
            EndState::SynSent | EndState::SynAckSent => {
                self.leave_syn_sent(core, step, outcome, sink);
            }
            EndState::Established | EndState::Partial => {
                self.leave_established(core, step, outcome, sink);
            }
            EndState::Closed => self.leave_closed(core, step, outcome, sink),
            EndState::Reset => after_reset(core, step, sink),
        }
    }

    #[inline(never)]
    fn leave_inactive(
        &mut self,
        core: &mut ConnCore,
        step: &Step,
        outcome: &mut Outcome,
        sink: &mut impl StreamSink,
    ) {
        let Step { sender, flags, .. } = *step;
        let peer = sender ^ 1;
        if flags.syn() {
            match step.side {
                Side::Orig => {
                    if flags.ack() {
                        sink.weird(core, weird::ORIG_SYN_ACK, "", weird::TCP);
                    }
                    let sent = if flags.ack() { EndState::SynAckSent } else { EndState::SynSent };
                    self.enter(core, sender, sent);
                    core.timers.attempt = step.ts.plus_secs(ATTEMPT_DELAY_S);
                }
                Side::Resp => self.answer_syn(core, step, outcome, sink),
            }
        }
        if flags.fin() {
            self.enter(core, sender, EndState::Closed);
            outcome.do_close = true;
            outcome.finish = true;
            if self.ends[peer].state != EndState::Partial && !flags.syn() {
                sink.weird(core, weird::SPONTANEOUS_FIN, "", weird::TCP);
            }
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
            if !is_reject && peer == EndState::Inactive {
                sink.weird(core, weird::SPONTANEOUS_RST, "", weird::TCP);
            }
        }
        if self.ends[sender].state == EndState::Inactive {
            self.begin_without_syn(core, step);
        }
    }

    /// The responder's first SYN.
    fn answer_syn(
        &mut self,
        core: &mut ConnCore,
        step: &Step,
        outcome: &mut Outcome,
        sink: &mut impl StreamSink,
    ) {
        let Step { sender, flags, .. } = *step;
        let peer = sender ^ 1;
        if flags.ack() {
            let end = &self.ends[peer];
            let is_known = !matches!(end.state, EndState::Inactive | EndState::Partial);
            if is_known && !is_between(step.ack, end.start_seq, end.last_seq) {
                sink.weird(core, weird::BAD_SYN_ACK, "", weird::TCP);
            }
        } else if self.ends[peer].state == EndState::SynAckSent
            && step.seq == self.ends[sender].start_seq
        {
            // SYN and SYN-ACK passed in the wrong order.
            self.is_partial = false;
            self.swap_roles(core, sink);
            self.enter(core, peer, EndState::Established);
            self.first_seen[Side::Orig.index()] = true;
        } else {
            sink.weird(core, weird::SIMULTANEOUS_OPEN, "", weird::TCP);
        }
        match self.ends[peer].state {
            EndState::SynSent => self.enter(core, peer, EndState::Established),
            EndState::Inactive => sink.weird(core, weird::UNSOLICITED_SYN, "", weird::TCP),
            _ => {}
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

    #[inline(never)]
    fn leave_syn_sent(
        &mut self,
        core: &mut ConnCore,
        step: &Step,
        outcome: &mut Outcome,
        sink: &mut impl StreamSink,
    ) {
        let Step { sender, flags, .. } = *step;
        let (state, peer_state) = (self.ends[sender].state, self.ends[sender ^ 1].state);
        if flags.syn() {
            let is_plain_ack = flags.ack() && !flags.fin() && !flags.rst();
            match step.side {
                Side::Orig if is_plain_ack && state != EndState::SynAckSent => {
                    sink.weird(core, weird::REPEATED_SYN_ACK, "", weird::TCP);
                }
                Side::Resp if !flags.ack() && state != EndState::SynSent => {
                    sink.weird(core, weird::REPEATED_SYN_REPLY, "", weird::TCP);
                }
                _ => {}
            }
        }
        if flags.fin() {
            if matches!(peer_state, EndState::Inactive | EndState::SynSent) {
                sink.weird(core, weird::INAPPROPRIATE_FIN, "", weird::TCP);
            }
            self.enter(core, sender, EndState::Closed);
            outcome.do_close = true;
            outcome.finish = true;
        }
        if flags.rst() {
            self.enter(core, sender, EndState::Reset);
            self.is_active = false;
            outcome.do_close = true;
        } else if step.len > 0 {
            sink.weird(core, weird::EARLY_DATA, "", weird::TCP);
        }
    }

    fn leave_established(
        &mut self,
        core: &mut ConnCore,
        step: &Step,
        outcome: &mut Outcome,
        sink: &mut impl StreamSink,
    ) {
        let Step { sender, flags, .. } = *step;
        let peer = sender ^ 1;
        let begins_late = flags.syn()
            && !flags.ack()
            && self.ends[sender].state == EndState::Partial
            && self.ends[peer].state == EndState::Inactive;
        if begins_late {
            sink.weird(core, weird::SYN_AFTER_PARTIAL, "", weird::TCP);
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

    #[inline(never)]
    fn leave_closed(
        &mut self,
        core: &mut ConnCore,
        step: &Step,
        outcome: &mut Outcome,
        sink: &mut impl StreamSink,
    ) {
        if step.flags.syn() {
            sink.weird(core, weird::SYN_AFTER_CLOSE, "", weird::TCP);
        }
        if step.flags.fin() && step.is_ahead {
            sink.weird(core, weird::FIN_ADVANCED, "", weird::TCP);
        }
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
}

/// What comes after a RST changes nothing.
#[inline(never)]
fn after_reset(core: &mut ConnCore, step: &Step, sink: &mut impl StreamSink) {
    if step.flags.syn() {
        sink.weird(core, weird::SYN_AFTER_RESET, "", weird::TCP);
    }
    if step.flags.fin() {
        sink.weird(core, weird::FIN_AFTER_RESET, "", weird::TCP);
    }
    if step.len > 0 && !step.flags.rst() {
        sink.weird(core, weird::DATA_AFTER_RESET, "", weird::TCP);
    }
}

/// Whether `seq` lies from `low` to `high` in a space that wraps.
const fn is_between(seq: u32, low: u32, high: u32) -> bool {
    if low <= high { low <= seq && seq <= high } else { low <= seq || seq <= high }
}
