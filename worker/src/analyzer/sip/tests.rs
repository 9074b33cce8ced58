//! SIP messages, whole and in pieces.

use super::*;

const INVITE: &[u8] = b"INVITE sip:b@example.org SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9\r\nContent-Length: 4\r\n\r\nv=0\n";

fn events(datagrams: &[&[u8]]) -> Vec<String> {
    let mut messages = Messages::new(true);
    let mut told = Vec::new();
    for datagram in datagrams {
        let fed = messages.feed(datagram, |event| told.push(format!("{event:?}")));
        if fed.is_err() {
            told.push("not SIP".to_owned());
        }
    }
    told
}

#[test]
fn a_message_in_pieces_of_any_size_says_the_same() {
    let whole = events(&[INVITE]);
    assert_eq!(whole.len(), 4);
    for step in 1..20 {
        assert_eq!(events(&INVITE.chunks(step).collect::<Vec<_>>()), whole);
    }
}

#[test]
fn what_is_no_request_line_is_told_and_the_next_message_is_read() {
    let told = events(&[b"HELLO\r\n", INVITE]);
    assert_eq!((&*told[0], told.len()), ("not SIP", 5));
}

#[test]
fn tags_and_branches_are_cut_off() {
    assert_eq!(before(b"\"A\" <sip:a@b>;tag=1;x=2", b"tag="), b"\"A\" <sip:a@b>");
    assert_eq!(before(b"SIP/2.0/UDP h; branch=z9", b"branch"), b"SIP/2.0/UDP h");
    assert_eq!(before(b"<sip:a@b>;x=1", b"tag="), b"<sip:a@b>;x=1");
}

#[test]
fn requests_are_recognised_by_a_line_and_replies_by_the_first() {
    assert!(is_request(INVITE));
    assert!(is_request(b"odd\nINVITE sip:a@b SIP/2.0\r\n"));
    assert!(!is_request(b"GET / HTTP/1.1\r\n"));
    assert!(is_reply(b"SIP/2.0 200 OK\r\n"));
    assert!(!is_reply(b"SIP/2.0"));
}
