//! A stage: one byte stream, or one flow of datagrams, and the analyzers that listen to it. A
//! connection has one; an analyzer that carries other protocols (STARTTLS, CONNECT, Upgrade, a
//! SOCKS tunnel) owns one more.

use std::fmt;
use std::sync::LazyLock;

use tyto_capture::prefetch;
use tyto_core::net::{Proto, Side};

use super::cx::{Cx, Violation};
use super::detect::{Detection, Piece};
use super::state::Shared;
use super::{Analyzer, SPECS, Spec, log};

/// Analyzers on one stage at a time. A further match is not followed, and counted.
const SLOTS_MAX: usize = 16;
/// Violations of one analyzer that are looked at (Zeek: `max_analyzer_violations`).
const VIOLATIONS_MAX: u32 = 1000;
/// Payload bytes of a connection after which a violation no longer ends an analysis (Zeek:
/// `DPD::ignore_violations_after`).
const VIOLATIONS_IGNORED_AFTER: u64 = 10 * 1024;
/// Protocols whose violations neither end the analysis nor take back their recognition (Zeek:
/// `DPD::ignore_violations`).
const VIOLATIONS_IGNORED: [&str; 2] = ["DCE_RPC", "NTLM"];

/// Lines of memory of an analyzer that are asked for before its turn comes.
const ANALYZER_LINES_MAX: usize = 8;

/// Who listens to a stream.
#[derive(Debug)]
pub struct Stage {
    /// Most have one: it lies here, so that what nobody listens to any more is told by one line
    /// of the cache.
    first: Option<Slot>,
    others: Vec<Slot>,
    detection: Option<Box<Detection>>,
}

struct Slot {
    spec: &'static Spec,
    analyzer: Box<dyn Analyzer>,
    is_live: bool,
    is_confirmed: bool,
    violations: u32,
    /// A violation ended it.
    has_failed: bool,
    /// That was in the piece that is looked at now.
    failed_now: bool,
    /// What was violated in the piece that is looked at now. The recognition is taken back behind
    /// the piece, since Zeek does so behind what the packet's other analyzers recognise.
    failures: Vec<Violation>,
    /// Fed with messages apart from the connection's stream: a violation takes the recognition
    /// back, and the next message is tried again.
    is_apart: bool,
}

impl Stage {
    /// The stage of a connection that begins: the analyzer that it was announced for, else those
    /// of its responder's port; and detection.
    pub fn of_connection(proto: Proto, cx: &mut Cx<'_>) -> Self {
        let mut stage = Self::by_port(proto, cx);
        let mut detection = cx.shared.spare_detections.begin(proto);
        if proto == Proto::Tcp && stage.first.is_none() && cx.shared.late.attends(cx.now) {
            detection.may_join = cx.shared.late.begins(cx.now, cx.conn);
        }
        stage.detection = Some(detection);
        stage
    }

    /// The same without detection.
    pub fn by_port(proto: Proto, cx: &mut Cx<'_>) -> Self {
        let mut stage = Self::deaf();
        if cx.conn.expected.is_none() && cx.shared.late.attends(cx.now) {
            cx.meet_late();
        }
        if let Some(expected) = cx.conn.expected {
            stage.add(expected, cx);
            return stage;
        }
        for spec in of_port(proto, cx.conn.service_port) {
            stage.add(spec, cx);
        }
        stage
    }

    /// A stage to which nobody listens.
    pub const fn deaf() -> Self {
        Self { first: None, others: Vec::new(), detection: None }
    }

    /// Nothing more is delivered to anyone; [`Analyzer::end`] still comes.
    pub fn give_up(&mut self, shared: &mut Shared) {
        self.end_detection(shared);
        self.slots_mut().for_each(|slot| slot.is_live = false);
    }

    /// A stage whose protocol is found by content.
    pub fn detecting(proto: Proto) -> Self {
        Self { detection: Some(Box::new(Detection::new(proto))), ..Self::deaf() }
    }

    /// A stage on which one protocol is expected and none looked for.
    pub fn of(spec: &'static Spec, cx: &mut Cx<'_>) -> Self {
        let mut stage = Self::deaf();
        stage.add(spec, cx);
        stage
    }

    /// A stage for messages that another protocol carries one by one, such as tokens of a
    /// logon. A violation does not end it (Zeek: analyzers outside of the connection's tree).
    pub fn apart(spec: &'static Spec, cx: &mut Cx<'_>) -> Self {
        let mut stage = Self::of(spec, cx);
        stage.slots_mut().for_each(|slot| slot.is_apart = true);
        stage
    }

    /// Begins `spec` here, unless it runs already or is disabled.
    pub fn add(&mut self, spec: &'static Spec, cx: &mut Cx<'_>) -> bool {
        let disabled = &cx.shared.config.disabled_analyzers;
        if disabled.iter().any(|name| name.eq_ignore_ascii_case(spec.name)) {
            return false;
        }
        if self.slots().any(|slot| slot.is_live && std::ptr::eq(slot.spec, spec)) {
            return false;
        }
        if self.slots().count() >= SLOTS_MAX {
            cx.shared.stats.analyzers_refused += 1;
            return false;
        }
        let analyzer = cx.within(spec, |cx| (spec.begin)(cx)).0;
        let slot = Slot {
            spec,
            analyzer,
            is_live: true,
            is_confirmed: false,
            violations: 0,
            has_failed: false,
            failed_now: false,
            failures: Vec::new(),
            is_apart: false,
        };
        match self.first {
            None => self.first = Some(slot),
            Some(_) => {
                // A second is common (DTLS on QUIC's port), a third is not.
                self.others.reserve_exact(usize::from(self.others.is_empty()));
                self.others.push(slot);
            }
        }
        true
    }

    /// What was shown by content begins once, and anew behind the packet in which it failed: that
    /// is when Zeek takes it away. What is done stays.
    fn may_begin(&self, spec: &'static Spec) -> bool {
        let mut of_spec = self.slots().filter(|slot| std::ptr::eq(slot.spec, spec));
        of_spec.all(|slot| slot.has_failed && !slot.failed_now)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.first.iter().chain(&self.others)
    }

    fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.first.iter_mut().chain(&mut self.others)
    }

    /// Whether somebody still listens, or may yet.
    pub fn is_live(&self) -> bool {
        self.detection.is_some() || self.slots().any(|slot| slot.is_live)
    }

    /// Asks for the memory of the first who listens, or of the detection.
    pub(crate) fn prefetch_analyzer(&self) {
        match (&self.first, &self.detection) {
            (Some(slot), _) if slot.is_live => prefetch(&*slot.analyzer, ANALYZER_LINES_MAX),
            (_, Some(detection)) => prefetch(&**detection, ANALYZER_LINES_MAX),
            _ => {}
        }
    }

    /// The next bytes of `side`.
    pub fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        self.each(cx, |analyzer, cx| analyzer.deliver(side, bytes, cx));
        if let Some(detection) = self.detection.take() {
            self.detect(detection, side, bytes, cx);
        }
        self.settle(cx);
    }

    /// Begins what the next bytes of `side` show.
    fn detect(&mut self, mut detection: Box<Detection>, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let buffers = &mut cx.shared.spare_detections.buffers;
        for (_, spec) in detection.deliver(side, bytes, cx.conn.resp.port, buffers).iter() {
            if self.may_begin(spec)
                && self.add(spec, cx)
                && let Some(slot) = self.others.last_mut().or(self.first.as_mut())
            {
                slot.replay(&detection, Some((side, bytes)), cx);
            }
        }
        let Shared { late, spare_detections, .. } = &mut *cx.shared;
        let buffers = &mut spare_detections.buffers;
        let is_kept = if detection.has_ended() {
            self.first.is_none() && detection.keep_on(side, bytes, late, buffers)
        } else {
            detection.keep(side, bytes, buffers);
            true
        };
        self.detection = Some(detection);
        if !is_kept {
            self.end_detection(cx.shared);
        }
    }

    /// The connection was announced for `spec` after it began: gives that all that came. False
    /// when some of it is not there any more; then nobody listens.
    pub fn join_late(&mut self, spec: &'static Spec, cx: &mut Cx<'_>) -> bool {
        let Some(detection) = self.detection.take() else { return false };
        let is_added = self.add(spec, cx);
        if is_added && let Some(slot) = self.others.last_mut().or(self.first.as_mut()) {
            slot.replay(&detection, None, cx);
        }
        self.settle(cx);
        self.detection = Some(detection);
        self.may_join_no_more(cx.shared);
        is_added
    }

    /// The connection will not be announced any more.
    pub fn may_join_no_more(&mut self, shared: &mut Shared) {
        match &mut self.detection {
            Some(detection) if !detection.has_ended() => detection.may_join = false,
            _ => self.end_detection(shared),
        }
    }

    fn end_detection(&mut self, shared: &mut Shared) {
        if let Some(detection) = self.detection.take() {
            shared.late.released(detection.late_bytes());
            shared.spare_detections.over(detection);
        }
    }

    /// A datagram came that has a header only.
    pub fn empty(&mut self, cx: &mut Cx<'_>) {
        self.each(cx, |analyzer, cx| analyzer.empty(cx));
        self.settle(cx);
    }

    /// `missed_bytes` of `side` will not come.
    pub fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        self.each(cx, |analyzer, cx| analyzer.gap(side, missed_bytes, cx));
        self.settle(cx);
        if let Some(detection) = &mut self.detection {
            detection.gap(side, missed_bytes);
        }
    }

    /// `side` ended its stream.
    pub fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        self.each(cx, |analyzer, cx| analyzer.end_of_side(side, cx));
        self.settle(cx);
    }

    /// The roles were swapped.
    pub fn flipped(&mut self) {
        self.slots_mut().for_each(|slot| slot.analyzer.flipped());
    }

    /// The time that an analyzer asked for has come.
    pub fn wake(&mut self, cx: &mut Cx<'_>) {
        self.each(cx, |analyzer, cx| analyzer.wake(cx));
        self.settle(cx);
    }

    /// The connection is over.
    pub fn end(&mut self, cx: &mut Cx<'_>) {
        self.end_detection(cx.shared);
        for slot in self.slots_mut() {
            // Those that failed have rows to write, too.
            slot.is_live = true;
            slot.call(cx, |analyzer, cx| analyzer.end(cx));
            slot.is_live = false;
        }
        self.settle(cx);
    }

    fn each(&mut self, cx: &mut Cx<'_>, mut call: impl FnMut(&mut dyn Analyzer, &mut Cx<'_>)) {
        self.slots_mut().for_each(|slot| slot.call(cx, &mut call));
    }

    /// Behind a piece: takes back what was recognised and failed.
    #[inline]
    fn settle(&mut self, cx: &mut Cx<'_>) {
        if self.slots().any(|slot| slot.failed_now || !slot.failures.is_empty()) {
            self.take_back(cx);
        }
    }

    #[cold]
    fn take_back(&mut self, cx: &mut Cx<'_>) {
        for slot in self.slots_mut() {
            slot.failed_now = false;
            for violation in std::mem::take(&mut slot.failures) {
                if cx.conn.services.fail(slot.spec.name) {
                    log::failed(slot.spec, &violation, cx);
                }
            }
        }
    }
}

impl Slot {
    /// Gives the analyzer all that was kept, and what came last if that is not yet among it.
    fn replay(&mut self, detection: &Detection, latest: Option<(Side, &[u8])>, cx: &mut Cx<'_>) {
        // All of it belongs to one packet, at whose end Zeek looks at violations: one side may
        // fail while the other still tells something.
        let mut violations = Vec::new();
        for (piece, bytes) in detection.replay() {
            self.told(cx, &mut violations, |analyzer, cx| match piece {
                Piece::Bytes { side, .. } => analyzer.deliver(side, bytes, cx),
                Piece::Gap { side, missed_bytes } => analyzer.gap(side, missed_bytes, cx),
            });
        }
        if let Some((side, bytes)) = latest {
            self.told(cx, &mut violations, |analyzer, cx| analyzer.deliver(side, bytes, cx));
        }
        for violation in violations {
            self.violated(violation, cx);
        }
    }

    /// Calls the analyzer and does what it asked for.
    fn call(&mut self, cx: &mut Cx<'_>, call: impl FnOnce(&mut dyn Analyzer, &mut Cx<'_>)) {
        let mut violations = Vec::new();
        self.told(cx, &mut violations, call);
        for violation in violations {
            self.violated(violation, cx);
        }
    }

    /// Calls the analyzer and does what it asked for, but keeps what was violated.
    fn told(
        &mut self,
        cx: &mut Cx<'_>,
        violations: &mut Vec<Violation>,
        call: impl FnOnce(&mut dyn Analyzer, &mut Cx<'_>),
    ) {
        if !self.is_live {
            return;
        }
        let analyzer = &mut *self.analyzer;
        let ((), signals) = cx.within(self.spec, |cx| call(analyzer, cx));
        if signals.confirmed && !self.is_confirmed {
            self.is_confirmed = true;
            cx.conn.services.add(self.spec.name);
            cx.service_recognised();
        }
        violations.extend(signals.violations);
        if signals.done {
            self.is_live = false;
        }
    }

    fn violated(&mut self, violation: Violation, cx: &mut Cx<'_>) {
        // Of a stream that is not whole, nothing can be told by what does not fit.
        if cx.is_partial || cx.had_gap {
            return;
        }
        self.violations += 1;
        if self.violations > VIOLATIONS_MAX {
            if self.violations == VIOLATIONS_MAX + 1 {
                cx.weird("too_many_analyzer_violations");
            }
            return;
        }
        if cx.payload_bytes > VIOLATIONS_IGNORED_AFTER
            || VIOLATIONS_IGNORED.contains(&self.spec.name)
        {
            return;
        }
        self.failures.push(violation);
        if !self.is_apart && std::mem::replace(&mut self.is_live, false) {
            (self.has_failed, self.failed_now) = (true, true);
            cx.within(self.spec, |cx| self.analyzer.failed(cx));
        }
    }
}

/// The protocols of a responder's port, in the order of [`SPECS`].
fn of_port(proto: Proto, port: u16) -> impl Iterator<Item = &'static Spec> {
    static BY_PORT: LazyLock<Vec<(Proto, u16, usize)>> = LazyLock::new(|| {
        let of_spec = |(index, spec): (usize, &&Spec)| {
            spec.ports.iter().map(move |(proto, port)| (*proto, *port, index))
        };
        let mut ports: Vec<_> = SPECS.iter().enumerate().flat_map(of_spec).collect();
        ports.sort_unstable();
        ports
    });
    let from = BY_PORT.partition_point(|(p, n, _)| (*p, *n) < (proto, port));
    let of_port = BY_PORT.iter().skip(from).take_while(move |(p, n, _)| (*p, *n) == (proto, port));
    of_port.filter_map(|(.., index)| SPECS.get(*index).copied())
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("spec", &self.spec)
            .field("is_live", &self.is_live)
            .field("is_confirmed", &self.is_confirmed)
            .finish_non_exhaustive()
    }
}
