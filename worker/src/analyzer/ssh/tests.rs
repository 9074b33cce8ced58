//! What lengths tell of logins (RFC 4252), and which side has to offer what (RFC 4253).

use super::auth::Auth;
use super::{kex, probe};
use crate::analyzer::{First, Match};

#[test]
fn a_shorter_answer_is_a_success_and_one_like_the_last_a_failure() {
    let mut auth = Auth::default();
    assert_eq!(auth.server_sent(500), None, "the client did not speak yet");
    auth.client_spoke();
    let lens = [52, 400, 84, 84, 36];
    let told: Vec<_> = lens.into_iter().map(|len| auth.server_sent(len)).collect();
    assert_eq!(told, [None, None, None, Some(false), Some(true)]);
    assert_eq!(auth.server_sent(84), None, "decided");
}

#[test]
fn the_clients_first_name_that_the_server_has_is_agreed() {
    assert_eq!(kex::first_common(b"a,b,c", b"c,b"), Some(&b"b"[..]));
    assert_eq!(kex::first_common(b"a", b"b"), None);
}

#[test]
fn both_sides_show_a_version() {
    let ask = |orig, resp| probe(&First { orig, resp, resp_port: 2222 });
    assert_eq!(ask(b"SSH-2.0-x\r\n", b"SSH-1.99-y\r\n"), Match::Yes);
    assert_eq!(ask(b"SSH-2.0-x\r\n", b""), Match::Later);
    assert_eq!(ask(b"SSH-2.0-x\r\n", b"HTTP/1.1"), Match::No);
}
