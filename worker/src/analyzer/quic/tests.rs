//! The client's first packet of RFC 9001 appendix A, and what is no QUIC.

use tyto_core::net::{Proto, Side};

use super::protection::Keys;
use super::version::Version;
use super::{SPEC, probe};
use crate::analyzer::conversation_tests::{Bench, hex};
use crate::analyzer::{First, Match};

/// RFC 9001 appendix A.3: the server's first packet.
const SERVER_INITIAL: &str = "\
    cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a\
    5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3\
    dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84\
    022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc4\
    2158407dd074ee";

#[test]
fn a_packet_is_opened_with_the_name_that_the_client_chose() {
    let version = Version::of(1).expect("a version");
    let name = hex("8394c8f03e515708");
    let keys = Keys::derive(version, &name, false).expect("keys");
    let packet = hex(SERVER_INITIAL);
    let frames = keys.open(&packet, 18).expect("frames");
    // An acknowledgement, then a CRYPTO frame with a server's hello.
    assert_eq!(frames.get(..11), Some(&hex("02000000000600405a0200")[..]));
    let client = Keys::derive(version, &name, true).expect("keys");
    assert!(client.open(&packet, 18).is_none());
}

#[test]
fn first_packets_are_recognised() {
    let ask = |orig: &[u8]| probe(&First { orig, resp: b"", resp_port: 1 });
    assert_eq!(ask(&hex("c3 00000001 08")), Match::Yes);
    assert_eq!(ask(&hex("d3 6b3343cf 08")), Match::Yes);
    assert_eq!(ask(&hex("c3 ff00001d 08")), Match::Later);
}

#[test]
fn an_unknown_version_has_a_row_and_ends_the_analysis() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(Side::Orig, &hex("c3 1a2a3a4a 02 abcd 01 ef 00"));
    assert_eq!(bench.service(), "");
    let rows = bench.end();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(row.contains(r#""version":"unknown-1a2a3a4a","client_initial_dcid":"abcd""#), "{row}");
    assert!(row.contains(r#""client_scid":"ef","history":"U""#), "{row}");
}

#[test]
fn what_is_cut_anywhere_does_no_harm() {
    let packet = hex(SERVER_INITIAL);
    for len in 0..packet.len() {
        let mut bench = Bench::new(&SPEC, Proto::Udp);
        bench.send(Side::Resp, &packet[..len]);
        assert_eq!(bench.service(), "");
    }
}
