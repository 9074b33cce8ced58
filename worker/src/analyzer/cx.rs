//! What an analyzer may see and do while it is called: its connection, the time, the logs, and
//! what all connections of a worker share.

use tyto_core::net::{ConnId, Proto, Side};
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

use super::Spec;
use super::state::Shared;
use crate::flow::conn::ConnCore;
use crate::log::known_services::Responder;
use crate::log::weird::Weird;
use crate::output::Output;

/// The surroundings of a call.
#[derive(Debug)]
pub struct Cx<'a> {
    /// Packet time; never goes back (Zeek: `network_time`).
    pub now: Ts,
    /// The connection: names, uid, times, counts.
    pub conn: &'a mut ConnCore,
    /// Transport of the connection.
    pub proto: Proto,
    /// The begin of the TCP connection was not seen (Zeek: `IsPartial`). False for others.
    pub is_partial: bool,
    /// Bytes of either side of the TCP connection never came (Zeek: `HadGap`).
    pub had_gap: bool,
    /// The side whose end is told broke off by a RST; in [`super::Analyzer::end_of_side`] only.
    pub is_reset: bool,
    /// Payload bytes of both sides so far, of TCP by sequence numbers.
    pub payload_bytes: u64,
    /// What the responder did so far.
    pub responder: Responder,
    /// What all connections of the worker share.
    pub shared: &'a mut Shared,
    /// Where rows go.
    pub out: &'a mut Output,
    /// The protocol that is called: the `source` of its weirds.
    analyzer: Option<&'static Spec>,
    signals: Signals,
}

/// What an analyzer told while it was called.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pub(super) confirmed: bool,
    pub(super) violations: Vec<Violation>,
    pub(super) done: bool,
}

/// What is wrong with what a protocol was fed.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The reason, as analyzer.log prints it.
    pub reason: String,
    /// Bytes that show it; empty when there are none to show.
    pub bytes: Vec<u8>,
}

/// Bytes of a violation that are kept (Zeek: `failure_data_max_size`; it logs one more).
const VIOLATION_BYTES_MAX: usize = 41;

impl<'a> Cx<'a> {
    /// Surroundings of calls for `conn` at `now`.
    pub fn new(
        now: Ts,
        conn: &'a mut ConnCore,
        proto: Proto,
        shared: &'a mut Shared,
        out: &'a mut Output,
    ) -> Self {
        Self {
            now,
            conn,
            proto,
            is_partial: false,
            had_gap: false,
            is_reset: false,
            payload_bytes: 0,
            responder: Responder::default(),
            shared,
            out,
            analyzer: None,
            signals: Signals::default(),
        }
    }

    /// Id of the connection.
    pub const fn uid(&self) -> Uid {
        self.conn.uid
    }

    /// The four fields that name the connection; with the roles that it has after
    /// [`Cx::flip_roles`].
    pub fn id(&self) -> ConnId {
        let id = self.conn.id();
        if !self.conn.wants_flip {
            return id;
        }
        let ConnId { orig_h, orig_p, resp_h, resp_p } = id;
        ConnId { orig_h: resp_h, orig_p: resp_p, resp_h: orig_h, resp_p: orig_p }
    }

    /// Name of the protocol that is called, such as `HTTP`.
    pub fn analyzer_name(&self) -> Option<&'static str> {
        self.analyzer.map(|spec| spec.name)
    }

    /// Writes a row.
    pub fn row<R: LogRecord>(&mut self, record: &R) {
        self.out.row(record);
    }

    /// It is this protocol: the service of the connection (Zeek: AnalyzerConfirmation).
    pub const fn confirm(&mut self) {
        self.signals.confirmed = true;
    }

    /// It is not this protocol, or broken (Zeek: AnalyzerViolation): unless the connection is
    /// long, the analysis ends. `bytes` show what was found, where there is something to show.
    pub fn violation(&mut self, reason: impl Into<String>, bytes: &[u8]) {
        let shown = bytes.get(..VIOLATION_BYTES_MAX).unwrap_or(bytes);
        self.signals.violations.push(Violation { reason: reason.into(), bytes: shown.to_vec() });
    }

    /// The analyzer wants no more bytes; [`super::Analyzer::end`] still comes.
    pub const fn done(&mut self) {
        self.signals.done = true;
    }

    /// Something odd on this connection (weird.log), from the analyzer that is called.
    pub fn weird(&mut self, name: &'static str) {
        self.weird_with(name, "");
    }

    /// Something odd with a word more (`addl`).
    pub fn weird_with(&mut self, name: &'static str, addl: &str) {
        let source = self.analyzer.map(|spec| spec.name);
        let weird = Weird { source, ..Weird::new(name).with(addl) };
        self.shared.weird(self.now, self.conn, &weird, self.out);
    }

    /// A limit of the analysis was reached: a weird, and an `X` in the connection's history.
    pub fn limit_reached(&mut self, name: &'static str, addl: &str) {
        self.weird_with(name, addl);
        self.analysis_is_cut();
    }

    /// Something of the connection was not analysed: an `X` in its history, once (Zeek:
    /// `HIST_ANALYZER_LIMIT_REACHED`).
    pub fn analysis_is_cut(&mut self) {
        self.conn.history.push_once(Side::Orig, b'X');
    }

    /// Something odd that `source`, a helper of the analyzer, found (Zeek: support analyzers).
    pub fn weird_of(&mut self, source: &'static str, name: &'static str, addl: &str) {
        self.shared.weird(self.now, self.conn, &Weird::new(name).with(addl).from(source), self.out);
    }

    /// Something odd that Zeek tells from a script, without a source.
    pub fn weird_without_source(&mut self, name: &'static str, addl: &str) {
        self.shared.weird(self.now, self.conn, &Weird::new(name).with(addl), self.out);
    }

    /// Asks for [`super::Analyzer::wake`] at `at`, or soon after. A connection has one alarm: of
    /// two, the earlier rings, and who is woken too early asks again.
    pub fn wake_at(&mut self, at: Ts) {
        let alarm = &mut self.conn.timers.wake;
        *alarm = (*alarm).min(at);
    }

    /// Swaps originator and responder once the call is over (datagrams only).
    pub const fn flip_roles(&mut self) {
        self.conn.wants_flip = true;
    }

    /// Ends the connection as though its idle time were over.
    pub const fn end_connection(&mut self) {
        self.conn.wants_end = true;
    }

    /// A protocol became a service of the connection.
    pub(super) fn service_recognised(&mut self) {
        let (conn, shared, out) = (&mut *self.conn, &mut *self.shared, &mut *self.out);
        shared.service_recognised(self.now, conn, self.proto, self.responder, out);
    }

    /// Calls `call` as the analyzer of `spec`, and gives what it told.
    pub(super) fn within<T>(
        &mut self,
        spec: &'static Spec,
        call: impl FnOnce(&mut Self) -> T,
    ) -> (T, Signals) {
        let outer = (self.analyzer.replace(spec), std::mem::take(&mut self.signals));
        let result = call(self);
        let signals = std::mem::replace(&mut self.signals, outer.1);
        self.analyzer = outer.0;
        (result, signals)
    }
}
