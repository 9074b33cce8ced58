//! Messages of all versions (RFC 1157, RFC 3412, RFC 3414).
#![expect(clippy::cast_possible_truncation, reason = "what tests make is short")]

use tyto_core::net::{Proto, Side};

use super::SPEC;
use super::parser::{self, Kind};
use crate::analyzer::conversation_tests::{Bench, hex};

/// A value in BER.
fn ber(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let bytes = parts.concat();
    let len = match bytes.len() {
        len @ ..=127 => vec![len as u8],
        len => vec![0x82, (len >> 8) as u8, len as u8],
    };
    [vec![tag], len, bytes].concat()
}

fn number(value: u8) -> Vec<u8> {
    ber(0x02, &[vec![value]])
}

fn binding(oid: &str, tag: u8, value: &[u8]) -> Vec<u8> {
    ber(0x30, &[ber(0x06, &[hex(oid)]), ber(tag, &[value.to_vec()])])
}

fn pdu(tag: u8, bindings: &[Vec<u8>]) -> Vec<u8> {
    ber(tag, &[number(1), number(0), number(0), ber(0x30, bindings)])
}

fn with_community(version: u8, pdu: Vec<u8>) -> Vec<u8> {
    ber(0x30, &[number(version), ber(0x04, &[b"public".to_vec()]), pdu])
}

fn version_3(scoped: Vec<u8>) -> Vec<u8> {
    let global = ber(0x30, &[number(1), number(9), ber(0x04, &[vec![4]]), number(3)]);
    let user = ber(
        0x30,
        &[
            ber(0x04, &[b"engine".to_vec()]),
            number(1),
            number(2),
            ber(0x04, &[b"alice".to_vec()]),
            ber(0x04, &[]),
            ber(0x04, &[]),
        ],
    );
    ber(0x30, &[number(3), global, ber(0x04, &[user]), scoped])
}

const SYS_DESCR: &str = "2b06010201010100";
const SYS_UP_TIME: &str = "2b06010201010300";

#[test]
fn what_is_asked_and_answered_is_counted_by_variable() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    let asked = [binding(SYS_DESCR, 5, b""), binding(SYS_UP_TIME, 5, b"")];
    bench.send(Side::Orig, &with_community(1, pdu(0xa0, &asked)));
    assert_eq!(bench.service(), "");
    let long = vec![b'x'; 200];
    let told = [binding(SYS_DESCR, 4, &long), binding(SYS_UP_TIME, 0x43, &[0, 100])];
    bench.send(Side::Resp, &with_community(1, pdu(0xa2, &told)));
    assert_eq!(bench.service(), "snmp");
    let rows = bench.end();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    for part in [
        r#""duration":0.1,"version":"2c","community":"public","get_requests":2,"#,
        r#""get_bulk_requests":0,"get_responses":2,"set_requests":0,"display_string":"xxx"#,
        r#""up_since":999999.2}"#,
    ] {
        assert!(row.contains(part), "{part} in {row}");
    }
}

#[test]
fn version_3_shows_the_user_unless_it_is_encrypted() {
    let context = [ber(0x04, &[b"engine".to_vec()]), ber(0x04, &[])].concat();
    let plain = ber(0x30, &[context, pdu(0xa5, &[binding(SYS_DESCR, 5, b"")])]);
    let bytes = version_3(plain);
    let (message, fault) = parser::parse(&bytes);
    assert_eq!(
        (message.kind, message.community, fault),
        (Some(Kind::GetBulk), Some(&b"alice"[..]), None)
    );
    let bytes = version_3(ber(0x04, &[vec![7; 40]]));
    let (message, fault) = parser::parse(&bytes);
    assert_eq!((message.kind, message.community, fault), (Some(Kind::Other), None, None));
}

#[test]
fn traps_are_read_by_their_own_shape() {
    let trap = ber(
        0xa4,
        &[
            ber(0x06, &[hex(SYS_DESCR)]),
            ber(0x40, &[vec![10, 0, 0, 1]]),
            number(6),
            number(1),
            ber(0x43, &[vec![1]]),
            ber(0x30, &[]),
        ],
    );
    let bytes = with_community(0, trap);
    let (message, fault) = parser::parse(&bytes);
    assert_eq!((message.kind, fault), (Some(Kind::Other), None));
}

#[test]
fn what_is_cut_or_of_another_type_is_a_fault() {
    let whole = with_community(1, pdu(0xa0, &[binding(SYS_DESCR, 5, b"")]));
    for len in 0..whole.len() {
        let cut = &whole[..len];
        let (message, fault) = parser::parse(cut);
        // Behind the head of the list, which is not asked for its end, nothing is missed.
        assert!(fault.is_some() || message.bindings == 0, "{len}");
    }
    let fault = parser::parse(&hex("04 00")).1;
    assert_eq!(fault.as_deref(), Some("Got ASN.1 tag 4, expect 48"));
    let fault = parser::parse(&hex("30 10 02 0a 00000000000000000000")).1;
    assert_eq!(fault.as_deref(), Some("ASN.1 integer width overflow: 10"));
}

#[test]
fn a_number_of_an_identifier_that_no_64_bits_hold_is_a_weird_of_nobody() {
    let weirds = |oid: &str| {
        let mut bench = Bench::new(&SPEC, Proto::Udp);
        bench.send(Side::Orig, &with_community(1, pdu(0xa0, &[binding(oid, 5, b"")])));
        bench.end().into_iter().filter(|row| row.starts_with("weird ")).collect::<Vec<_>>()
    };
    let long = weirds("2b06 8181818181818181818101 828282828282828282828202");
    assert_eq!(long.len(), 1, "{long:?}");
    assert!(long[0].contains("\"name\":\"asn_oid_subidentifier_too_long\",\"addl\":\"11\""));
    assert!(!long[0].contains("id.orig_h"), "{long:?}");
    assert!(weirds("2b06 81818181818181818101").is_empty());
    assert!(weirds("2b06 8181818181818181818101 81").is_empty(), "the last has no end");
}
