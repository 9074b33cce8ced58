//! SPNEGO tokens by RFC 4178 section 4.2.

use tyto_core::net::Side;

use super::parser::{Part, token};
use crate::analyzer::windows::reader::Reader;

fn parts(bytes: &[u8]) -> (Vec<Part<'_>>, bool) {
    let mut parts = Vec::new();
    let is_whole = token(Reader::little(bytes), |part| parts.push(part)).is_ok();
    (parts, is_whole)
}

/// accept-completed, mechanism NTLM, and a token.
const RESPONSE: &[u8] = &[
    0xa1, 0x15, 0x30, 0x13, 0xa0, 0x03, 0x0a, 0x01, 0x00, 0xa2, 0x0c, 0x04, 0x0a, b'N', b'T', b'L',
    b'M', b'S', b'S', b'P', 0, 2, 0,
];

#[test]
fn a_response_tells_the_state_and_carries_a_token() {
    let ntlm = Part::Ntlm(Side::Resp, b"NTLMSSP\0\x02\0");
    assert_eq!(parts(RESPONSE), (vec![Part::State(0), ntlm], true));
}

#[test]
fn the_state_is_told_also_when_the_rest_is_cut() {
    let (got, is_whole) = parts(&RESPONSE[..14]);
    assert_eq!(got, [Part::State(0)]);
    assert!(!is_whole);
    let fault = token(Reader::little(&RESPONSE[..14]), |_| {}).unwrap_err().to_string();
    assert!(fault.ends_with("GSSAPI_NEG_TOKEN_RESP_Arg:args: 14 > 5"), "{fault}");
}

#[test]
fn an_initial_token_carries_kerberos_with_its_object_id() {
    let bytes = [
        &[0x60, 0x1b, 0x06, 0x01, 0x2a, 0xa0, 0x16, 0x30, 0x14, 0xa2, 0x12, 0x04, 0x10][..],
        &[0x60, 0x0e, 0x06, 0x01, 0x2a, 0x01, 0x00],
        b"\x6eticket..",
    ]
    .concat();
    assert_eq!(parts(&bytes).0, [Part::Kerberos(Side::Orig, b"\x6eticket..")]);
}

#[test]
fn protected_messages_are_passed_over() {
    assert_eq!(parts(&[0x05, 0x04, 0, 0, 1]), (vec![], true));
}
