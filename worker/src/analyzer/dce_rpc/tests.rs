//! PDUs by C706 chapter 12.6.

use super::parser::{Body, Header, Pdu, body, length};
use crate::analyzer::windows::frames::Length;

fn pdu(kind: u8, flags: u8, content: &[u8], verifier: &[u8]) -> Vec<u8> {
    let len = 16 + content.len() + verifier.len();
    let auth = verifier.len().saturating_sub(8);
    [
        &[5, 0, kind, flags, 0x10, 0, 0, 0][..],
        &u16::try_from(len).unwrap().to_le_bytes(),
        &u16::try_from(auth).unwrap().to_le_bytes(),
        &7_u32.to_le_bytes(),
        content,
        verifier,
    ]
    .concat()
}

fn bodies(bytes: &[u8]) -> Vec<Body<'_>> {
    let pdu = Pdu::parse(bytes).unwrap();
    let mut bodies = Vec::new();
    body(pdu.header, pdu.body, |body| bodies.push(body)).unwrap();
    bodies
}

/// One context, number 1, of `epmapper`.
fn bind() -> Vec<u8> {
    let uuid =
        [8, 0x83, 0xaf, 0xe1, 0x1f, 0x5d, 0xc9, 0x11, 0x91, 0xa4, 8, 0, 0x2b, 0x14, 0xa0, 0xfa];
    let context = [&[1, 0, 1, 0][..], &uuid, &[3, 0, 0, 0], &[0; 20]].concat();
    [&[0; 8][..], &[1, 0, 0, 0], &context].concat()
}

#[test]
fn a_bind_names_the_interface() {
    let interface = "e1af8308-5d1f-11c9-91a4-08002b14a0fa".to_owned();
    let expected = [Body::Bind { context: 1, interface }];
    assert_eq!(bodies(&pdu(11, 3, &bind(), &[])), expected);
}

#[test]
fn the_address_of_an_answer_is_without_its_nul() {
    let content = [&[0; 8][..], &[4, 0], b"135\0", &[0, 0], &[0, 0, 0, 0]].concat();
    assert_eq!(bodies(&pdu(12, 3, &content, &[])), [Body::BindAck { address: b"135" }]);
}

#[test]
fn requests_and_responses_name_context_and_operation() {
    let request = [0, 0, 0, 0, 1, 0, 3, 0];
    let response = [0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(bodies(&pdu(0, 3, &request, &[])), [Body::Request { context: 1, operation: 3 }]);
    assert_eq!(bodies(&pdu(2, 3, &response, &[])), [Body::Response { context: 1 }]);
}

#[test]
fn a_verifier_stands_behind_the_body() {
    let verifier = [&[0x0a, 6, 0, 0, 0, 0, 0, 0][..], b"NTLMSSP\0"].concat();
    let bytes = pdu(16, 3, &[1, 2, 3, 4], &verifier);
    let parsed = Pdu::parse(&bytes).unwrap();
    assert_eq!(parsed.verifier, Some((0x0a, &b"NTLMSSP\0"[..])));
    assert_eq!(parsed.body, [1, 2, 3, 4]);
    let Header { is_first, is_last, call_id, .. } = parsed.header;
    assert_eq!((is_first, is_last, call_id), (true, true, 7));
}

#[test]
fn numbers_may_be_big_endian() {
    let mut bytes = pdu(0, 3, &[0, 0, 0, 0, 0, 1, 0, 3], &[]);
    bytes[4] = 0;
    bytes[8..10].reverse();
    assert_eq!(length(&bytes), Ok(Length::Known(24)));
    assert_eq!(bodies(&bytes), [Body::Request { context: 1, operation: 3 }]);
}

#[test]
fn lengths_that_do_not_fit_are_faults() {
    let whole = pdu(11, 3, &bind(), &[]);
    for len in 16..whole.len() {
        assert!(Pdu::parse(&whole[..len]).is_err(), "{len} bytes");
    }
    let mut short = whole.clone();
    short[8..10].copy_from_slice(&15_u16.to_le_bytes());
    assert!(length(&short).is_err());
    let mut over = whole;
    over[10..12].copy_from_slice(&500_u16.to_le_bytes());
    assert!(Pdu::parse(&over).is_err());
    assert!(length(&[4, 0, 0]).is_err());
}
