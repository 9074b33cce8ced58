//! Paths as the `arg` column shows them: below the directory that the session is in, with
//! `.` and `..` taken out where they can be.

use std::ops::Range;

/// Puts `name` as seen from `dir`, shortened, behind what is in `to`.
pub(super) fn append(to: &mut Vec<u8>, dir: &[u8], name: &[u8]) {
    let begin = to.len();
    if !stands_alone(dir, name) {
        to.extend_from_slice(dir);
        if !dir.ends_with(b"/") {
            to.push(b'/');
        }
    }
    to.extend_from_slice(name);
    shorten(to, begin);
}

/// Whether `name` as seen from `dir` begins with a slash.
pub(super) fn is_rooted(dir: &[u8], name: &[u8]) -> bool {
    if stands_alone(dir, name) { name } else { dir }.starts_with(b"/")
}

/// Whether `name` is the same from everywhere.
fn stands_alone(dir: &[u8], name: &[u8]) -> bool {
    dir.is_empty() || is_absolute(name)
}

/// The first absolute path in `text`, up to a space or quote; empty when there is none.
pub(super) fn first_in(text: &[u8]) -> &[u8] {
    let Some(start) = (0..text.len()).find(|at| text.get(*at..).is_some_and(is_absolute)) else {
        return &[];
    };
    let path = text.get(start..).unwrap_or_default();
    let mut len = 0;
    while let Some(byte) = path.get(len) {
        match byte {
            b'\\' if path.get(len + 1) == Some(&b' ') => len += 2,
            b'"' | b' ' => break,
            _ => len += 1,
        }
    }
    path.get(..len).unwrap_or_default()
}

/// It begins at a root: `/` or `C:\`.
fn is_absolute(path: &[u8]) -> bool {
    match path {
        [b'/', ..] => true,
        [drive, b':', b'/' | b'\\', ..] => drive.is_ascii_alphabetic(),
        _ => false,
    }
}

/// Shortens the path that begins at `begin`.
fn shorten(to: &mut Vec<u8>, begin: usize) {
    let path = to.get(begin..).unwrap_or_default();
    if !path.array_windows().any(|pair| matches!(pair, b"/." | b"//")) {
        if path.len() > 1 && path.ends_with(b"/") {
            to.pop();
        }
        return;
    }
    // What is kept is no longer than what was read, so it takes its place.
    let root = begin + usize::from(path.starts_with(b"/"));
    let (mut kept, mut next) = (root, begin);
    while next <= to.len() {
        let part = next..next + to.get(next..).map_or(0, part_len);
        let is_first = next == begin;
        next = part.end + 1;
        let last = to.get(last_part(to, root..kept)..kept).unwrap_or_default();
        match (to.get(part.clone()).unwrap_or_default(), last) {
            (b"", _) => continue,
            (b".", _) if !is_first => continue,
            (b"..", b".") => kept = root,
            (b"..", last) if !matches!(last, b"" | b"~" | b"..") => {
                kept = last_part(to, root..kept).saturating_sub(1).max(root);
                continue;
            }
            _ => {}
        }
        if kept > root
            && let Some(slash) = to.get_mut(kept)
        {
            *slash = b'/';
            kept += 1;
        }
        let len = part.len();
        to.copy_within(part, kept);
        kept += len;
    }
    to.truncate(kept);
}

/// Length of what stands before the next slash.
fn part_len(path: &[u8]) -> usize {
    memchr::memchr(b'/', path).unwrap_or(path.len())
}

/// Where the last part of what is kept begins.
fn last_part(path: &[u8], kept: Range<usize>) -> usize {
    let slash = path.get(kept.clone()).and_then(|kept| memchr::memrchr(b'/', kept));
    kept.start + slash.map_or(0, |at| at + 1)
}
