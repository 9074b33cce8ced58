//! What the control connection says, read apart (RFC 959, 2428).

use std::net::IpAddr;

use super::address::{self, Endpoint};
use super::{path, probe};
use crate::analyzer::{First, Match};

fn at(addr: &str, port: u16) -> Option<Endpoint> {
    let addr: IpAddr = addr.parse().expect("a literal of the test");
    Some(Endpoint { addr, port })
}

#[test]
fn addresses_are_read_out_of_commands_and_replies() {
    assert_eq!(address::port(b"10,0,0,1,4,31"), at("10.0.0.1", 1055));
    assert_eq!(address::pasv(b"Entering Passive Mode (10,0,0,1,4,31)."), at("10.0.0.1", 1055));
    assert_eq!(address::pasv(b"Entering Passive Mode 10,0,0,1,4,31"), at("10.0.0.1", 1055));
    assert_eq!(address::eprt(b"|1|10.0.0.1|1055|"), at("10.0.0.1", 1055));
    assert_eq!(address::eprt(b"|2|2001:db8::1|1055|"), at("2001:db8::1", 1055));
    assert_eq!(address::epsv(b"Extended Passive Mode OK (|||1055|)"), at("::", 1055));
}

#[test]
fn addresses_that_are_none_are_none() {
    for text in [&b""[..], b"1,2,3", b"10,0,0,1,4,310", b"10,0,0,-1,4,31", b"a,b,c,d,e,f,g"] {
        assert_eq!(address::port(text), None);
    }
    for text in [&b""[..], b"|", b"|1|", b"|1|10.0.0.1|99999|", b"|1|10.0.0.1|22", b"|1|x|22|"] {
        assert_eq!(address::eprt(text), None);
    }
}

#[test]
fn paths_are_shortened() {
    assert_eq!(path::join(b".", b"a.txt"), b"./a.txt");
    assert_eq!(path::join(b"/pub/", b"../x//y/./z"), b"/x/y/z");
    assert_eq!(path::join(b"/pub", b"/etc/passwd"), b"/etc/passwd");
    assert_eq!(path::first_in(b"\"/home/u\" is the directory"), b"/home/u");
}

#[test]
fn both_sides_must_look_like_ftp() {
    let ask = |orig, resp| probe::matches(&First { orig, resp, resp_port: 2121 });
    assert_eq!(ask(b"USER a\r\n", b"220 hello\r\n331 go on\r\n"), Match::Yes);
    assert_eq!(ask(b"AUTH TLS\r\nUSER a\r\n", b"220 hello\r\n230-go on\r\n"), Match::Yes);
    let long = b"220-hello\r\n220-be kind\r\n220 on you go\r\n331 go on\r\n";
    assert_eq!(ask(b"FEAT\r\nSYST\r\nUSER a\r\n", long), Match::Yes);
    assert_eq!(ask(b"USER a\r\n", b"220 hello\r\n"), Match::Later);
    assert_eq!(ask(b"USER a\r\n", b"HTTP/1.1 200"), Match::No);
}
