//! RESP 2 and 3, whole and cut.

use super::probe;
use super::resp::{Command, Kind, Reply, Stop};
use crate::analyzer::bytes::Cursor;
use crate::analyzer::{First, Match};

fn text(wire: &[u8]) -> Result<String, Stop> {
    Reply::read(&mut Cursor::new(wire))
        .map(|reply| String::from_utf8_lossy(&reply.text).into_owned())
}

#[test]
fn values_are_shown_as_text() {
    assert_eq!(text(b"+OK\r\n").as_deref(), Ok("OK"));
    assert_eq!(text(b"$3\r\nabc\r\n").as_deref(), Ok("abc"));
    assert_eq!(text(b"$-1\r\n").as_deref(), Ok(""));
    assert_eq!(text(b"*2\r\n:1\r\n*1\r\n_\r\n").as_deref(), Ok("[1, [null]]"));
    assert_eq!(text(b"%1\r\n+a\r\n#t\r\n").as_deref(), Ok("{a: T}"));
    assert_eq!(text(b"~1\r\n,1.5\r\n").as_deref(), Ok("(1.5)"));
    assert_eq!(text(b"|1\r\n+a\r\n:1\r\n+b\r\n").as_deref(), Ok("b"));
    assert_eq!(text(b"?\r\n"), Err(Stop::Wrong));
}

#[test]
fn errors_and_pushes_are_told_apart() {
    let kind = |wire: &[u8]| Reply::read(&mut Cursor::new(wire)).map(|reply| reply.kind);
    assert_eq!(kind(b"-ERR no\r\n"), Ok(Kind::Error));
    assert_eq!(kind(b">1\r\n+m\r\n"), Ok(Kind::Push));
    assert_eq!(kind(b":1\r\n"), Ok(Kind::Answer));
}

#[test]
fn what_is_cut_is_waited_for_everywhere() {
    let wire = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n";
    for len in 0..wire.len() {
        let cut = Command::read(&mut Cursor::new(&wire[..len]));
        assert!(matches!(cut, Err(Stop::Later(needed)) if needed > len), "{len}");
    }
    let command = Command::read(&mut Cursor::new(wire)).expect("it is whole");
    assert_eq!(command.words, [b"GET".to_vec(), b"key".to_vec()]);
    assert_eq!(command.log().key.as_deref(), Some(&b"key"[..]));
}

#[test]
fn a_line_is_a_command_too_and_quotes_hold_it_together() {
    let command = Command::read(&mut Cursor::new(b"set a \"b c\"\r\n")).expect("a command");
    assert_eq!(command.words, [b"set".to_vec(), b"a".to_vec(), b"\"b c\"".to_vec()]);
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    assert_eq!(text(&b"*1\r\n".repeat(30)), Err(Stop::Wrong));
    assert_eq!(text(b"*99999\r\n"), Err(Stop::Wrong));
}

#[test]
fn the_server_answers_with_a_value() {
    let ask = |orig, resp| probe(&First { orig, resp, resp_port: 1 });
    assert_eq!(ask(b"PING\r\n", b"+PONG\r\n"), Match::Yes);
    assert_eq!(ask(b"*1\r\n$4\r\nPING\r\n", b"$4\r\nPONG\r\n"), Match::Yes);
    assert_eq!(ask(b"", b"+OK ready\r\n"), Match::Later);
    assert_eq!(ask(b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200"), Match::No);
}
