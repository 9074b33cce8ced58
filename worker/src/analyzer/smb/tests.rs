//! How SMB lies in a byte stream ([MS-SMB2] section 2.1), and its times.

use super::{begins_message, framed, may_begin_message, probe};
use crate::analyzer::detect::{First, Match};
use crate::analyzer::windows::frames::Length;

#[test]
fn a_message_has_24_bits_of_length_in_front() {
    assert_eq!(framed(&[0, 1, 2]), Ok(Length::Unknown));
    assert_eq!(framed(&[0, 1, 0, 2]), Ok(Length::Known(0x1_0006)));
    assert_eq!(framed(&[0x85, 0, 0, 0]), Ok(Length::Known(4)));
}

#[test]
fn both_versions_are_known_by_their_mark_and_encryption_is_not() {
    let first = |orig| First { orig, resp: orig, resp_port: 4445 };
    assert_eq!(probe(&first(b"\0\0\0\x40\xfeSMB")), Match::Yes);
    assert_eq!(probe(&first(b"\0\0\0\x40\xffSMB")), Match::Yes);
    assert_eq!(probe(&first(b"\0\0\0\x40\xfdSMB")), Match::No);
    assert_eq!(probe(&first(b"\0\0\0\x40\xfeS")), Match::Later);
    assert_eq!(probe(&first(b"GET / HTTP/1.1")), Match::No);
}

#[test]
fn a_short_piece_may_become_a_message() {
    assert!(may_begin_message(b"\0\0"));
    assert!(may_begin_message(b"\0\0\0\x40\xff"));
    assert!(!may_begin_message(b"\0\0\0\x40G"));
    assert!(begins_message(b"\0\0\0\x40\xffSMB..."));
}
