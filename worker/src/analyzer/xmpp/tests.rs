//! Tags and first bytes of XMPP (RFC 6120 section 4).

use super::probe;
use super::token::{Next, next};
use crate::analyzer::{First, Match};

#[test]
fn tags_come_one_after_the_other() {
    let xml = b"\n<stream:stream to='x'>text</a>";
    let Next::Tag { name, behind } = next(xml) else { panic!("a tag is there") };
    assert_eq!(name, b"stream:stream");
    assert_eq!(next(behind), Next::Tag { name: b"/a", behind: b"" });
    assert_eq!(next(b"<proceed"), Next::Later);
    assert_eq!(next(b"a > b"), Next::Wrong);
}

#[test]
fn a_stream_names_its_name_space() {
    let ask = |orig| probe(&First { orig, resp: b"", resp_port: 7 });
    assert_eq!(ask(b"<?xml version='1.0'?><stream:stream xmlns='jabber:client'>"), Match::Yes);
    assert_eq!(ask(b"<stream:stream to='a'"), Match::Later);
    assert_eq!(probe(&First { orig: b"GET", resp: b"HTTP", resp_port: 7 }), Match::No);
}
