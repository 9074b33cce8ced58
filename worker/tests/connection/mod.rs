//! One connection with one analyzer and nothing around it: what the analyzers' own tests and the
//! fuzz targets share. Its clock stands until they move it.

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
use tyto_worker::output::{Output, RowSink};

/// Begin of the connection, seconds.
const BEGIN_S: u64 = 1_000_000;
/// Where it goes when the protocol has no port.
const PORTLESS: u16 = 20_000;

/// A connection from 10.0.0.1:40000 to 192.0.2.80.
pub(crate) struct Connection {
    pub(crate) now: Ts,
    pub(crate) core: ConnCore,
    pub(crate) shared: Shared,
    pub(crate) out: Output,
    proto: Proto,
    payload_bytes: u64,
    stage: Option<Stage>,
}

impl Connection {
    pub(crate) fn new(spec: &'static Spec, proto: Proto, sink: Box<dyn RowSink + Send>) -> Self {
        let (orig, resp) = (Addr::v4([10, 0, 0, 1]), Addr::v4([192, 0, 2, 80]));
        let resp_port = spec.ports.first().map_or(PORTLESS, |(_, port)| *port);
        let orig = EndName { addr: orig, port: 40_000 };
        let resp = EndName { addr: resp, port: resp_port };
        let now = Ts::new(BEGIN_S, 0);
        let mut core = ConnCore::new(UidMaker::new(1).next_uid(), orig, resp);
        core.start = now;
        core.last = now;
        let shared = Shared::new(&AnalysisConfig::default(), 1, KeyedHasher::with_seed);
        let out = Output::new(sink);
        let mut conn = Self { now, core, shared, out, proto, payload_bytes: 0, stage: None };
        conn.stage = Some(conn.with(|_, cx| Stage::of(spec, cx)));
        conn
    }

    /// `side` sends `bytes` now.
    pub(crate) fn deliver(&mut self, side: Side, bytes: &[u8]) {
        self.core.last = self.now;
        self.payload_bytes += bytes.len() as u64;
        self.on_stage(|stage, cx| stage.deliver(side, bytes, cx));
    }

    pub(crate) fn flip(&mut self) {
        self.core.flip();
        if let Some(stage) = &mut self.stage {
            stage.flipped();
        }
    }

    /// Time passes; the alarm rings.
    pub(crate) fn pause(&mut self, seconds: u64) {
        self.now = self.now.plus_secs(seconds);
        self.on_stage(|stage, cx| stage.wake(cx));
    }

    /// Calls the analyzer. The ends change places if it finds that they should.
    pub(crate) fn on_stage(&mut self, call: impl FnOnce(&mut Stage, &mut Cx<'_>)) {
        self.with(|stage, cx| {
            if let Some(stage) = stage {
                call(stage, cx);
            }
        });
        if std::mem::take(&mut self.core.wants_flip) {
            self.flip();
        }
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut Option<Stage>, &mut Cx<'_>) -> T) -> T {
        let (shared, out) = (&mut self.shared, &mut self.out);
        let mut cx = Cx::new(self.now, &mut self.core, self.proto, shared, out);
        cx.payload_bytes = self.payload_bytes;
        call(&mut self.stage, &mut cx)
    }
}
