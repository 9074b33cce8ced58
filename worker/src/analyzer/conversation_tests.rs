//! For tests: one connection with one analyzer, and the rows that it writes, as JSON.
#![expect(clippy::cast_possible_truncation, reason = "what tests make is short")]

use std::io;
use std::sync::{Arc, Mutex};

use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::net::{Proto, Side};
use tyto_core::record::json::JsonRow;
use tyto_core::record::wire;
use tyto_core::time::{NANOS, Ts};
use tyto_core::uid::UidMaker;

use super::stage::Stage;
use super::state::Shared;
use super::{Cx, Spec};
use crate::decode::addr::Addr;
use crate::flow::conn::{ConnCore, EndName};
use crate::flow::hash::KeyedHasher;
use crate::output::{Claim, Output, RowSink, StreamRef};

/// Begin of the connection, seconds.
const BEGIN_S: u64 = 1_000_000;

/// A connection from 10.0.0.1:40000 to 192.0.2.80.
pub(super) struct Bench {
    pub(super) now: Ts,
    pub(super) core: ConnCore,
    proto: Proto,
    stage: Option<Stage>,
    shared: Shared,
    out: Output,
    rows: Arc<Mutex<Vec<String>>>,
}

struct Lines(Arc<Mutex<Vec<String>>>);

impl RowSink for Lines {
    fn row(&mut self, stream: StreamRef, row: &[u8]) {
        let schema = (stream.schema)();
        for row in wire::rows(row) {
            let mut line = Vec::new();
            let mut text = JsonRow::new(&schema, &mut line);
            wire::replay(&schema, row.expect("a row"), &mut text).expect("its columns");
            text.end_row();
            let text = format!("{} {}", stream.name, String::from_utf8_lossy(&line).trim_end());
            self.0.lock().expect("one thread").push(text);
        }
    }

    fn claim(&mut self, _claim: Claim, _stream: StreamRef, _row: &[u8]) {}

    fn finish(&mut self, _last: Ts) -> io::Result<()> {
        Ok(())
    }
}

impl Bench {
    pub(super) fn new(spec: &'static Spec, proto: Proto) -> Self {
        let (orig, resp) = (Addr::v4([10, 0, 0, 1]), Addr::v4([192, 0, 2, 80]));
        let resp_port = spec.ports.first().map_or(20_000, |(_, port)| *port);
        let orig = EndName { addr: orig, port: 40_000 };
        let resp = EndName { addr: resp, port: resp_port };
        let now = Ts::new(BEGIN_S, 0);
        let mut core = ConnCore::new(UidMaker::new(1).next_uid(), orig, resp);
        core.start = now;
        core.last = now;
        let shared = Shared::new(&AnalysisConfig::default(), 1, KeyedHasher::with_seed);
        let rows = Arc::default();
        let out = Output::new(Box::new(Lines(Arc::clone(&rows))));
        let mut bench = Self { now, core, proto, stage: None, shared, out, rows };
        bench.stage = Some(bench.with(|_, cx| Stage::of(spec, cx)));
        bench
    }

    /// A tenth of a second later `side` sends `bytes`.
    pub(super) fn send(&mut self, side: Side, bytes: &[u8]) {
        self.now.0 += NANOS / 10;
        self.piece(side, bytes);
    }

    /// `side` sends `bytes` now.
    pub(super) fn piece(&mut self, side: Side, bytes: &[u8]) {
        self.core.last = self.now;
        self.on_stage(|stage, cx| stage.deliver(side, bytes, cx));
        if std::mem::take(&mut self.core.wants_flip) {
            self.core.flip();
            self.on_stage(|stage, _| stage.flipped());
        }
    }

    /// The connection's services, as conn.log shows them.
    pub(super) fn service(&self) -> String {
        self.core.services.column().unwrap_or_default()
    }

    /// Time passes; the alarm rings.
    pub(super) fn pause(&mut self, seconds: u64) {
        self.now = self.now.plus_secs(seconds);
        self.on_stage(|stage, cx| stage.wake(cx));
    }

    /// Ends the connection; all rows, each with its stream before it, without ids of connections.
    pub(super) fn end(mut self) -> Vec<String> {
        self.on_stage(|stage, cx| stage.end(cx));
        self.shared.dhcp.end(&mut self.out);
        let uid = format!("\"uid\":\"{}\",", self.core.uid);
        let rows = std::mem::take(&mut *self.rows.lock().expect("one thread"));
        rows.into_iter().map(|row| row.replace(&uid, "")).collect()
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
        call(&mut self.stage, &mut cx)
    }
}

/// The rows of a TCP conversation, whose every message comes whole, byte by byte, or cut at
/// places that `seed` chooses.
pub(super) fn in_pieces(
    spec: &'static Spec,
    talk: &[(Side, Vec<u8>)],
    mut seed: Option<u64>,
) -> Vec<String> {
    let mut bench = Bench::new(spec, Proto::Tcp);
    for (side, bytes) in talk {
        bench.now.0 += NANOS / 10;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let len = match &mut seed {
                None => 1,
                Some(state) => {
                    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (*state >> 33) as usize % rest.len() + 1
                }
            };
            let (piece, later) = rest.split_at(len);
            bench.piece(*side, piece);
            rest = later;
        }
    }
    bench.end()
}

/// Asserts that a TCP conversation gives the same rows however it is cut, and gives them.
pub(super) fn whole_or_in_pieces(spec: &'static Spec, talk: &[(Side, Vec<u8>)]) -> Vec<String> {
    let mut bench = Bench::new(spec, Proto::Tcp);
    for (side, bytes) in talk {
        bench.send(*side, bytes);
    }
    let rows = bench.end();
    assert_eq!(in_pieces(spec, talk, None), rows);
    for seed in 0..50 {
        assert_eq!(in_pieces(spec, talk, Some(seed)), rows);
    }
    rows
}

/// Bytes from hexadecimal digits; anything else between them is passed over.
pub(super) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
        .collect()
}
