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
    assert_eq!(shown(b".", b"a.txt"), b"./a.txt");
    assert_eq!(shown(b"/pub/", b"../x//y/./z"), b"/x/y/z");
    assert_eq!(shown(b"/pub", b"/etc/passwd"), b"/etc/passwd");
    assert_eq!(path::first_in(b"\"/home/u\" is the directory"), b"/home/u");
}

fn shown(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut text = b"ftp://h".to_vec();
    path::append(&mut text, dir, name);
    text.split_off(7)
}

/// Every path of up to eight characters becomes what its list of parts becomes.
#[test]
fn a_path_is_shortened_where_it_lies_as_a_list_of_its_parts_is() {
    const CHARS: &[u8] = b"/.~a";
    for len in 0..=8 {
        for number in 0..CHARS.len().pow(len) {
            let char = |at| CHARS[number / CHARS.len().pow(at) % CHARS.len()];
            let path: Vec<u8> = (0..len).map(char).collect();
            let expected = shortened(&path);
            assert_eq!(shown(b"", &path), expected, "{}", path.escape_ascii());
        }
    }
}

fn shortened(path: &[u8]) -> Vec<u8> {
    if !path.windows(2).any(|pair| pair == b"/." || pair == b"//") {
        let slash = if path.len() > 1 { path.strip_suffix(b"/") } else { None };
        return slash.unwrap_or(path).to_vec();
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for (index, part) in path.split(|byte| *byte == b'/').enumerate() {
        match (part, kept.last().copied()) {
            (b"", _) => {}
            (b".", _) if index > 0 => {}
            (b"..", Some(b".")) => kept[0] = part,
            (b"..", Some(last)) if last != b"~" && last != b".." => drop(kept.pop()),
            _ => kept.push(part),
        }
    }
    let root: &[u8] = if path.starts_with(b"/") { b"/" } else { b"" };
    [root, &kept.join(&b'/')].concat()
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
