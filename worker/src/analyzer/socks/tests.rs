//! Messages of all versions (RFC 1928, 1929).

use std::net::IpAddr;

use tyto_core::net::Side;

use super::parser::{Message, Phase, message};
use super::probe;
use crate::analyzer::bytes::Cursor;
use crate::analyzer::{First, Match};

fn read(side: Side, phase: Phase, bytes: &[u8]) -> Option<Message> {
    message(side, phase, &mut Cursor::new(bytes))
}

#[test]
fn requests_name_where_they_go() {
    let past = Phase { has_method: true, is_login: false, method: 0 };
    let by_name = read(Side::Orig, past, b"\x05\x01\x00\x03\x07example\x00\x50");
    assert!(matches!(by_name, Some(Message::Request { version: 5, to, port: 80 })
        if to.name.as_deref() == Some(b"example") && to.host.is_none()));
    let v4 = read(Side::Orig, Phase::default(), b"\x04\x01\x00\x16\x0a\x00\x00\x01bob\x00");
    let addr: IpAddr = [10, 0, 0, 1].into();
    assert!(matches!(v4, Some(Message::Request { version: 4, to, port: 22 })
        if to.host == Some(addr)));
    assert!(read(Side::Orig, past, b"\x05\x01\x00\x03\x07exam").is_none(), "not whole");
}

#[test]
fn what_is_no_socks_is_told() {
    let wrong = read(Side::Orig, Phase::default(), b"\x06\x01");
    assert!(matches!(wrong, Some(Message::Wrong(why))
        if why == "unsupported/unknown SOCKS version 6"));
}

#[test]
fn both_sides_must_look_like_socks() {
    let ask = |orig, resp| probe(&First { orig, resp, resp_port: 9050 });
    assert_eq!(ask(b"\x05\x01\x00", b"\x05\x00"), Match::Yes);
    assert_eq!(ask(b"\x04\x01\x00\x50\x01\x02\x03\x04\x00", b"\x00\x5a"), Match::Yes);
    assert_eq!(ask(b"\x05\x01\x00", b""), Match::Later);
    assert_eq!(ask(b"GET", b""), Match::No);
}
