//! Versions and messages (RFC 6143 section 7).

use tyto_core::net::{Proto, Side};

use super::{SPEC, Stop, client_message, probe, version};
use crate::analyzer::bytes::Cursor;
use crate::analyzer::conversation_tests::Bench;
use crate::analyzer::{First, Match};

#[test]
fn versions_are_six_digits() {
    let read = version(&mut Cursor::new(b"RFB 003.008\n"));
    assert!(matches!(read, Ok((major, minor)) if major == b"003" && minor == b"008"));
    assert!(matches!(version(&mut Cursor::new(b"RFB 003.")), Err(Stop::Later)));
    assert!(matches!(version(&mut Cursor::new(b"RFC 003.008\n")), Err(Stop::Wrong(_))));
}

#[test]
fn messages_of_the_client_have_their_lengths() {
    let mut cursor = Cursor::new(b"\x05\x00\x00\x01\x00\x02\x04");
    assert!(client_message(&mut cursor).is_ok());
    assert_eq!(cursor.position(), 6);
    assert!(matches!(client_message(&mut cursor), Err(Stop::Later)));
    assert!(matches!(client_message(&mut Cursor::new(b"\x09")), Err(Stop::Wrong(_))));
}

#[test]
fn both_sides_begin_with_their_version() {
    let ask = |orig, resp| probe(&First { orig, resp, resp_port: 5900 });
    assert_eq!(ask(b"RFB 003.008\n", b"RFB 003.003\n"), Match::Yes);
    assert_eq!(ask(b"", b"RFB 003.003\n"), Match::Later);
    assert_eq!(ask(b"", b"HTTP"), Match::No);
}

#[test]
fn a_security_type_that_is_none_has_a_name_too() {
    let mut bench = Bench::new(&SPEC, Proto::Tcp);
    bench.send(Side::Resp, b"RFB 003.003\n");
    bench.send(Side::Orig, b"RFB 003.003\n");
    bench.send(Side::Resp, &[7, 13, 142, 5]);
    let rows = bench.end().concat();
    assert!(rows.contains(r#""authentication_method":"RealVNC""#), "{rows}");
}
