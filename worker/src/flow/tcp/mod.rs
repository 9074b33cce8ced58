//! TCP connections: what a segment does to the two ends, step by step as Zeek takes it, because
//! `conn_state`, `history`, the byte counts and the moment at which a connection ends all follow
//! from the order of these steps.

use tyto_core::net::Side;
use tyto_core::time::Ts;

use super::conn::ConnCore;
use crate::decode::tcp::{TcpFlags, TcpHeader};
use crate::reassembly::{Delivery, Followed, SenderView};

mod endpoint;
mod sequence;
pub mod sink;
mod states;

use endpoint::ahead;
pub use endpoint::{EndState, Endpoint};
use sink::{StreamSink, StreamView};

/// A SYN without answer is given up after this, seconds (Zeek: `tcp_attempt_delay`).
const ATTEMPT_DELAY_S: u64 = 5;
/// First look at whether a connection is over, seconds after its begin (`tcp_SYN_timeout`).
const FIRST_EXPIRE_S: u64 = 5;
/// Next looks, seconds (`tcp_session_timer`).
const NEXT_EXPIRE_S: u64 = 6;
/// Quiet time after which a closed connection is over, seconds (`tcp_connection_linger`).
const LINGER_S: u64 = 5;
/// Time from the last close to the end, seconds (`tcp_close_delay`).
const CLOSE_DELAY_S: u64 = 5;
/// Idle time before the handshake is done, seconds: TCP begins with UDP's.
const HANDSHAKE_INACTIVITY_S: u64 = 60;
/// Idle time of an established connection, seconds (`tcp_inactivity_timeout`).
const INACTIVITY_S: u64 = 300;
/// Idle time of an established interactive connection, seconds (`port_inactivity_timeouts`).
const INTERACTIVE_INACTIVITY_S: u64 = 3600;
/// Ports of interactive protocols: FTP, SSH, Telnet, rlogin.
const INTERACTIVE_PORTS: [u16; 4] = [21, 22, 23, 513];

/// State of a TCP connection.
#[derive(Debug)]
pub struct Tcp {
    ends: [Endpoint; 2],
    /// Which of the ends is the originator: the index stays an end's name when roles flip.
    orig: usize,
    /// The first packet of a role was seen, by [`Side::index`].
    first_seen: [bool; 2],
    /// The begin was not seen.
    is_partial: bool,
    /// Nothing ended it yet.
    is_active: bool,
    close_deferred: bool,
    deferred_finish: bool,
    scaling: [Window; 2],
}

/// What decides whether a window is zero.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    scale: u8,
}

/// A segment as far as TCP itself looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// When it was captured.
    pub ts: Ts,
    /// Its header.
    pub header: TcpHeader<'a>,
    /// Payload as the IP header states it, bytes.
    pub len: u32,
    /// The payload; `None` when not all of it was captured.
    pub payload: Option<&'a [u8]>,
}

/// What a segment or a timer did to the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpEvents {
    /// Both ends are established now, and were not before.
    pub established: bool,
    /// The sender's byte stream reached a bound of the reassembly and is no longer followed.
    pub given_up: bool,
}

/// What a timer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The connection goes on.
    Alive,
    /// The connection is over.
    Over,
}

impl Tcp {
    /// A connection that begins now; sets its first timers.
    pub fn new(core: &mut ConnCore, now: Ts) -> Self {
        core.timers.add_expire(now.plus_secs(FIRST_EXPIRE_S));
        core.set_inactivity_timeout(HANDSHAKE_INACTIVITY_S);
        Self {
            ends: Default::default(),
            orig: 0,
            first_seen: [false; 2],
            is_partial: false,
            is_active: true,
            close_deferred: false,
            deferred_finish: false,
            scaling: Default::default(),
        }
    }

    /// Swaps the roles.
    pub const fn flip(&mut self) {
        self.orig ^= 1;
        self.first_seen = [self.first_seen[1], self.first_seen[0]];
        self.is_partial = false;
    }

    /// The end that has role `side`.
    pub fn end(&self, side: Side) -> &Endpoint {
        &self.ends[self.index_of(side)]
    }

    /// State of the end that has role `side`.
    pub fn state(&self, side: Side) -> EndState {
        self.end(side).state
    }

    /// Bytes that `side` sent by its sequence numbers.
    pub fn size(&self, side: Side) -> u64 {
        self.end(side).size(self.state(side.other()))
    }

    /// A segment of `side` had a wrong checksum: it is not looked at.
    pub fn bad_checksum(&mut self, core: &mut ConnCore, side: Side) {
        let index = self.index_of(side);
        if self.ends[index].bad_checksums.count() {
            core.history.push(side, b'C');
        }
    }

    /// Takes a segment that `side` sent; `sink` gets what can be delivered with it. Gives the
    /// sender's role, which the segment may change.
    pub fn segment(
        &mut self,
        core: &mut ConnCore,
        side: Side,
        segment: &Segment<'_>,
        sink: &mut impl StreamSink,
    ) -> (Side, TcpEvents) {
        let (header, flags) = (&segment.header, segment.header.flags);
        // The sender by its name, which stays when the roles flip below; `side` stays what it
        // was before, as it does in Zeek.
        let sender = self.index_of(side);
        let peer = sender ^ 1;

        self.note_partial(flags, side);
        let data_len = if flags.rst() { 0 } else { segment.len };
        let seq_len = data_len + u32::from(flags.syn()) + u32::from(flags.fin());
        let end_seq = header.seq.wrapping_add(seq_len);
        sequence::begin_end(&mut self.ends[sender], flags, header.seq, end_seq);
        let (seq, is_before_start) = {
            let end = &self.ends[sender];
            sequence::relative(end, header.seq, end.last_seq, end.seq_wraps)
        };
        self.note_in_history(core, sender, flags, seq, segment.len);
        self.note_window(core, sender, header);
        if !self.ends.iter().all(|end| end.did_close) {
            core.last = segment.ts;
        }
        if flags.syn() {
            self.note_scale(sender, header);
        }
        if flags.fin() {
            let end = &mut self.ends[sender];
            end.fin_count = end.fin_count.saturating_add(1);
            end.fin_seq = seq.wrapping_add(u64::from(seq_len));
        }
        let acked = flags.ack().then(|| self.note_ack(peer, flags, header.ack));
        let advance = sequence::update_last(&mut self.ends[sender], end_seq, flags);
        if advance.is_retransmission && segment.len > 0 && self.ends[sender].retransmissions.count()
        {
            core.history.push(self.role_of(sender), b'T');
        }

        let step = states::Step { ts: segment.ts, side, sender, len: segment.len, flags };
        let mut outcome = states::Outcome::default();
        self.change_state(core, &step, header.seq, &mut outcome);

        // After the state changed, so that a gap that the last segment reveals is not taken for
        // a loss: at a FIN or RST the numbers are not reliable.
        if let Some(acked) = acked {
            self.acked(core, peer, acked, sink);
        }
        self.first_seen[side.index()] = true;
        let mut given_up = false;
        if let Some(payload) = segment.payload
            && segment.len > 0
            && !flags.rst()
            && !is_before_start
        {
            let seq = seq.wrapping_add(u64::from(flags.syn()));
            given_up = self.sent(core, sender, seq, payload, sink);
        }
        self.check_end(core, sender, sink);
        if outcome.do_close {
            self.close_end(core, sender, outcome.finish);
        }
        (self.role_of(sender), TcpEvents { established: outcome.established, given_up })
    }

    /// Whether a packet with these first numbers begins another connection with the same name.
    pub fn is_reuse(&self, header: &TcpHeader<'_>) -> bool {
        let (orig, resp) = (self.end(Side::Orig), self.end(Side::Resp));
        if !header.flags.syn() {
            return false;
        }
        let mut begun = orig;
        if header.flags.ack() {
            if orig.state != EndState::Inactive {
                return false;
            }
            begun = resp;
        }
        if orig.did_close || resp.did_close {
            return true;
        }
        if header.seq == begun.start_seq {
            return false;
        }
        // SYN and SYN-ACK came in the wrong order: the connection is the same.
        let is_reversed = !header.flags.ack()
            && begun.state == EndState::SynAckSent
            && resp.state == EndState::Inactive
            && header.seq == resp.start_seq;
        !is_reversed
    }

    /// Fires the timers that are due at `now`, but for the inactivity timer.
    pub fn expire(&mut self, core: &mut ConnCore, now: Ts) -> Expiry {
        if core.timers.close <= now {
            return Expiry::Over;
        }
        if core.timers.attempt <= now {
            core.timers.attempt = super::conn::NEVER;
            let (orig, resp) = (self.state(Side::Orig), self.state(Side::Resp));
            let is_attempt = matches!(orig, EndState::SynSent | EndState::SynAckSent)
                && resp == EndState::Inactive;
            if self.is_active && is_attempt {
                return Expiry::Over;
            }
        }
        for slot in 0..core.timers.expire.len() {
            if core.timers.expire[slot] > now {
                continue;
            }
            core.timers.expire[slot] = super::conn::NEVER;
            if self.is_active {
                if self.is_over(core, now) {
                    return Expiry::Over;
                }
                core.timers.expire[slot] = now.plus_secs(NEXT_EXPIRE_S);
            }
        }
        Expiry::Alive
    }

    /// Closed on one side at least and quiet, or nothing ever happened.
    fn is_over(&self, core: &ConnCore, now: Ts) -> bool {
        if core.last.plus_secs(LINGER_S) >= now {
            return false;
        }
        let ends = &self.ends;
        let any_closed = ends.iter().any(|end| end.did_close);
        let is_closed = ends.iter().all(|end| end.did_close)
            || ends.iter().any(|end| matches!(end.state, EndState::Reset | EndState::Inactive));
        let is_empty = ends.iter().all(|end| end.state == EndState::Inactive);
        (any_closed && is_closed) || is_empty
    }

    fn note_partial(&mut self, flags: TcpFlags, side: Side) {
        if self.first_seen[side.index()] {
            return;
        }
        match side {
            Side::Orig => self.is_partial = !flags.syn() || flags.ack(),
            Side::Resp if !self.is_partial => self.is_partial = !flags.syn(),
            Side::Resp => {}
        }
    }

    fn note_in_history(
        &mut self,
        core: &mut ConnCore,
        sender: usize,
        flags: TcpFlags,
        seq: u64,
        len: u32,
    ) {
        let special = u8::from(flags.syn()) + u8::from(flags.fin()) + u8::from(flags.rst());
        let letter = match special {
            0 if len > 0 => b'D',
            0 if flags.ack() => b'A',
            0 => return,
            1 if flags.syn() && flags.ack() => b'H',
            1 if flags.syn() => b'S',
            1 if flags.fin() => b'F',
            1 => b'R',
            _ if flags.fin() && flags.rst() => b'I',
            _ => b'Q',
        };
        if matches!(letter, b'A' | b'D') && core.history.letters() == b"H" {
            // It began with a SYN-ACK and goes on: no stealth scan, but a SYN that we missed.
            core.flip();
            self.flip();
            core.history.replace(b"^h");
            self.first_seen[Side::Orig.index()] = true;
        }
        let role = self.role_of(sender);
        let was_seen = core.history.push_once(role, letter);
        let end = &mut self.ends[sender];
        // Of these, another one with another number is another letter.
        let (last, seq) = match letter {
            b'S' | b'H' => (&mut end.history_last_syn, seq),
            // A FIN's number comes behind the data that it travels with.
            b'F' => (&mut end.history_last_fin, seq.wrapping_add(u64::from(len))),
            b'R' => (&mut end.history_last_rst, seq),
            _ => return,
        };
        if was_seen && *last != seq {
            core.history.push(role, letter);
        }
        *last = seq;
    }

    fn note_window(&mut self, core: &mut ConnCore, sender: usize, header: &TcpHeader<'_>) {
        let window = u32::from(header.window) << self.scaling[sender].scale;
        // Not worth a letter once nothing can be sent to this end any more.
        if window == 0
            && !header.flags.rst()
            && self.ends[sender ^ 1].state != EndState::Closed
            && self.ends[sender].state != EndState::Reset
            && self.ends[sender].zero_windows.count()
        {
            core.history.push(self.role_of(sender), b'W');
        }
    }

    /// Takes the window scale of a SYN (RFC 7323 section 2.3: at most 14).
    fn note_scale(&mut self, sender: usize, header: &TcpHeader<'_>) {
        match header.window_scale() {
            Some(scale) => self.scaling[sender].scale = scale.min(14),
            None if header.flags.ack() => self.scaling = Default::default(),
            None => self.scaling[sender].scale = 0,
        }
    }

    /// Takes the number that the sender acknowledges of its `peer`; gives it relative.
    fn note_ack(&mut self, peer: usize, flags: TcpFlags, ack: u32) -> u64 {
        let end = &mut self.ends[peer];
        if end.state == EndState::Inactive {
            // As though there had been a SYN, so that relative numbers stay consistent.
            end.begin(ack.wrapping_sub(1), ack.wrapping_sub(1));
            return 1;
        }
        let (acked, is_before_start) = sequence::relative(end, ack, end.ack_seq, end.ack_wraps);
        if is_before_start {
            return 0;
        }
        // What a RST acknowledges is not to be trusted.
        if !flags.rst() {
            sequence::update_ack(end, ack);
        }
        acked
    }

    /// End `sender` sent bytes. True when with them its stream is no longer followed.
    fn sent(
        &mut self,
        core: &mut ConnCore,
        sender: usize,
        seq: u64,
        payload: &[u8],
        sink: &mut impl StreamSink,
    ) -> bool {
        let (role, stream_view) = (self.role_of(sender), self.view());
        let peer_state = self.ends[sender ^ 1].state;
        let end = &mut self.ends[sender];
        let view =
            SenderView { nothing_acked: end.nothing_acked(), sent_bytes: end.size(peer_state) };
        let mut out = |delivery: Delivery<'_>| {
            if let Delivery::Bytes(bytes) = delivery {
                sink.deliver(core, stream_view, role, bytes);
            }
        };
        end.stream.sent(seq, payload, view, &mut out) == Followed::TooMuch
    }

    /// The bytes of end `index` before `seq` were acknowledged.
    fn acked(&mut self, core: &mut ConnCore, index: usize, seq: u64, sink: &mut impl StreamSink) {
        let (role, view) = (self.role_of(index), self.view());
        let is_clean = self.ends.iter().all(Endpoint::is_clean);
        let is_partial = self.is_partial;
        let end = &mut self.ends[index];
        let seq = if end.fin_count > 0 { seq.min(end.fin_seq.wrapping_sub(1)) } else { seq };
        let Endpoint { stream, gaps, .. } = end;
        let mut out = |delivery: Delivery<'_>| match delivery {
            Delivery::Bytes(bytes) => sink.deliver(core, view, role, bytes),
            Delivery::Gap(gap) => {
                if is_clean {
                    core.missed_bytes = core.missed_bytes.wrapping_add(gap.len);
                    if gaps.count() {
                        core.history.push(role, b'G');
                    }
                }
                sink.gap(core, view, role, gap.len);
            }
        };
        if stream.acked(seq, is_partial, &mut out) {
            self.check_end(core, index, sink);
        }
    }

    /// What analyzers are told of the connection.
    fn view(&self) -> StreamView {
        let payload_bytes = self.size(Side::Orig).saturating_add(self.size(Side::Resp));
        StreamView { is_partial: self.is_partial, payload_bytes }
    }

    fn index_of(&self, side: Side) -> usize {
        self.orig ^ side.index()
    }

    const fn role_of(&self, index: usize) -> Side {
        if index == self.orig { Side::Orig } else { Side::Resp }
    }
}

/// The port by which an established connection's idle time is chosen.
fn service_port(core: &ConnCore, is_orig_inactive: bool, is_server: impl Fn(u16) -> bool) -> u16 {
    let (orig, resp) = (core.orig.port, core.resp.port);
    if is_orig_inactive && !is_server(resp) && is_server(orig) { orig } else { resp }
}

/// How far the end of a segment is ahead of what its sender sent before.
#[derive(Clone, Copy, Debug)]
struct Advance {
    is_retransmission: bool,
}

/// Sequence numbers that jump further than this are taken for damage, not for data (Zeek:
/// `TOO_LARGE_SEQ_DELTA`).
const JUMP_MAX: i32 = 1_048_576;

/// Whether a number jumps too far in either direction.
const fn is_jump(from: u32, to: u32) -> bool {
    ahead(to, from).unsigned_abs() > JUMP_MAX.unsigned_abs()
}
