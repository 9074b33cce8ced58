//! A conversation on a connection of its own, and the rows that come of it.

use std::io;
use std::sync::{Arc, Mutex};

use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::net::{Proto, Side};
use tyto_core::record::json::JsonRow;
use tyto_core::record::wire;
use tyto_core::time::Ts;
use tyto_core::uid::UidMaker;
use tyto_worker::analyzer::stage::Stage;
use tyto_worker::analyzer::state::Shared;
use tyto_worker::analyzer::{Cx, spec};
use tyto_worker::decode::addr::Addr;
use tyto_worker::flow::conn::{ConnCore, EndName};
use tyto_worker::flow::hash::KeyedHasher;
use tyto_worker::output::{Claim, Output, RowSink, StreamRef};

/// A conversation: who says what, in order.
pub(crate) struct Talk {
    protocol: &'static str,
    said: Vec<(Side, Vec<u8>)>,
    /// Lines are not cut: the protocol is read by whole ones.
    keeps_lines: bool,
}

/// Pieces in which a conversation comes.
pub(crate) struct Pieces {
    protocol: &'static str,
    pieces: Vec<(Side, Vec<u8>)>,
}

/// What was logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Stream and row.
    pub(crate) rows: Vec<(String, serde_json::Value)>,
    /// Services of the connection.
    pub(crate) services: Vec<String>,
}

impl Talk {
    pub(crate) fn new(protocol: &'static str) -> Self {
        Self { protocol, said: Vec::new(), keeps_lines: false }
    }

    pub(crate) fn lines(protocol: &'static str) -> Self {
        Self { keeps_lines: true, ..Self::new(protocol) }
    }

    pub(crate) fn say(&mut self, side: Side, text: &str) {
        self.said.push((side, text.as_bytes().to_vec()));
    }

    pub(crate) fn whole(&self) -> Pieces {
        Pieces { protocol: self.protocol, pieces: self.said.clone() }
    }

    pub(crate) fn bytewise(&self) -> Pieces {
        self.cut(|_| 1)
    }

    /// Pieces of lengths that depend on `seed`.
    pub(crate) fn split(&self, seed: u64) -> Pieces {
        let mut state = seed;
        self.cut(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            1 + usize::try_from(state >> 58).unwrap()
        })
    }

    fn cut(&self, mut len: impl FnMut(usize) -> usize) -> Pieces {
        let mut pieces = Vec::new();
        for (side, text) in &self.said {
            let mut rest = &text[..];
            while !rest.is_empty() {
                let at =
                    if self.keeps_lines { rest.len() } else { len(rest.len()).min(rest.len()) };
                pieces.push((*side, rest[..at].to_vec()));
                rest = &rest[at..];
            }
        }
        Pieces { protocol: self.protocol, pieces }
    }
}

impl Rows {
    /// The values of a column, as text; rows without it are left out.
    pub(crate) fn column(&self, stream: &str, column: &str) -> Vec<String> {
        let rows = self.rows.iter().filter(|(name, _)| name == stream);
        rows.filter_map(|(_, row)| row.get(column))
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect()
    }
}

struct Sink(Arc<Mutex<Vec<(String, serde_json::Value)>>>);

impl RowSink for Sink {
    fn row(&mut self, stream: StreamRef, row: &[u8]) {
        let schema = (stream.schema)();
        for row in wire::rows(row) {
            let mut line = Vec::new();
            let mut text = JsonRow::new(&schema, &mut line);
            wire::replay(&schema, row.unwrap(), &mut text).unwrap();
            text.end_row();
            let row = serde_json::from_slice(&line).unwrap();
            self.0.lock().unwrap().push((stream.name.to_owned(), row));
        }
    }

    fn claim(&mut self, _claim: Claim, stream: StreamRef, row: &[u8]) {
        self.row(stream, row);
    }

    fn finish(&mut self, _last: Ts) -> io::Result<()> {
        Ok(())
    }
}

/// The rows of a conversation whose packets all have the same time.
pub(crate) fn rows(talk: &Pieces) -> Rows {
    let (orig, resp) = (Addr::v4([10, 0, 0, 1]), Addr::v4([192, 0, 2, 80]));
    let (orig, resp) = (EndName { addr: orig, port: 40_000 }, EndName { addr: resp, port: 25 });
    let now = Ts::new(1_000_000, 0);
    let mut core = ConnCore::new(UidMaker::new(1).next_uid(), orig, resp);
    core.start = now;
    core.last = now;
    let mut shared = Shared::new(&AnalysisConfig::default(), 1, KeyedHasher::with_seed);
    let logged = Arc::new(Mutex::new(Vec::new()));
    let mut out = Output::new(Box::new(Sink(Arc::clone(&logged))));
    let mut cx = Cx::new(now, &mut core, Proto::Tcp, &mut shared, &mut out);
    let mut stage = Stage::of(spec(talk.protocol).unwrap(), &mut cx);
    for (side, bytes) in &talk.pieces {
        cx.payload_bytes += bytes.len() as u64;
        stage.deliver(*side, bytes, &mut cx);
    }
    stage.end(&mut cx);
    let services = core.services.column().into_iter().collect();
    let rows = logged.lock().unwrap().clone();
    Rows { rows, services }
}
