//! IRC by its first lines: a client that registers with USER and NICK and a server that
//! answers with numbers, or two servers that introduce themselves.

use crate::analyzer::detect::{line_ends, lines};
use crate::analyzer::{First, Match};

/// Whether both sides speak IRC.
pub(super) fn matches(first: &First<'_>) -> Match {
    if first.orig.is_empty() || first.resp.is_empty() {
        return Match::Later;
    }
    // Few originators say one of these words: most conversations are told by one look at their side.
    if !lines(first.orig).any(says_word) {
        return Match::Later;
    }
    let is_client = answers(first.resp)
        && (registers(first.orig, b"user", b"nick") || registers(first.orig, b"nick", b"user"));
    if is_client || introduces(first.orig) && introduces(first.resp) {
        Match::Yes
    } else {
        Match::Later
    }
}

/// Whether `line` begins with a word that is looked for.
fn says_word(line: &[u8]) -> bool {
    let word: &[u8] = match skip_spaces(line).first() {
        Some(b'u' | b'U') => b"user",
        Some(b'n' | b'N') => b"nick",
        Some(b's' | b'S') => b"server",
        _ => return false,
    };
    after_word(line, word).is_some()
}

/// What follows `word` and the spaces behind it, where `text` begins with it.
fn after_word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let text = skip_spaces(text);
    let (head, rest) = text.split_at_checked(word.len())?;
    let is_word = head.eq_ignore_ascii_case(word) && rest.first() == Some(&b' ');
    is_word.then(|| skip_spaces(rest))
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    text.get(text.iter().take_while(|byte| **byte == b' ').count()..).unwrap_or_default()
}

const fn is_end(byte: &u8) -> bool {
    matches!(*byte, b'\r' | b'\n')
}

/// A line with command `one`, and behind it a whole one with command `other`. The first of each
/// has all behind it that later ones have.
fn registers(bytes: &[u8], one: &[u8], other: &[u8]) -> bool {
    let behind_one = lines(bytes).find_map(|line| after_word(line, one));
    let behind_other = behind_one
        .and_then(|rest| rest.get(1..))
        .and_then(|rest| line_ends(rest).find_map(|line| after_word(line, other)));
    behind_other.is_some_and(|rest| rest.iter().any(is_end))
}

/// A line with a number of three digits, the server's name before it or not.
fn answers(bytes: &[u8]) -> bool {
    let is_number = |text: &[u8]| matches!(text, [a, b, c, b' ', ..] if [a, b, c].iter().all(|d| d.is_ascii_digit()));
    lines(bytes).any(|line| {
        let behind_name = line.strip_prefix(b":").and_then(|line| {
            let len = line.iter().take_while(|byte| **byte != b' ' && !is_end(byte)).count();
            line.get(len..).filter(|_| len > 0)?.strip_prefix(b" ")
        });
        is_number(line) || behind_name.is_some_and(is_number)
    })
}

/// `SERVER name hops :about`.
fn introduces(bytes: &[u8]) -> bool {
    lines(bytes).any(|line| {
        let Some(rest) = after_word(line, b"server") else { return false };
        let name = rest.iter().take_while(|byte| **byte != b' ').count();
        let rest = skip_spaces(rest.get(name..).unwrap_or_default());
        let hops = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let rest = rest.get(hops..).unwrap_or_default();
        let about = skip_spaces(rest);
        name > 0
            && hops > 0
            && about.len() < rest.len()
            && about.first() == Some(&b':')
            && about.iter().skip(2).any(is_end)
    })
}
