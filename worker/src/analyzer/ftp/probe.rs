//! FTP by its first lines: a client that says USER, a server that greets and asks to go on.

use crate::analyzer::detect::{line_ends, lines};
use crate::analyzer::{First, Match};

/// Whether both sides speak FTP.
pub(super) fn matches(first: &First<'_>) -> Match {
    match server(first.resp) {
        Match::Yes => client(first.orig),
        other => other,
    }
}

/// `USER` at the begin of a line.
fn client(bytes: &[u8]) -> Match {
    let is_user = |text: &[u8]| {
        let spaces = text.iter().take_while(|byte| **byte == b' ').count();
        let word = text.get(spaces..spaces + 5).unwrap_or_default();
        word.eq_ignore_ascii_case(b"user ")
    };
    if lines(bytes).any(is_user) { Match::Yes } else { Match::Later }
}

/// A greeting, and behind its lines the reply to USER.
fn server(bytes: &[u8]) -> Match {
    let blank = |byte: &&u8| matches!(**byte, b'\r' | b'\n' | b' ');
    let bytes = bytes.get(bytes.iter().take_while(blank).count()..).unwrap_or_default();
    let Some((&[a, b, c, d], rest)) = bytes.split_first_chunk::<4>() else { return Match::Later };
    if !matches!([a, b, c], [b'1' | b'2', b'2', b'0']) || d.is_ascii_digit() {
        return Match::No;
    }
    let is_reply = |text: &[u8]| {
        let spaces = text.iter().take_while(|byte| **byte == b' ').count();
        matches!(
            text.get(spaces..).unwrap_or_default(),
            [b'2', b'3', b'0', end, ..] | [b'3', b'3', b'1', end, ..] if !end.is_ascii_digit()
        )
    };
    if line_ends(rest).any(is_reply) { Match::Yes } else { Match::Later }
}
