//! Paths as the `arg` column shows them: below the directory that the session is in, with
//! `.` and `..` taken out where they can be.

/// `name` as seen from `dir`, shortened.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    append(&mut path, dir, name);
    path
}

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
    let mut kept: Vec<&[u8]> = Vec::new();
    for (index, part) in path.split(|byte| *byte == b'/').enumerate() {
        match (part, kept.last().copied()) {
            (b"", _) => {}
            (b".", _) if index > 0 => {}
            (b"..", Some(b".")) => {
                kept.pop();
                kept.push(part);
            }
            (b"..", Some(last)) if last != b"~" && last != b".." => {
                kept.pop();
            }
            _ => kept.push(part),
        }
    }
    let short = kept.join(&b'/');
    to.truncate(begin + usize::from(path.starts_with(b"/")));
    to.extend_from_slice(&short);
}
