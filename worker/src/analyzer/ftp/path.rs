//! Paths as the `arg` column shows them: below the directory that the session is in, with
//! `.` and `..` taken out where they can be.

/// `name` as seen from `dir`, shortened.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() || is_absolute(name) {
        return shorten(name.to_vec());
    }
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    shorten(path)
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

fn shorten(mut path: Vec<u8>) -> Vec<u8> {
    if !path.array_windows().any(|pair| matches!(pair, b"/." | b"//")) {
        if path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        return path;
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
    let mut short = Vec::with_capacity(path.len());
    if path.starts_with(b"/") {
        short.push(b'/');
    }
    short.extend_from_slice(&kept.join(&b'/'));
    short
}
