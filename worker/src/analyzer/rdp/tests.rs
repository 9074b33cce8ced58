//! The first PDUs of a session (`[MS-RDPBCGR]` section 2.2.1).

use super::pdu::{Said, read};
use super::{keyboard, next_pdu};
use crate::analyzer::bytes::Cursor;

fn said(body: &[u8]) -> Option<Vec<Said>> {
    let mut said = Vec::new();
    read(body, &mut said).map(|()| said)
}

#[test]
fn a_request_has_a_cookie_and_a_confirmation_a_protocol() {
    let mut request = vec![0x26, 0xe0, 0, 0, 0, 0, 0];
    request.extend(b"Cookie: mstshash=u\r\n\x01\x00\x08\x00\x03\x00\x00\x00");
    request[0] = u8::try_from(request.len() - 1).expect("short");
    assert_eq!(said(&request), Some(vec![Said::Cookie(b"u".to_vec())]));
    let confirm = b"\x0e\xd0\x00\x00\x00\x00\x00\x02\x00\x08\x00\x02\x00\x00\x00";
    assert_eq!(said(confirm), Some(vec![Said::Negotiated(2)]));
    assert_eq!(said(b"\x0e\xd0\x00\x00\x00\x00\x00\x02\x00\x08"), None, "cut");
}

#[test]
fn pdus_wait_until_they_are_whole() {
    let mut cursor = Cursor::new(b"\x03\x00\x00\x07abc\x03\x00\x00\x08a");
    assert_eq!(next_pdu(&mut cursor), Some(Some(&b"abc"[..])));
    assert_eq!(next_pdu(&mut cursor), None);
    assert_eq!(next_pdu(&mut Cursor::new(b"\x03\x00\x00\x00")), Some(None));
}

#[test]
fn keyboards_have_names() {
    assert_eq!(keyboard::name(1054), "Thai");
    assert_eq!(keyboard::name(263_198), "Thai (Best Guess for 263198)");
    assert_eq!(keyboard::name(0xfffe), "keyboard-65534");
}
