//! Messages with and without a priority (RFC 3164 section 4.1).

use tyto_core::net::{Proto, Side};

use super::SPEC;
use crate::analyzer::conversation_tests::Bench;

fn row_of(message: &[u8]) -> String {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(Side::Orig, message);
    assert_eq!(bench.service(), "");
    bench.end().pop().unwrap_or_default()
}

#[test]
fn the_priority_tells_who_and_how_bad() {
    let row = row_of(b"<134>Nov 22 10:00:00 host app: hi");
    let end = r#""facility":"LOCAL0","severity":"INFO","message":"Nov 22 10:00:00 host app: hi"}"#;
    assert!(row.ends_with(end), "{row}");
    assert!(row_of(b"<999>x").contains(r#""facility":"?-124","severity":"DEBUG""#));
}

#[test]
fn a_message_without_a_priority_is_one_all_the_same() {
    let end = r#""facility":"UNSPECIFIED","severity":"UNSPECIFIED","message":"hello"}"#;
    assert!(row_of(b"hello").ends_with(end));
}

#[test]
fn a_broken_priority_is_no_message() {
    for message in [&b"<"[..], b"<>x", b"<12", b"<1a>x"] {
        assert_eq!(row_of(message), "");
    }
}
