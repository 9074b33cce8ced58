//! Requests and answers (RFC 2865).
#![expect(clippy::cast_possible_truncation, reason = "what tests make is short")]

use tyto_core::net::{Proto, Side};

use super::{SPEC, normal_mac, parse};
use crate::analyzer::conversation_tests::Bench;

fn message(code: u8, attributes: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![code, 1, 0, 0];
    bytes.extend([0; 16]);
    for (code, value) in attributes {
        bytes.extend([*code, value.len() as u8 + 2]);
        bytes.extend_from_slice(value);
    }
    bytes
}

#[test]
fn a_request_and_its_answer_are_one_row() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(Side::Orig, &message(1, &[(1, b"alice"), (31, b"02-00-00-00-00-0A"), (77, b"11g")]));
    bench.send(Side::Resp, &message(11, &[(18, b"more"), (8, &[10, 0, 0, 9])]));
    bench.send(Side::Resp, &message(2, &[]));
    bench.send(Side::Orig, &message(1, &[(1, b"bob")]));
    assert_eq!(bench.service(), "radius");
    let rows = bench.end();
    let [first, second] = rows.as_slice() else { panic!("{rows:?}") };
    for part in [
        r#""username":"alice","mac":"02:00:00:00:00:0a","framed_addr":"10.0.0.9""#,
        r#""connect_info":"11g","reply_msg":"more","result":"success","ttl":0.2"#,
    ] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(second.ends_with(r#""username":"bob","result":"unknown"}"#), "{second}");
}

#[test]
fn attributes_must_fit() {
    let whole = message(1, &[(1, b"alice")]);
    assert!(parse(&whole).is_ok());
    for len in (0..20).chain(21..whole.len()) {
        assert!(parse(&whole[..len]).is_err(), "{len}");
    }
    let mut odd = whole.clone();
    odd[21] = 0;
    let reason = parse(&odd).err();
    assert_eq!(reason.as_deref(), Some("out_of_bound: RADIUS_Attribute:value: 0 > 7"));
}

#[test]
fn hardware_addresses_are_written_alike() {
    assert_eq!(normal_mac(b"0200.0000.000A"), "02:00:00:00:00:0a");
    assert_eq!(normal_mac(b"hello"), "");
}
