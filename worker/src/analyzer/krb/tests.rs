//! Kerberos messages by RFC 4120 section 5.

use tyto_core::time::Ts;

use super::parser::{Message, Refusal, message};
use super::{either, framed};
use crate::analyzer::detect::{First, Match};
use crate::analyzer::windows::frames::Length;
use crate::analyzer::windows::reader::Reader;

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

fn number(index: u8, value: u8) -> Vec<u8> {
    tlv(0xa0 + index, &tlv(2, &[value]))
}

fn name(index: u8, parts: &[&str]) -> Vec<u8> {
    let parts: Vec<u8> = parts.iter().flat_map(|part| tlv(27, part.as_bytes())).collect();
    let name = [number(0, 1), tlv(0xa1, &tlv(0x30, &parts))].concat();
    tlv(0xa0 + index, &tlv(0x30, &name))
}

fn as_request() -> Vec<u8> {
    let body = [
        tlv(0xa0, &tlv(3, &[0, 0x40, 0x80, 0, 0])),
        name(1, &["bob"]),
        tlv(0xa2, &tlv(27, b"LAN")),
        name(3, &["krbtgt", "LAN"]),
        tlv(0xa5, &tlv(24, b"20370913024805Z")),
    ]
    .concat();
    let request = [number(1, 5), number(2, 10), tlv(0xa4, &tlv(0x30, &body))].concat();
    tlv(0x6a, &tlv(0x30, &request))
}

fn refusal() -> Vec<u8> {
    let content = [
        number(0, 5),
        number(1, 30),
        tlv(0xa4, &tlv(24, b"20370913024805Z")),
        number(6, 6),
        tlv(0xa7, &tlv(27, b"LAN")),
        name(8, &["bob"]),
        tlv(0xab, &tlv(27, b"CLIENT_NOT_FOUND")),
    ]
    .concat();
    tlv(0x7e, &tlv(0x30, &content))
}

#[test]
fn a_request_tells_who_wants_what() {
    let bytes = as_request();
    let mut count = 0;
    message(Reader::big(&bytes), |message| {
        count += 1;
        let Message::Request(request) = message else { panic!("{message:?}") };
        assert_eq!(request.kind, 10);
        assert_eq!(request.client.as_deref(), Some(&b"bob"[..]));
        assert_eq!(request.realm.as_deref(), Some(&b"LAN"[..]));
        assert_eq!(request.service.as_deref(), Some(&b"krbtgt/LAN"[..]));
        assert_eq!(request.options, Some((true, true)));
        assert_eq!((request.from, request.till), (None, Some(Ts::new(2_136_422_885, 0))));
    })
    .unwrap();
    assert_eq!(count, 1);
}

#[test]
fn a_refusal_tells_why() {
    let bytes = refusal();
    message(Reader::big(&bytes), |message| {
        let Message::Error(Refusal { code, client, client_realm, text, .. }) = message else {
            panic!("{message:?}");
        };
        assert_eq!(code, 6);
        assert_eq!(client.as_deref(), Some(&b"bob"[..]));
        assert_eq!(client_realm, Some(&b"LAN"[..]));
        assert_eq!(text, Some(&b"CLIENT_NOT_FOUND"[..]));
    })
    .unwrap();
}

#[test]
fn cut_messages_are_faults_or_say_less() {
    // A message may be cut between two of its fields, as Zeek takes it.
    let bytes = refusal();
    for len in 0..bytes.len() {
        let told = message(Reader::big(&bytes[..len]), |message| {
            let Message::Error(refusal) = message else { panic!("{message:?}") };
            assert!(refusal.client.is_none_or(|client| client == b"bob"), "{len} bytes");
            assert!(refusal.text.is_none(), "{len} bytes");
        });
        assert!(told.is_err() || len > 10, "{len} bytes");
    }
    let bytes = as_request();
    for len in 0..bytes.len() {
        let told = message(Reader::big(&bytes[..len]), |message| {
            let Message::Request(request) = message else { panic!("{message:?}") };
            assert!(request.client.is_none_or(|client| client == b"bob"), "{len} bytes");
            assert!(request.till.is_none(), "{len} bytes");
        });
        assert!(told.is_err() || len > 10, "{len} bytes");
    }
}

#[test]
fn the_length_in_front_counts_only_what_follows() {
    assert_eq!(framed(&[0, 0, 0]), Ok(Length::Unknown));
    assert_eq!(framed(&[0, 0, 1, 0]), Ok(Length::Known(260)));
}

#[test]
fn messages_are_known_by_tag_and_version() {
    let (request, reply) = (as_request(), refusal());
    let first = |orig, resp| First { orig, resp, resp_port: 4000 };
    assert_eq!(either(&first(&request, b""), 0), Match::Yes);
    assert_eq!(either(&first(b"GET / HTTP/1.1", &reply), 0), Match::Yes);
    assert_eq!(either(&first(&request[..9], b""), 0), Match::Later);
    assert_eq!(either(&first(b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"), 0), Match::No);
}
