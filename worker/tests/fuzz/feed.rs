//! One connection with one analyzer and nothing around it.

use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::net::{Proto, Side};
use tyto_core::time::Ts;
use tyto_core::uid::UidMaker;
use tyto_worker::analyzer::stage::Stage;
use tyto_worker::analyzer::state::Shared;
use tyto_worker::analyzer::{Cx, Spec};
use tyto_worker::decode::addr::Addr;
use tyto_worker::flow::conn::{ConnCore, EndName};
use tyto_worker::flow::hash::KeyedHasher;
use tyto_worker::output::{Nowhere, Output};

use crate::script::Step;

/// Begin of the connection, seconds.
const BEGIN_S: u64 = 1_000_000;
/// Time between two steps, nanoseconds.
const STEP_NS: u64 = 1_000_000;

/// A connection on which an analyzer runs.
pub(crate) struct Connection {
    now: Ts,
    proto: Proto,
    payload_bytes: u64,
    core: ConnCore,
    stage: Option<Stage>,
    shared: Shared,
    out: Output,
}

/// Rows were encoded when they come here: that they can be is what counts.
impl Connection {
    pub(crate) fn new(spec: &'static Spec, proto: Proto) -> Self {
        let (orig, resp) = (Addr::v4([10, 0, 0, 1]), Addr::v4([192, 0, 2, 80]));
        let resp_port = spec.ports.first().map_or(40_001, |(_, port)| *port);
        let orig = EndName { addr: orig, port: 40_000 };
        let resp = EndName { addr: resp, port: resp_port };
        let now = Ts::new(BEGIN_S, 0);
        let mut core = ConnCore::new(UidMaker::new(1).next_uid(), orig, resp);
        core.start = now;
        core.last = now;
        let shared = Shared::new(&AnalysisConfig::default(), 1, KeyedHasher::with_seed);
        let out = Output::new(Box::new(Nowhere));
        let mut conn = Self { now, proto, payload_bytes: 0, core, stage: None, shared, out };
        let stage = conn.with(|_, cx| Stage::of(spec, cx));
        conn.stage = Some(stage);
        conn
    }

    pub(crate) fn take(&mut self, step: &Step) {
        self.now.0 += STEP_NS;
        self.core.last = self.now;
        match step {
            Step::Bytes(side, bytes) => {
                self.payload_bytes += bytes.len() as u64;
                self.on_stage(|stage, cx| stage.deliver(*side, bytes, cx));
            }
            Step::Gap(side, missed) => {
                let missed = (*missed).max(1);
                self.on_stage(|stage, cx| stage.gap(*side, missed, cx));
            }
            Step::EndOfSide(side) => {
                let side: Side = *side;
                self.on_stage(|stage, cx| stage.end_of_side(side, cx));
            }
            Step::Flip => self.flip(),
            Step::Pause(seconds) => {
                self.now = self.now.plus_secs(*seconds);
                self.on_stage(|stage, cx| stage.wake(cx));
            }
        }
        if std::mem::take(&mut self.core.wants_flip) {
            self.flip();
        }
    }

    pub(crate) fn end(mut self) {
        self.on_stage(|stage, cx| stage.end(cx));
        self.out.finish(self.now).unwrap();
    }

    fn flip(&mut self) {
        self.core.flip();
        if let Some(stage) = &mut self.stage {
            stage.flipped();
        }
    }

    fn on_stage(&mut self, call: impl FnOnce(&mut Stage, &mut Cx<'_>)) {
        self.with(|stage, cx| {
            if let Some(stage) = stage {
                call(stage, cx);
            }
        });
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut Option<Stage>, &mut Cx<'_>) -> T) -> T {
        let (shared, out) = (&mut self.shared, &mut self.out);
        let mut cx = Cx::new(self.now, &mut self.core, self.proto, shared, out);
        cx.payload_bytes = self.payload_bytes;
        call(&mut self.stage, &mut cx)
    }
}
