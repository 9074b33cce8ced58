//! TCP connections: what a segment does to the two ends, step by step as Zeek takes it, because
//! `conn_state`, `history`, the byte counts and the moment at which a connection ends all follow
//! from the order of these steps.

use tyto_core::net::Side;
use tyto_core::time::Ts;

use super::conn::ConnCore;
use crate::decode::tcp::{TcpFlags, TcpHeader};
use crate::log::known_services::Responder;

mod endpoint;
mod letters;
mod sequence;
pub mod sink;
mod states;
mod streams;
mod weird;
mod window;

use endpoint::ahead;
pub use endpoint::{EndState, Endpoint};
use sink::{StreamSink, StreamView};
pub use weird::TCP as WEIRD_SOURCE;

/// A SYN without answer is given up after this, seconds (Zeek: `tcp_attempt_delay`).
const ATTEMPT_DELAY_S: u64 = 5;
/// First look at whether a connection is over, seconds after its begin (`tcp_SYN_timeout`).
const FIRST_EXPIRE_S: u64 = 5;
/// Next looks, seconds (`tcp_session_timer`).
const NEXT_EXPIRE_S: u64 = super::questions::QUESTION_S;
/// Quiet time after which a closed connection is over, seconds (`tcp_connection_linger`).
const LINGER_S: u64 = 5;
/// Time from the last close to the end, seconds (`tcp_close_delay`).
const CLOSE_DELAY_S: u64 = 5;
/// Idle time before the handshake is done, seconds: TCP begins with UDP's.
const HANDSHAKE_INACTIVITY_S: u32 = 60;
/// Idle time of an established connection, seconds (`tcp_inactivity_timeout`).
const INACTIVITY_S: u32 = 300;
/// Idle time of an established interactive connection, seconds (`port_inactivity_timeouts`).
const INTERACTIVE_INACTIVITY_S: u32 = 3600;
/// Ports of interactive protocols: FTP, SSH, Telnet, rlogin.
const INTERACTIVE_PORTS: [u16; 4] = [21, 22, 23, 513];
/// FINs or RSTs of one end from which on they are a storm (`tcp_storm_thresh`).
const STORM_COUNT: u16 = 1000;
/// Longest time between two segments of a storm, seconds (`tcp_storm_interarrival_thresh`).
const STORM_PAUSE_S: u64 = 1;

/// State of a TCP connection.
#[derive(Debug)]
pub struct Tcp {
    ends: [Endpoint; 2],
    /// Which of the ends is the originator: the index stays an end's name when roles flip.
    orig: u8,
    /// The first packet of a role was seen, by [`Side::index`].
    first_seen: [bool; 2],
    /// The begin was not seen.
    is_partial: bool,
    /// Bytes of either end never came.
    had_gap: bool,
    /// Nothing ended it yet.
    is_active: bool,
    close_deferred: bool,
    deferred_finish: bool,
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
            had_gap: false,
            is_active: true,
            close_deferred: false,
            deferred_finish: false,
        }
    }

    /// The same in `spare`, the place of a connection that is over, or in a new one.
    pub fn within(self, spare: Option<Box<Self>>) -> Box<Self> {
        match spare {
            Some(mut place) => {
                *place = self;
                place
            }
            None => Box::new(self),
        }
    }

    /// The connection is over: what its streams hold is given back.
    pub fn drop_streams(&mut self) {
        for end in &mut self.ends {
            end.stream = Default::default();
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
        // Longer than 70 lines: the order of the steps is Zeek's, and is read as one.
        let (header, flags) = (&segment.header, segment.header.flags);
        // The sender by its name, which stays when the roles flip below; `side` stays what it
        // was before, as it does in Zeek.
        let sender = self.index_of(side);
        let peer = sender ^ 1;

        self.note_partial(flags, side);
        let data_len = if flags.rst() { 0 } else { segment.len };
        let seq_len = data_len + u32::from(flags.syn()) + u32::from(flags.fin());
        let end_seq = header.seq.wrapping_add(seq_len);
        self.begin_sender(core, sender, flags, header.seq, end_seq, sink);
        let (seq, is_before_start) = {
            let end = &self.ends[sender];
            sequence::relative(end, header.seq, end.last_seq, end.seq_wraps)
        };
        if is_before_start && !flags.rst() {
            sink.weird(core, weird::SEQ_UNDERFLOW, "", weird::TCP);
        }
        self.note_in_history(core, sender, flags, seq, segment.len, sink);
        self.note_window(core, sender, header, sink);
        if !self.ends.iter().all(|end| end.did_close) {
            core.last = segment.ts;
        }
        if flags.is_special() {
            self.note_flags(core, sender, segment, seq.wrapping_add(u64::from(seq_len)), sink);
        }
        let acked = flags.ack().then(|| self.note_ack(core, peer, flags, header.ack, sink));
        let advance = sequence::update_last(&mut self.ends[sender], end_seq, flags);
        if advance.is_retransmission && segment.len > 0 && self.ends[sender].retransmissions.count()
        {
            core.history.push(self.role_of(sender), b'T');
        }
        self.ends[sender].last_time = segment.ts;

        let step = states::Step {
            ts: segment.ts,
            side,
            sender,
            len: segment.len,
            flags,
            seq: header.seq,
            ack: header.ack,
            is_ahead: advance.is_ahead,
        };
        let mut outcome = states::Outcome::default();
        self.change_state(core, &step, &mut outcome, sink);

        // After the state changed, so that a gap that the last segment reveals is not taken for
        // a loss: at a FIN or RST the numbers are not reliable.
        if let Some(acked) = acked {
            self.acked(core, peer, acked, sink);
        }
        self.first_seen[side.index()] = true;
        let mut given_up = false;
        if segment.len > 0 && !flags.rst() && !is_before_start {
            let seq = seq.wrapping_add(u64::from(flags.syn()));
            match segment.payload {
                Some(payload) => given_up = self.sent(core, sender, seq, payload, sink),
                None => sink.weird(core, weird::TRUNCATED_PAYLOAD, "", weird::TCP),
            }
        }
        self.check_end(core, sender, sink);
        if outcome.do_close {
            self.close_end(core, sender, outcome.finish);
        }
        core.timers.is_open = self.is_open();
        (self.role_of(sender), TcpEvents { established: outcome.established, given_up })
    }

    /// Takes what the SYN, FIN or RST of a segment says whose last number is `end_seq`, relative.
    #[inline(never)]
    fn note_flags(
        &mut self,
        core: &mut ConnCore,
        sender: usize,
        segment: &Segment<'_>,
        end_seq: u64,
        sink: &mut impl StreamSink,
    ) {
        let flags = segment.header.flags;
        if flags.syn() {
            if flags.rst() {
                sink.weird(core, weird::CHRISTMAS, "", weird::TCP);
            }
            if flags.urg() {
                sink.weird(core, weird::BAROQUE_SYN, "", weird::TCP);
            }
            if segment.len > 0 {
                sink.weird(core, weird::SYN_WITH_DATA, "", weird::TCP);
            }
            self.note_scale(core, sender, &segment.header, sink);
        }
        let end = &mut self.ends[sender];
        let is_quick = segment.ts < end.last_time.plus_secs(STORM_PAUSE_S);
        if flags.fin() {
            end.fin_count = end.fin_count.saturating_add(1);
            end.fin_seq = end_seq;
            if end.fin_count >= STORM_COUNT && is_quick {
                sink.weird(core, weird::FIN_STORM, "", weird::TCP);
            }
        }
        if flags.rst() {
            end.rst_count = end.rst_count.saturating_add(1);
            if end.rst_count >= STORM_COUNT && is_quick {
                sink.weird(core, weird::RST_STORM, "", weird::TCP);
            }
        }
    }

    /// Whether a packet with these first numbers, captured at `ts`, begins another connection
    /// with the same name; the weird that it is then, where it is one.
    pub fn is_reuse(
        &self,
        core: &ConnCore,
        header: &TcpHeader<'_>,
        ts: Ts,
    ) -> Option<Option<&'static str>> {
        if !header.flags.syn() {
            return None;
        }
        let (orig, resp) = (self.end(Side::Orig), self.end(Side::Resp));
        let mut begun = orig;
        if header.flags.ack() {
            if orig.state != EndState::Inactive {
                return None;
            }
            begun = resp;
        }
        let is_closed = orig.did_close || resp.did_close;
        let is_reset = orig.state == EndState::Reset || resp.state == EndState::Reset;
        let is_active = |end: &Endpoint| end.state != EndState::Inactive && !end.did_close;
        if is_closed {
            let weird = if is_reset {
                None
            } else if is_active(orig) || is_active(resp) {
                Some(weird::ACTIVE_REUSE)
            } else if ts < core.last.plus_secs(LINGER_S) {
                Some(weird::PREMATURE_REUSE)
            } else {
                None
            };
            return Some(weird);
        }
        if header.seq == begun.start_seq {
            return None;
        }
        // SYN and SYN-ACK came in the wrong order: the connection is the same.
        let is_reversed = !header.flags.ack()
            && begun.state == EndState::SynAckSent
            && resp.state == EndState::Inactive
            && header.seq == resp.start_seq;
        if is_reversed {
            return None;
        }
        let is_attempt = begun.state == EndState::SynSent;
        Some(Some(if is_attempt { weird::SYN_SEQ_JUMP } else { weird::ACTIVE_REUSE }))
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
            let next = now.plus_secs(NEXT_EXPIRE_S);
            if core.timers.is_open {
                core.timers.expire[slot] = next;
                continue;
            }
            core.timers.expire[slot] = super::conn::NEVER;
            if self.is_active {
                if self.is_over(core, now) {
                    return Expiry::Over;
                }
                core.timers.expire[slot] = next;
            }
        }
        Expiry::Alive
    }

    /// Nothing ended it, and something happened: what [`Tcp::is_over`] says no to at once.
    fn is_open(&self) -> bool {
        self.is_active
            && self.ends.iter().all(|end| !end.did_close)
            && self.ends.iter().any(|end| end.state != EndState::Inactive)
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

    /// What the responder did.
    pub fn responder(&self) -> Responder {
        let state = self.state(Side::Resp);
        let is_active =
            matches!(state, EndState::Established | EndState::Closed | EndState::Partial);
        Responder { is_active, bytes: self.size(Side::Resp) }
    }

    /// What analyzers are told of the connection.
    fn view(&self) -> StreamView {
        let payload_bytes = self.size(Side::Orig).saturating_add(self.size(Side::Resp));
        StreamView {
            is_partial: self.is_partial,
            had_gap: self.had_gap,
            payload_bytes,
            responder: self.responder(),
        }
    }

    fn index_of(&self, side: Side) -> usize {
        usize::from(self.orig) ^ side.index()
    }

    const fn role_of(&self, index: usize) -> Side {
        if index == self.orig as usize { Side::Orig } else { Side::Resp }
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
    is_ahead: bool,
}

/// Sequence numbers that jump further than this are taken for damage, not for data (Zeek:
/// `TOO_LARGE_SEQ_DELTA`).
const JUMP_MAX: i32 = 1_048_576;

/// Whether a number jumps too far in either direction.
const fn is_jump(from: u32, to: u32) -> bool {
    ahead(to, from).unsigned_abs() > JUMP_MAX.unsigned_abs()
}
