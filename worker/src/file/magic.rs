//! Type of a file by its first bytes: the strongest of the patterns of [`MAGIC`] that matches
//! (Zeek: `file-magic`). Patterns are read when they are first needed, each once.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::magic_table::MAGIC;
use super::pattern::{INPUT_BYTES_MAX, Pattern};

/// Bytes of a file that are looked at (Zeek: `default_file_bof_buffer_size`).
pub(super) const SNIFFED_BYTES: usize = INPUT_BYTES_MAX;

/// What the words in braces stand for.
const WORDS: [(&str, &str); 6] = [
    ("{prologue}", r"{comments}(?:<\?xml .*\?>)?{comments}"),
    ("{comments}", r"(?:{ws}(?:<!--.*-->)?{ws})*"),
    ("{ws}", r"[\x09\x0a\x0d ]*"),
    ("{bom}", r"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?"),
    ("{zipped}", r"PK\x03\x04.{22}\x08\x00\x00\x00mimetypeapplication/"),
    ("{script}", r"#![^\x0a]{1,15}bin/(?:env[\x09-\x0d ]+)?"),
];

static PATTERNS: [OnceLock<Option<Pattern>>; MAGIC.len()] =
    [const { OnceLock::new() }; MAGIC.len()];
static BY_FIRST_BYTE: OnceLock<Vec<Vec<u16>>> = OnceLock::new();

/// The type of a file that begins with `begin`.
pub(crate) fn mime_type(begin: &[u8]) -> Option<&'static str> {
    let begin = begin.get(..SNIFFED_BYTES).unwrap_or(begin);
    let first = *begin.first()?;
    let candidates = BY_FIRST_BYTE.get_or_init(by_first_byte).get(usize::from(first))?;
    candidates.iter().map(|&index| usize::from(index)).find_map(|index| {
        let (_, mime, _, pattern) = MAGIC.get(index)?;
        let read = || Pattern::new(&written_out(pattern));
        let pattern = PATTERNS.get(index)?.get_or_init(read).as_ref()?;
        pattern.matches(begin).then_some(*mime)
    })
}

/// For each first byte the patterns that can match, strongest first.
fn by_first_byte() -> Vec<Vec<u16>> {
    let can_begin = |first: &[u8], byte: u8| first.is_empty() || first.contains(&byte);
    (0..=u8::MAX)
        .map(|byte| {
            let indices = 0_u16..;
            let matching =
                MAGIC.iter().zip(indices).filter(|((.., first, _), _)| can_begin(first, byte));
            matching.map(|(_, index)| index).collect()
        })
        .collect()
}

/// The pattern with the words in braces replaced by what they stand for.
fn written_out(pattern: &str) -> Cow<'_, str> {
    let mut whole = Cow::Borrowed(pattern);
    for (word, meaning) in WORDS {
        if whole.contains('{') && whole.contains(word) {
            whole = Cow::Owned(whole.replace(word, meaning));
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs that match each pattern and those near to it: each with a byte more, less, or
    /// another one.
    #[test]
    fn patterns_match_what_the_same_regular_expressions_match() {
        let mut dice = Dice(1);
        for (_, mime, first, text) in MAGIC {
            let text = written_out(text);
            let pattern = Pattern::new(&text).unwrap_or_else(|| panic!("{mime}: {text}"));
            let regex = regex::bytes::RegexBuilder::new(&format!(r"\A(?:{text})"))
                .unicode(false)
                .dot_matches_new_line(true)
                .build()
                .unwrap();
            let mut matched = 0;
            for round in 0..40 {
                let mut input = pattern.sample(&mut |below| dice.below(below));
                assert!(pattern.matches(&input), "{mime}: {text}: {input:?}");
                for _ in 0..round % 4 {
                    let at = dice.below(input.len().max(1));
                    match dice.below(4) {
                        0 if at < input.len() => drop(input.remove(at)),
                        1 => input.insert(at, b"\n <a-"[dice.below(5)]),
                        2 => input.truncate(at),
                        _ if at < input.len() => input[at] ^= 1 << dice.below(8),
                        _ => {}
                    }
                }
                let is_match = regex.is_match(&input);
                matched += u32::from(is_match);
                assert_eq!(pattern.matches(&input), is_match, "{mime}: {text}: {input:?}");
                let can_begin =
                    first.is_empty() || input.first().is_some_and(|byte| first.contains(byte));
                assert!(can_begin || !is_match, "{mime}: first bytes: {input:?}");
            }
            assert!(matched >= 10, "{mime}: {text}");
        }
    }

    /// Numbers that are the same in each run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
        }
    }

    #[test]
    fn the_strongest_come_first() {
        assert!(MAGIC.is_sorted_by(|a, b| (-a.0, a.1) <= (-b.0, b.1)));
    }

    #[test]
    fn types_are_told_by_their_begin() {
        for (begin, expected) in [
            (&b"GIF89a"[..], Some("image/gif")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"MZ\x90\x00", Some("application/x-dosexec")),
            (b" \r\n<!DOCTYPE html><html>", Some("text/html")),
            (b"<?xml version=\"1.0\"?><!-- x --><html>", Some("text/html")),
            (b"<?xml version=\"1.0\"?><a/>", Some("application/xml")),
            (b"{\"a\": 1}", Some("text/json")),
            (b"hello, world", Some("text/plain")),
            (b"hello", None),
            (b"\x00\x00\x00\x18ftypmp42", Some("video/mp4")),
            (b"#!/usr/bin/env python3\n", Some("text/x-python")),
            (b"text\n--- a\n+++ b\n@@ -1 +1 @@\n", Some("text/x-diff")),
            (b"", None),
        ] {
            assert_eq!(mime_type(begin), expected, "{begin:?}");
        }
    }
}
