//! Who listens to what a connection carries: the way from the reassembly, or from a datagram, to
//! the stage of analyzers, and what of it is left out when packets come too fast.

use tyto_core::net::{Proto, Side};
use tyto_core::time::Ts;

use crate::analyzer::cx::Cx;
use crate::analyzer::stage::Stage;
use crate::analyzer::state::Shared;
use crate::flow::conn::ConnCore;
use crate::flow::tcp::sink::{StreamEnd, StreamSink, StreamView};
use crate::log::weird::Weird;
use crate::output::Output;
use crate::reassembly::StreamTotals;
use crate::shed::{LONG_BYTES, Level};

/// The analysis of a TCP connection's streams. The stage is made when there is something to
/// listen to: most connections of a flood never have one.
pub(crate) struct Analysis<'a> {
    pub(crate) now: Ts,
    pub(crate) stage: &'a mut Option<Box<Stage>>,
    pub(crate) shared: &'a mut Shared,
    pub(crate) out: &'a mut Output,
    pub(crate) totals: &'a mut StreamTotals,
}

impl Analysis<'_> {
    fn with(
        &mut self,
        core: &mut ConnCore,
        view: StreamView,
        call: impl FnOnce(&mut Stage, &mut Cx<'_>),
    ) {
        let mut cx = Cx::new(self.now, core, Proto::Tcp, self.shared, self.out);
        cx.is_partial = view.is_partial;
        cx.had_gap = view.had_gap;
        cx.payload_bytes = view.payload_bytes;
        cx.responder = view.responder;
        if let Some(stage) = listening(self.stage, Proto::Tcp, &mut cx) {
            call(stage, &mut cx);
        }
    }
}

impl StreamSink for Analysis<'_> {
    fn listens(&self) -> bool {
        self.stage.as_ref().is_none_or(|stage| stage.is_live())
    }

    fn deliver(&mut self, core: &mut ConnCore, view: StreamView, side: Side, bytes: &[u8]) {
        self.with(core, view, |stage, cx| stage.deliver(side, bytes, cx));
    }

    fn gap(&mut self, core: &mut ConnCore, view: StreamView, side: Side, missed_bytes: u64) {
        self.with(core, view, |stage, cx| stage.gap(side, missed_bytes, cx));
    }

    fn end_of_side(&mut self, core: &mut ConnCore, view: StreamView, side: Side, how: StreamEnd) {
        if self.stage.is_some() {
            self.with(core, view, |stage, cx| {
                cx.is_reset = how == StreamEnd::Reset;
                stage.end_of_side(side, cx);
            });
        }
    }

    fn flipped(&mut self, _core: &mut ConnCore) {
        if let Some(stage) = self.stage {
            stage.flipped();
        }
    }

    #[cold]
    fn weird(
        &mut self,
        core: &mut ConnCore,
        name: &'static str,
        addl: &str,
        source: Option<&'static str>,
    ) {
        let weird = Weird { source, ..Weird::new(name).with(addl) };
        self.shared.weird(self.now, core, &weird, self.out);
    }

    fn beyond_room(&self) -> u64 {
        self.totals.beyond_room()
    }

    fn beyond_changed(&mut self, before: u64, after: u64) {
        self.totals.beyond_bytes = (self.totals.beyond_bytes + after).saturating_sub(before);
    }

    fn acknowledged(&mut self, missed: bool) {
        self.totals.acks += 1;
        self.totals.gaps += u64::from(missed);
    }
}

/// The stage of a connection that carries something, unless nobody listens to it; made at its
/// first call. What is left out when packets come too fast is decided here.
pub(crate) fn listening<'s>(
    stage: &'s mut Option<Box<Stage>>,
    proto: Proto,
    cx: &mut Cx<'_>,
) -> Option<&'s mut Stage> {
    let level = cx.shared.shedding.level();
    if level == Level::Nothing {
        let stage = stage.get_or_insert_with(|| {
            let stage = Stage::of_connection(proto, cx);
            cx.shared.spare_stages.place(stage)
        });
        return stage.is_live().then_some(stage);
    }
    let is_long = level >= Level::Long && cx.payload_bytes > LONG_BYTES;
    let stats = &mut cx.shared.shedding.stats;
    match stage {
        Some(stage) if !stage.is_live() => return None,
        Some(stage) if level == Level::Analysis || is_long => {
            stats.unanalysed += u64::from(level == Level::Analysis);
            stats.cut_short += u64::from(level < Level::Analysis);
            stage.give_up(cx.shared);
            return None;
        }
        Some(_) => {}
        None if level == Level::Analysis => {
            stats.unanalysed += 1;
            *stage = Some(cx.shared.spare_stages.place(Stage::deaf()));
            return None;
        }
        None => {
            stats.undetected += 1;
            let by_port = Stage::by_port(proto, cx);
            *stage = Some(cx.shared.spare_stages.place(by_port));
        }
    }
    stage.as_deref_mut().filter(|stage| stage.is_live())
}
