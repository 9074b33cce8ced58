//! Messages by RFC 4511 section 4.

use super::parser::{Body, Message, length};
use super::probe;
use super::sasl;
use crate::analyzer::detect::{First, Match};
use crate::analyzer::windows::frames::Length;

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

fn message(operation: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&[2, 1, 7][..], operation].concat())
}

fn bind() -> Vec<u8> {
    let content = [&[2, 1, 3][..], &tlv(4, b"cn=a"), &tlv(0x80, b"secret")].concat();
    message(&tlv(0x60, &content))
}

fn result(tag: u8, code: u8) -> Vec<u8> {
    let content = [tlv(0x0a, &[code]), tlv(4, b""), tlv(4, b"because\0")].concat();
    message(&tlv(tag, &content))
}

#[test]
fn a_bind_names_who_logs_on() {
    let bytes = bind();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.id, message.operation), (7, 0));
    assert_eq!(message.object, b"cn=a");
    assert!(matches!(message.body, Body::BindRequest { version: 3, method: 0, .. }));
}

#[test]
fn an_answer_tells_how_it_ended() {
    let bytes = result(0x61, 49);
    let outcome = Message::parse(&bytes).unwrap().result.unwrap();
    assert_eq!((outcome.code, outcome.diagnostic.as_slice()), (49, &b"because?"[..]));
}

#[test]
fn changes_are_listed() {
    let attribute = tlv(0x30, &[tlv(4, b"sn"), tlv(0x31, &tlv(4, b"x"))].concat());
    let change = tlv(0x30, &[tlv(0x0a, &[2]), attribute].concat());
    let content = [tlv(4, b"cn=a"), tlv(0x30, &change)].concat();
    let bytes = message(&tlv(0x66, &content));
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.object, b"cn=a");
    assert_eq!(message.argument, b"replace(sn=x)");
}

#[test]
fn deletes_and_abandons_stand_in_their_tags() {
    let bytes = message(&tlv(0x4a, b"dc=lan"));
    assert_eq!(Message::parse(&bytes).unwrap().object, b"dc=lan");
    let bytes = message(&tlv(0x50, &[5]));
    assert_eq!(Message::parse(&bytes).unwrap().object, b"5");
}

#[test]
fn cut_messages_are_faults_and_their_length_is_known_early() {
    for bytes in [bind(), result(0x61, 0)] {
        assert_eq!(length(&bytes[..1]), Ok(Length::Unknown));
        assert_eq!(length(&bytes[..2]), Ok(Length::Known(bytes.len())));
        for len in 0..bytes.len() {
            assert!(Message::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
    }
}

#[test]
fn a_bind_and_its_answer_show_the_protocol() {
    let (request, answer) = (bind(), result(0x61, 0));
    let first = |orig, resp| First { orig, resp, resp_port: 4000 };
    assert_eq!(probe(&first(&request, &answer)), Match::Yes);
    assert_eq!(probe(&first(&answer, &request)), Match::Yes);
    assert_eq!(probe(&first(&request, b"")), Match::Later);
    assert_eq!(probe(&first(&request, b"HTTP")), Match::No);
    assert_eq!(probe(&first(b"GET /", b"")), Match::No);
}

#[test]
fn signed_tokens_are_opened_and_sealed_ones_not() {
    let token = |flags: u8, rotation: u8| {
        let head = [5, 4, flags, 0xff, 0, 2, 0, rotation, 0, 0, 0, 0, 0, 0, 0, 9];
        let content = if rotation == 0 { b"hello12" } else { b"12hello" };
        [&(u32::try_from(head.len()).unwrap() + 7).to_be_bytes()[..], &head, content].concat()
    };
    assert_eq!(sasl::signed(&token(1, 0)), Ok(Some(&b"hello"[..])));
    assert_eq!(sasl::signed(&token(1, 2)), Ok(Some(&b"hello"[..])));
    assert_eq!(sasl::signed(&token(3, 0)), Ok(None));
    assert!(sasl::signed(&token(1, 1)).is_err());
}
