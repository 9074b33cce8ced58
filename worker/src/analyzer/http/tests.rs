//! Whole connections, fed in pieces of any size: the rows must not depend on them.

use std::io;
use std::sync::{Arc, Mutex};

use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::net::{Proto, Side};
use tyto_core::time::Ts;
use tyto_core::uid::UidMaker;

use super::SPEC;
use crate::analyzer::Cx;
use crate::analyzer::conversation_tests::Bench;
use crate::analyzer::stage::Stage;
use crate::analyzer::state::Shared;
use crate::decode::addr::Addr;
use crate::flow::conn::{ConnCore, EndName};
use crate::flow::hash::KeyedHasher;
use crate::output::{Claim, Output, RowSink, StreamRef};

/// Rows as the sink gets them: stream and encoded fields.
type Rows = Vec<(&'static str, Vec<u8>)>;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Rows>>);

impl RowSink for Kept {
    fn row(&mut self, stream: StreamRef, row: &[u8]) {
        self.0.lock().unwrap().push((stream.name, row.to_vec()));
    }

    fn claim(&mut self, _claim: Claim, stream: StreamRef, row: &[u8]) {
        self.row(stream, row);
    }

    fn finish(&mut self, _last: Ts) -> io::Result<()> {
        Ok(())
    }
}

/// The rows of a connection on which both sides send what `talk` says, `step` bytes at a time.
fn rows(talk: &[(Side, &[u8])], step: usize) -> Rows {
    rows_of(|cx| Stage::of(&SPEC, cx), talk, step).0
}

/// The rows, and what conn.log shows as the services.
fn rows_of(
    begin: impl FnOnce(&mut Cx<'_>) -> Stage,
    talk: &[(Side, &[u8])],
    step: usize,
) -> (Rows, Option<String>) {
    let now = Ts::new(1_000_000, 0);
    let (orig, resp) = (Addr::v4([10, 0, 0, 1]), Addr::v4([192, 0, 2, 80]));
    let ends = (EndName { addr: orig, port: 40_000 }, EndName { addr: resp, port: 80 });
    let mut core = ConnCore::new(UidMaker::new(1).next_uid(), ends.0, ends.1);
    core.start = now;
    let mut shared = Shared::new(&AnalysisConfig::default(), 1, KeyedHasher::with_seed);
    let kept = Kept::default();
    let mut out = Output::new(Box::new(kept.clone()));
    let mut cx = Cx::new(now, &mut core, Proto::Tcp, &mut shared, &mut out);
    let mut stage = begin(&mut cx);
    for (side, bytes) in talk {
        for piece in bytes.chunks(step) {
            stage.deliver(*side, piece, &mut cx);
        }
    }
    for side in [Side::Orig, Side::Resp] {
        stage.end_of_side(side, &mut cx);
    }
    stage.end(&mut cx);
    let mut rows = std::mem::take(&mut *kept.0.lock().unwrap());
    rows.sort();
    (rows, core.services.column())
}

fn text(rows: &Rows) -> String {
    rows.iter().map(|(_, row)| String::from_utf8_lossy(row).into_owned()).collect()
}

const PIPELINED: &[(Side, &[u8])] = &[
    (
        Side::Orig,
        b"POST /a%20b HTTP/1.1\r\nHost: h\r\nAuthorization: Basic dTpw\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\nX: y\r\n z\r\n\r\n",
    ),
    (
        Side::Resp,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: s/1\r\n\r\nhello",
    ),
];

const MULTIPART: &[(Side, &[u8])] = &[
    (
        Side::Orig,
        b"POST /up HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: 126\r\n\r\n--B\r\nContent-Disposition: form-data; filename=\"n.txt\"\r\n\r\none\rtwo\n\r\n--B\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--B--\r\n",
    ),
    (Side::Resp, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall there is"),
];

#[test]
fn rows_do_not_depend_on_the_pieces_that_the_stream_comes_in() {
    for talk in [PIPELINED, MULTIPART] {
        let whole = rows(talk, usize::MAX);
        assert!(whole.len() >= 3);
        for step in [1, 2, 3, 5, 7, 11, 64] {
            assert_eq!(rows(talk, step), whole, "in pieces of {step}");
        }
    }
}

#[test]
fn a_reset_breaks_off_both_messages() {
    let mut bench = Bench::new(&SPEC, Proto::Tcp);
    bench.send(Side::Orig, b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
    bench.send(Side::Resp, b"HTTP/1.1 200 OK\r\n\r\nhello");
    bench.conn.on_stage(|stage, cx| {
        cx.is_reset = true;
        stage.end_of_side(Side::Resp, cx);
    });
    let rows = bench.end();
    let http: Vec<_> = rows.iter().filter(|row| row.contains("trans_depth")).collect();
    let [row] = http.as_slice() else { panic!("{http:?}") };
    assert!(row.contains(r#""request_body_len":3,"response_body_len":7"#), "{row}");
}

#[test]
fn a_type_that_a_later_range_shows_is_of_the_first_ones_row() {
    let mut bench = Bench::new(&SPEC, Proto::Tcp);
    for (range, bytes) in [("0-9", "GIF89a0123"), ("10-19", "0123456789")] {
        let ask = format!("GET /a HTTP/1.1\r\nHost: h\r\nRange: bytes={range}\r\n\r\n");
        bench.send(Side::Orig, ask.as_bytes());
        let answer = format!(
            "HTTP/1.1 206 Part\r\nContent-Range: bytes {range}/20\r\nContent-Length: 10\r\n\r\n{bytes}"
        );
        bench.send(Side::Resp, answer.as_bytes());
    }
    let rows = bench.end();
    assert!(rows.iter().any(|row| row.contains(r#""mime_type":"image/gif""#)), "{rows:?}");
    let http: Vec<_> = rows.iter().filter(|row| row.contains("trans_depth")).collect();
    assert_eq!(http.len(), 2, "{http:?}");
    assert!(!http.iter().any(|row| row.contains("resp_mime_types")), "{http:?}");
}

#[test]
fn requests_that_were_sent_ahead_find_their_replies() {
    let told = rows(PIPELINED, usize::MAX);
    assert_eq!(told.iter().filter(|(stream, _)| *stream == "http").count(), 2);
    assert!(text(&told).contains("HTTP_obsolete_line_folding"));
    // The password is nobody's business, the user is.
    assert!(!text(&told).contains("dTpw"));
}

#[test]
fn parts_are_files_with_their_names() {
    let told = rows(MULTIPART, usize::MAX);
    assert!(text(&told).contains("n.txt"));
}

#[test]
fn what_follows_a_tunnel_is_looked_at_as_a_connection_of_its_own() {
    let told = rows(
        &[
            (Side::Orig, b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n"),
            (Side::Resp, b"HTTP/1.1 200 OK\r\n\r\n"),
            (Side::Orig, b"GET /inside HTTP/1.1\r\nHost: h\r\n\r\n"),
            (Side::Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ],
        usize::MAX,
    );
    assert!(text(&told).contains("/inside"));
}

#[test]
fn a_reply_of_the_first_version_is_nothing_but_a_body() {
    let told = rows(&[(Side::Orig, b"GET /\r\n"), (Side::Resp, b"raw\r\n")], usize::MAX);
    assert!(text(&told).contains("<empty>"));
}

/// Zeek has a signature for each side: what a server answers to a request that is none has its row,
/// and on a port of HTTP the protocol is not recognised by it.
#[test]
fn a_reply_to_what_is_no_request_has_its_row() {
    let talk: &[(Side, &[u8])] = &[
        (Side::Orig, b"OPTIONSHTTP/1.1\r\nHost: h\r\n\r\n"),
        (Side::Resp, b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    ];
    let (told, service) = rows_of(|cx| Stage::of_connection(Proto::Tcp, cx), talk, usize::MAX);
    assert!(text(&told).contains("bad_HTTP_request"));
    assert_eq!(told.iter().filter(|(stream, _)| *stream == "http").count(), 1);
    assert_eq!(service, None);
}

/// What SOCKS carries begins in the packet in which HTTP, which listens on that port too, fails:
/// the failure counts last, as in Zeek.
#[test]
fn what_fails_beside_what_a_tunnel_carries_is_not_recognised() {
    let begin = |cx: &mut Cx<'_>| {
        cx.conn.service_port = 1080;
        Stage::of_connection(Proto::Tcp, cx)
    };
    let talk: &[(Side, &[u8])] = &[
        (Side::Orig, b"\x05\x02\x00\x01"),
        (Side::Resp, b"\x05\x00"),
        (Side::Orig, b"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50"),
        (Side::Resp, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
        (Side::Orig, b"GET /inside HTTP/1.1\r\nHost: h\r\n\r\n"),
        (Side::Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    let (told, service) = rows_of(begin, talk, usize::MAX);
    assert!(text(&told).contains("/inside"));
    assert_eq!(service.as_deref(), Some("socks"));
    assert_eq!(told.iter().filter(|(stream, _)| *stream == "analyzer").count(), 1);
}
