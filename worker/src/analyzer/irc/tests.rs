//! Lines, direct transfers and first bytes of IRC (RFC 1459).

use super::message::{self, Dcc, Fault, Message};
use super::probe;
use crate::analyzer::{First, Match};

#[test]
fn lines_have_tags_prefix_command_and_parameters() {
    let message = Message::read(b"@time=1 :nick!u@h privmsg  #a :hello").expect("a message");
    assert_eq!((message.command.as_slice(), message.params), (&b"PRIVMSG"[..], &b"#a :hello"[..]));
    let reply = Message::read(b":irc.example 001 nick :Welcome").expect("a reply");
    assert_eq!((reply.code, reply.params), (Some(1), &b"nick :Welcome"[..]));
    assert_eq!(Message::read(b":prefix").err(), Some(Fault::NoMessage));
    assert_eq!(Message::read(b"12x").err(), Some(Fault::Number));
}

#[test]
fn transfers_are_asked_for_in_messages() {
    let dcc = message::dcc(b":\x01DCC SEND a.txt 3232235521 4000 77\x01");
    let expected =
        Dcc { kind: b"SEND", file_name: b"a.txt", host: 0xc0a8_0001, port: 4000, size: 77 };
    assert_eq!(dcc, Some(Ok(expected)));
    assert_eq!(message::dcc(b":hello"), None);
    let too_high = message::dcc(b":\x01DCC SEND a.txt 1 70000 77\x01");
    assert_eq!(too_high, Some(Err(Fault::DccPort(70000))));
}

#[test]
fn a_client_registers_and_a_server_answers_with_numbers() {
    let ask = |orig, resp| probe::matches(&First { orig, resp, resp_port: 7000 });
    let registration = b"NICK a\r\nUSER a 0 * :A\r\n";
    assert_eq!(ask(registration, b":irc.example 001 a :Welcome"), Match::Yes);
    assert_eq!(ask(registration, b":irc.example NOTICE * :hi\r\n"), Match::Later);
    let late =
        b":irc.example NOTICE * :hi\r\n:irc.example NOTICE * :ho\r\n:irc.example 001 a :Welcome";
    assert_eq!(ask(registration, late), Match::Yes);
    assert_eq!(ask(b"PASS x\r\nCAP LS\r\nNICK a\r\nPING 1\r\nUSER a\r\n", late), Match::Yes);
    assert_eq!(ask(b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK"), Match::Later);
}
