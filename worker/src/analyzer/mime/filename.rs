//! Names of files in Content-Disposition and Content-Type (RFC 6266, RFC 5987), by the rules of
//! Zeek's `extract_filename_from_content_disposition`.

use super::header::{Header, skip_blanks};
use crate::analyzer::uri;

/// The file's name in the value of a Content-Disposition header, where there is one.
fn of_disposition(value: &[u8]) -> Option<Vec<u8>> {
    last_key(value, b"filename", true).map(|_| extract(value))
}

/// The file's name in the value of a Content-Type header, where there is one.
fn of_content_type(value: &[u8]) -> Option<Vec<u8>> {
    last_key(value, b"name", false).map(|_| extract(value))
}

/// The file's name in a header of an entity, where there is one.
pub(crate) fn of_header(header: &Header<'_>) -> Option<Vec<u8>> {
    if header.is(b"content-disposition") {
        of_disposition(header.value)
    } else if header.is(b"content-type") {
        of_content_type(header.value)
    } else {
        None
    }
}

/// What follows the last `key`, blanks, an asterisk if `may_be_extended`, and `=`.
fn last_key<'v>(value: &'v [u8], key: &[u8], may_be_extended: bool) -> Option<&'v [u8]> {
    (0..value.len()).rev().find_map(|start| {
        let rest = value.get(start..)?;
        let (found, rest) = rest.split_at_checked(key.len())?;
        if !found.eq_ignore_ascii_case(key) {
            return None;
        }
        let rest = skip_blanks(rest);
        let star = if may_be_extended { rest.strip_prefix(b"*") } else { None };
        star.unwrap_or(rest).strip_prefix(b"=")
    })
}

fn extract(value: &[u8]) -> Vec<u8> {
    let mut name = last_key(value, b"name", true).map_or(value, skip_blanks);
    if let Some(quoted) = name.strip_prefix(b"\"") {
        name = quoted.split(|c| *c == b'"').next().unwrap_or_default();
    }
    uri::unescape(behind_language(name), None)
}

/// What is behind `charset'language'`.
fn behind_language(name: &[u8]) -> &[u8] {
    let mut parts = name.splitn(3, |c| *c == b'\'');
    let (Some(charset), Some(language), Some(rest)) = (parts.next(), parts.next(), parts.next())
    else {
        return name;
    };
    if charset.is_empty() || !charset.iter().chain(language).all(|c| is_attr_char(*c)) {
        return name;
    }
    rest.rsplit(|c| *c == b'\'').next().unwrap_or_default()
}

/// Zeek's class has the range from `+` to `^`, not RFC 5987's single characters.
const fn is_attr_char(c: u8) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'+'..=b'^' | b'_' | b'`' | b'{' | b'}' | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_quoted_bare_and_with_a_language() {
        for (value, expected) in [
            (&b"attachment; filename=\"a b.txt\"; size=3"[..], &b"a b.txt"[..]),
            (b"attachment; FileName = x.exe", b"x.exe"),
            (b"attachment; filename*=UTF-8''%e2%82%ac.txt", b"\xe2\x82\xac.txt"),
            (b"attachment; filename=\"open", b"open"),
        ] {
            assert_eq!(of_disposition(value).as_deref(), Some(expected));
        }
        assert_eq!(of_disposition(b"attachment"), None);
        assert_eq!(of_content_type(b"image/png; name=a.png").as_deref(), Some(&b"a.png"[..]));
        assert_eq!(of_content_type(b"image/png"), None);
    }
}
