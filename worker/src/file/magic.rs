//! Type of a file by its first bytes: the strongest of the patterns of [`MAGIC`] that matches
//! (Zeek: `file-magic`). Patterns are compiled when they are first needed, each once.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

use super::magic_table::MAGIC;

/// Bytes of a file that are looked at (Zeek: `default_file_bof_buffer_size`).
pub(super) const SNIFFED_BYTES: usize = 4096;
/// Size that one compiled pattern may have, bytes. The largest of the table has a quarter.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// What the words in braces stand for.
const WORDS: [(&str, &str); 6] = [
    ("{prologue}", r"{comments}(?:<\?xml .*\?>)?{comments}"),
    ("{comments}", r"(?:{ws}(?:<!--.*-->)?{ws})*"),
    ("{ws}", r"[\x09\x0a\x0d ]*"),
    ("{bom}", r"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?"),
    ("{zipped}", r"PK\x03\x04.{22}\x08\x00\x00\x00mimetypeapplication/"),
    ("{script}", r"#![^\x0a]{1,15}bin/(?:env[\x09-\x0d ]+)?"),
];

static COMPILED: [OnceLock<Option<Regex>>; MAGIC.len()] = [const { OnceLock::new() }; MAGIC.len()];
static BY_FIRST_BYTE: OnceLock<Vec<Vec<u16>>> = OnceLock::new();

/// The type of a file that begins with `begin`.
pub(crate) fn mime_type(begin: &[u8]) -> Option<&'static str> {
    let begin = begin.get(..SNIFFED_BYTES).unwrap_or(begin);
    let first = *begin.first()?;
    let candidates = BY_FIRST_BYTE.get_or_init(by_first_byte).get(usize::from(first))?;
    candidates.iter().map(|&index| usize::from(index)).find_map(|index| {
        let (_, mime, _, pattern) = MAGIC.get(index)?;
        let regex = COMPILED.get(index)?.get_or_init(|| compile(pattern)).as_ref()?;
        regex.is_match(begin).then_some(*mime)
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

/// None for a pattern that is not one; a test compiles them all.
fn compile(pattern: &str) -> Option<Regex> {
    let mut whole = format!(r"\A(?:{pattern})");
    for (word, meaning) in WORDS {
        if whole.contains(word) {
            whole = whole.replace(word, meaning);
        }
    }
    let mut builder = RegexBuilder::new(&whole);
    builder.unicode(false).dot_matches_new_line(true).size_limit(PATTERN_SIZE_MAX);
    builder.build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        for (_, mime, _, pattern) in MAGIC {
            assert!(compile(pattern).is_some(), "{mime}: {pattern}");
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
