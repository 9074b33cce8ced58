//! Handshakes by hand (RFC 5246 section 7.4), in every split of their bytes; real ones of all
//! versions are in tests/golden/ssl.

use tyto_core::net::{Proto, Side};

use super::{DTLS_SPEC, SPEC, probe};
use crate::analyzer::conversation_tests::{Bench, hex, whole_or_in_pieces};
use crate::analyzer::{First, Match};

/// Client's hello of TLS 1.2: no session, two suites, the name `a.lab`, ALPN `h2`.
fn client_hello() -> Vec<u8> {
    let random = "11".repeat(32);
    hex(&format!(
        "16 0301 004d 01 000049 0303 {random} 00 0004 c02f 002f 01 00 001c \
         0000 000a 0008 00 0005 612e6c6162 0010 0005 0003 02 6832 ff01 0001 00"
    ))
}

/// Server's hello of TLS 1.2: ECDHE with RSA and AES-128-GCM, ALPN `h2`.
fn server_hello() -> Vec<u8> {
    let random = "22".repeat(32);
    hex(&format!("16 0303 0035 02 000031 0303 {random} 00 c02f 00 0009 0010 0005 0003 02 6832"))
}

fn row_of<'a>(rows: &'a [String], stream: &str) -> &'a str {
    rows.iter().find(|row| row.starts_with(stream)).map_or("", String::as_str)
}

#[test]
fn a_handshake_is_the_same_in_every_split() {
    let talk = [
        (Side::Orig, client_hello()),
        (Side::Resp, server_hello()),
        (Side::Orig, hex("14 0303 0001 01 16 0303 0004 deadbeef")),
        (Side::Resp, hex("14 0303 0001 01 16 0303 0004 deadbeef")),
    ];
    let whole = whole_or_in_pieces(&SPEC, &talk);
    let row = row_of(&whole, "ssl");
    for part in [
        r#""version":"TLSv12","cipher":"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256""#,
        r#""server_name":"a.lab","resumed":false,"next_protocol":"h2","established":true"#,
        r#""ssl_history":"CsIi""#,
    ] {
        assert!(row.contains(part), "{part} in {whole:?}");
    }
}

#[test]
fn an_alert_ends_a_handshake_that_is_not_established() {
    let mut bench = Bench::new(&SPEC, Proto::Tcp);
    bench.send(Side::Orig, &client_hello());
    bench.send(Side::Resp, &hex("15 0303 0002 02 28"));
    let rows = bench.end();
    let row = row_of(&rows, "ssl");
    assert!(row.contains(r#""last_alert":"handshake_failure","established":false"#), "{rows:?}");
}

#[test]
fn what_is_no_tls_writes_nothing() {
    let mut bench = Bench::new(&SPEC, Proto::Tcp);
    bench.send(Side::Orig, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(bench.service(), "");
    assert_eq!(row_of(&bench.end(), "ssl"), "");
}

#[test]
fn a_gap_ends_the_reading_and_the_row_stays() {
    let mut bench = Bench::new(&SPEC, Proto::Tcp);
    bench.send(Side::Orig, &client_hello());
    let cut = server_hello();
    bench.send(Side::Resp, &cut[..20]);
    let rows = bench.end();
    assert!(row_of(&rows, "ssl").contains(r#""ssl_history":"C""#), "{rows:?}");
}

#[test]
fn hellos_are_recognised_by_their_begin() {
    let ask = |orig: &[u8], resp: &[u8]| probe(&First { orig, resp, resp_port: 1 });
    assert_eq!(ask(&client_hello(), b""), Match::Yes);
    assert_eq!(ask(&client_hello()[..7], b""), Match::Later);
    assert_eq!(ask(b"GET /", &server_hello()), Match::Yes);
    let alert_first = [&hex("15 0301 0002 01 70")[..], &server_hello()].concat();
    assert_eq!(ask(b"x", &alert_first), Match::Yes);
    assert_eq!(ask(b"GET /", b"HTTP/1.1"), Match::No);
}

/// RFC 6347 section 4.2.3: fragments may come in any order.
#[test]
fn fragments_of_a_message_are_put_together() {
    let hello = &client_hello()[9..];
    let len = hello.len();
    let record = |sequence: u8, offset: usize, bytes: &[u8]| {
        let (head, part) = (12 + bytes.len(), bytes.len());
        let head = hex(&format!(
            "16 feff 0000 0000000000{sequence:02x} {head:04x} \
             01 {len:06x} 0000 {offset:06x} {part:06x}"
        ));
        [&head, bytes].concat()
    };
    let mut bench = Bench::new(&DTLS_SPEC, Proto::Udp);
    bench.send(Side::Orig, &record(2, 40, &hello[40..]));
    bench.send(Side::Orig, &record(1, 0, &hello[..40]));
    assert_eq!(bench.service(), "dtls");
    assert!(row_of(&bench.end(), "ssl").contains(r#""ssl_history":"C""#));
}

/// Zeek gives up behind ten records of no version of DTLS (`SSL::dtls_max_version_errors`).
#[test]
fn dtls_begins_behind_ten_datagrams_of_another_protocol_and_not_behind_eleven() {
    let body = &client_hello()[9..];
    let len = body.len();
    let head =
        format!("16 feff 0000 000000000001 {:04x} 01 {len:06x} 0000 000000 {len:06x}", 12 + len);
    let hello = [&hex(&head), body].concat();
    for (foreign, service) in [(0, "dtls"), (10, "dtls"), (11, "")] {
        let mut bench = Bench::new(&DTLS_SPEC, Proto::Udp);
        for _ in 0..foreign {
            bench.send(Side::Orig, &[0x40; 20]);
        }
        bench.send(Side::Orig, &hello);
        assert_eq!(bench.service(), service, "behind {foreign}");
    }
}
