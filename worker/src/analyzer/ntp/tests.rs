//! Messages of each mode (RFC 5905 section 7.3, RFC 9327 section 2).

use tyto_core::net::{Proto, Side};

use super::SPEC;
use super::parser::{self, Body};
use crate::analyzer::conversation_tests::{Bench, hex};

/// A server's message: stratum 2, its reference 192.0.2.1.
const SERVER: &str = "24 02 06 ec 00010000 00008000 c0000201 \
    dbd5c5a4 80000000 dbd5c5a5 00000000 dbd5c5a5 40000000 dbd5c5a5 c0000000";

#[test]
fn a_message_tells_its_times() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(Side::Resp, &hex(SERVER));
    assert_eq!(bench.service(), "ntp");
    let rows = bench.end();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    for part in [
        r#""version":4,"mode":4,"stratum":2,"poll":64.0,"precision":0.000001"#,
        r#""root_delay":1.0,"#,
        r#""ref_id":"192.0.2.1","ref_time":1479231268.5,"org_time":1479231269.0,"#,
        r#""rec_time":1479231269.25,"xmt_time":1479231269.75,"num_exts":0"#,
    ] {
        assert!(row.contains(part), "{part} in {row}");
    }
}

#[test]
fn who_answers_is_the_responder() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(Side::Orig, &hex(SERVER));
    bench.send(Side::Orig, &hex(SERVER));
    assert_eq!(bench.conn.core.history.letters(), b"^");
    assert!(bench.end()[0].contains(r#""id.orig_h":"192.0.2.80","id.orig_p":123"#));
}

#[test]
fn control_messages_and_private_ones_have_logs_of_their_own() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(
        Side::Orig,
        &hex("16 01 0002 0003 0004 0000 0004 61626364 00000007 0102030405060708"),
    );
    let rows = bench.end();
    assert!(rows[0].starts_with("ntp_control "), "{rows:?}");
    assert!(rows[0].contains(r#""op_code":1,"sequence":2,"status":3,"association_id":4"#));
    assert!(rows[0].contains(r#""data":"abcd","key_id":7"#));
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(Side::Orig, &hex("17 00 03 2a 0000"));
    let rows = bench.end();
    assert!(rows[0].contains(r#""req_code":42,"sequence":0,"implementation":3,"auth_bit":false"#));
}

#[test]
fn extensions_are_counted_up_to_the_code_of_authenticity() {
    let extension = "0200 0020 0001 00000001 00000002 00000002 abcd 00000002 abcd 000000000000";
    let bytes = hex(&format!("{SERVER} {extension} 00000001 {}", "00".repeat(16)));
    let Ok(message) = parser::parse(&bytes) else { panic!("a message") };
    assert!(matches!(message.body, Body::Sync(sync) if sync.extensions == 1));
}

#[test]
fn what_is_cut_is_no_message() {
    let whole = hex(SERVER);
    for len in 0..whole.len() {
        assert!(parser::parse(&whole[..len]).is_err(), "{len}");
    }
    for bytes in ["16 01 0002 0003 0004 0000 0004 616263", "17 80 03 2a 0000 00", "17 00 03"] {
        assert!(parser::parse(&hex(bytes)).is_err(), "{bytes}");
    }
}

#[test]
fn a_time_before_1970_is_negative() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    let mut message = hex(SERVER);
    message[40..44].copy_from_slice(&408_618_788_u32.to_be_bytes());
    bench.send(Side::Resp, &message);
    let rows = bench.end().concat();
    assert!(rows.contains(r#""xmt_time":-1800370011.25"#), "{rows}");
}
