//! Frames, segments and fragments (IEEE 1815 sections 4, 8 and 9).
#![expect(clippy::cast_possible_truncation, reason = "what tests make is short")]

use tyto_core::net::{Proto, Side};

use super::link::checksum;
use super::{SPEC_TCP, SPEC_UDP, probe_tcp};
use crate::analyzer::conversation_tests::{Bench, hex, whole_or_in_pieces};
use crate::analyzer::{First, Match};

/// A frame that carries `segment`, whose first byte is the transport's.
fn frame(control: u8, segment: &[u8]) -> Vec<u8> {
    let header = [0x05, 0x64, segment.len() as u8 + 5, control, 1, 0, 2, 0];
    let mut bytes = [&header[..], &checksum(&header).to_le_bytes()].concat();
    for block in segment.chunks(16) {
        bytes.extend_from_slice(block);
        bytes.extend(checksum(block).to_le_bytes());
    }
    bytes
}

/// First and last segment at once.
const WHOLE: u8 = 0xc0;
const FROM_MASTER: u8 = 0xc4;
const FROM_OUTSTATION: u8 = 0x44;

/// IEEE 1815 section 9.2.4.3.1: the example of a header.
#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(checksum(&hex("05 64 05 c0 01 00 00 04")).to_le_bytes(), [0xe9, 0x21]);
}

#[test]
fn a_request_and_its_answer_are_one_row_however_they_are_cut() {
    let answer = [&[0x40, 0xc1, 0x81, 0x10, 0x00][..], &[0xaa; 40]].concat();
    let talk = [
        (Side::Orig, frame(FROM_MASTER, &[WHOLE, 0xc1, 0x01, 0x3c, 0x02, 0x06])),
        (
            Side::Resp,
            [frame(FROM_OUTSTATION, &answer), frame(FROM_OUTSTATION, &[0x81, 1, 2])].concat(),
        ),
        (Side::Orig, frame(FROM_MASTER, &[WHOLE, 0xc2, 0x00])),
    ];
    let rows = whole_or_in_pieces(&SPEC_TCP, &talk);
    let [first, second] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(first.contains(r#""fc_request":"READ","fc_reply":"RESPONSE","iin":4096"#), "{first}");
    assert!(second.ends_with(r#""fc_request":"CONFIRM"}"#), "{second}");
}

#[test]
fn broken_checksums_end_the_analysis() {
    let mut header = frame(FROM_MASTER, &[WHOLE, 0xc1, 0x01]);
    header[8] ^= 1;
    let mut block = frame(FROM_MASTER, &[WHOLE, 0xc1, 0x01]);
    block[11] ^= 1;
    for (bytes, weird) in [
        (header, "dnp3_corrupt_header_checksum"),
        (block, "dnp3_corrupt_app_chunk_checksum"),
        (frame(FROM_MASTER, &[0x80, 0xc1, 0x01]), "dnp3_first_application_layer_chunk_missing"),
        (b"GET / HTTP/1.1".to_vec(), "dnp3_header_lacks_magic"),
    ] {
        let mut bench = Bench::new(&SPEC_UDP, Proto::Udp);
        bench.send(Side::Orig, &bytes);
        bench.send(Side::Orig, &frame(FROM_MASTER, &[WHOLE, 0xc1, 0x01]));
        let rows = bench.end();
        assert!(rows[0].contains(weird), "{rows:?}");
        assert_eq!(rows.len(), 1, "{rows:?}");
    }
}

#[test]
fn an_object_that_is_cut_takes_the_service() {
    let mut bench = Bench::new(&SPEC_TCP, Proto::Tcp);
    bench.send(Side::Orig, &frame(FROM_MASTER, &[WHOLE, 0xc1, 0x01, 0x3c]));
    assert_eq!(bench.service(), "");
    let rows = bench.end();
    assert!(rows[0].contains("out_of_bound: Object_Header:qualifier_field: 3 > 1"), "{rows:?}");
}

#[test]
fn the_responder_shows_itself_by_its_first_bytes() {
    let ask = |resp| probe_tcp(&First { orig: b"", resp, resp_port: 4000 });
    assert_eq!(ask(&[0x05, 0x64, 0x05]), Match::Yes);
    assert_eq!(ask(&[0x05]), Match::Later);
    assert_eq!(ask(b"no"), Match::No);
}
