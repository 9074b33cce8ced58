//! Tags out of XML, one after the other; what stands between them is skipped.

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'x> {
    /// A tag: its name, `/` in front when it closes, and what follows it.
    Tag { name: &'x [u8], behind: &'x [u8] },
    /// The tag is not whole.
    Later,
    /// It is no XML.
    Wrong,
}

/// The next tag.
pub(super) fn next(bytes: &[u8]) -> Next<'_> {
    let is_text = |byte: &&u8| !matches!(**byte, b'<' | b'>');
    let text = bytes.iter().take_while(is_text).count();
    let Some((&open, inside)) = bytes.get(text..).and_then(<[u8]>::split_first) else {
        return Next::Later;
    };
    if open != b'<' {
        return Next::Wrong;
    }
    let closes = usize::from(inside.first() == Some(&b'/'));
    let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(**byte, b'?' | b':');
    let name_len = closes + inside.iter().skip(closes).take_while(is_name).count();
    let len = inside.iter().take_while(is_text).count();
    match (inside.get(..name_len), inside.get(len), inside.get(len + 1..)) {
        (_, None, _) => Next::Later,
        (Some(name), Some(b'>'), Some(behind)) if name_len > closes => Next::Tag { name, behind },
        _ => Next::Wrong,
    }
}
