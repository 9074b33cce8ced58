//! How SMB lies in a byte stream ([MS-SMB2] section 2.1), and its times.

use tyto_core::net::{Proto, Side};

use super::{SPEC, begins_message, framed, may_begin_message, probe};
use crate::analyzer::conversation_tests::Bench;
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

/// A message of one command ([MS-SMB2] section 2.2.1).
fn message(command: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut message = b"\0\0\0\0\xfeSMB\x40\0\0\0\0\0\0\0".to_vec();
    message.extend([command, 0, 1, 0, flags]);
    message.resize(4 + 64, 0);
    message.extend(body);
    let length = u16::try_from(message.len() - 4).unwrap();
    message[2..4].copy_from_slice(&length.to_be_bytes());
    message
}

#[test]
fn behind_a_message_whose_rest_is_lost_the_next_piece_is_lost_too() {
    let echo = message(13, 0, &[4, 0, 0, 0]);
    let pieces_to_confirm = |sent_before_gap: usize| {
        let mut bench = Bench::new(&SPEC, Proto::Tcp);
        // So late, a fault does not end the analysis.
        bench.send(Side::Orig, &message(13, 0, &[0; 11_000]));
        bench.send(Side::Orig, &echo[..sent_before_gap]);
        bench.conn.on_stage(|stage, cx| stage.gap(Side::Orig, 32, cx));
        // The third piece without a fault tells that it is SMB.
        (1..9).find(|_| {
            bench.send(Side::Orig, &echo);
            bench.service() == "smb"
        })
    };
    assert_eq!(pieces_to_confirm(echo.len()), Some(1));
    assert_eq!(pieces_to_confirm(40), Some(2));
}
