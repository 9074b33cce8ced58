//! Messages of protocol 3, in any split.

use super::message::{Message, Messages, Said, Wrong, backend, frontend, startup};
use super::probe;
use crate::analyzer::{First, Match};

fn messages(pieces: &[&[u8]]) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Messages::default();
    let mut found = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while let Ok(Some(message)) = messages.next(&mut rest) {
            found.push((message.kind, message.body));
        }
    }
    found
}

#[test]
fn messages_come_out_whole_however_their_bytes_come() {
    let wire = b"Q\x00\x00\x00\x09hey\x00\x00Z\x00\x00\x00\x05IX\x00\x00\x00\x04";
    let whole = messages(&[wire]);
    assert_eq!(whole, [(b'Q', b"hey\0\0".to_vec()), (b'Z', b"I".to_vec()), (b'X', vec![])]);
    let single: Vec<&[u8]> = wire.chunks(1).collect();
    assert_eq!(messages(&single), whole);
}

#[test]
fn what_the_server_says_is_read() {
    let read = |kind, body: &[u8]| backend(&Message { kind, len: body.len(), body: body.to_vec() });
    assert_eq!(read(b'R', b"\x00\x00\x00\x00"), Ok(Said::AuthenticationOk));
    assert_eq!(read(b'R', b"\x00\x00\x00\x0a\x00"), Ok(Said::Authentication(10)));
    assert_eq!(read(b'Z', b"E"), Ok(Said::Ready(false)));
    assert_eq!(read(b'Z', b"Q"), Err(Wrong));
    let error = read(b'E', b"Mno\0C1\0\0");
    let fields = vec![(b'M', b"no".to_vec()), (b'C', b"1".to_vec())];
    assert_eq!(error, Ok(Said::Error(fields)));
    let query = Message { kind: b'Q', len: 2, body: b"a\0".to_vec() };
    assert_eq!(frontend(&query), Said::Query(b"a".to_vec()));
}

#[test]
fn startup_names_user_and_database() {
    let parameters: [(&[u8], &[u8]); 2] = [(b"user", b"u"), (b"database", b"d")];
    assert_eq!(startup(b"user\0u\0database\0d\0\0"), Some(parameters.to_vec()));
    assert_eq!(startup(b"user\0\0\0"), None);
}

#[test]
fn both_sides_are_looked_at() {
    let ask = |orig, resp| probe(&First { orig, resp, resp_port: 1 });
    assert_eq!(ask(b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"S"), Match::Yes);
    let startup = b"\x00\x00\x00\x10\x00\x03\x00\x00user\0u\0\0";
    assert_eq!(ask(startup, b"R\x00\x00\x00\x08"), Match::Yes);
    assert_eq!(ask(startup, b""), Match::Later);
    assert_eq!(ask(b"GET / HTTP", b""), Match::No);
}
