//! For tests: one connection with one analyzer, and the rows that it writes, as JSON.
#![expect(clippy::cast_possible_truncation, reason = "what tests make is short")]

use std::io;
use std::sync::{Arc, Mutex};

use tyto_core::net::{Proto, Side};
use tyto_core::record::json::JsonRow;
use tyto_core::record::wire;
use tyto_core::time::{NANOS, Ts};

use super::Spec;
use crate::connection::Connection;
use crate::output::{Claim, RowSink, StreamRef};

/// A connection and the rows of its analyzer.
pub(super) struct Bench {
    pub(super) conn: Connection,
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
        let rows = Arc::default();
        let conn = Connection::new(spec, proto, Box::new(Lines(Arc::clone(&rows))));
        Self { conn, rows }
    }

    /// A tenth of a second later `side` sends `bytes`.
    pub(super) fn send(&mut self, side: Side, bytes: &[u8]) {
        self.conn.now.0 += NANOS / 10;
        self.conn.deliver(side, bytes);
    }

    /// The connection's services, as conn.log shows them.
    pub(super) fn service(&self) -> String {
        self.conn.core.services.column().unwrap_or_default()
    }

    /// Time passes; the alarm rings.
    pub(super) fn pause(&mut self, seconds: u64) {
        self.conn.pause(seconds);
    }

    /// Ends the connection; all rows, each with its stream before it, without ids of connections.
    pub(super) fn end(mut self) -> Vec<String> {
        self.conn.on_stage(|stage, cx| stage.end(cx));
        self.conn.shared.dhcp.end(&mut self.conn.out);
        let uid = format!("\"uid\":\"{}\",", self.conn.core.uid);
        let rows = std::mem::take(&mut *self.rows.lock().expect("one thread"));
        rows.into_iter().map(|row| row.replace(&uid, "")).collect()
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
        bench.conn.now.0 += NANOS / 10;
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
            bench.conn.deliver(*side, piece);
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
