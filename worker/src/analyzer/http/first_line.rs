//! Request and status lines (RFC 9112 sections 3 and 4, HTTP/0.9), as lenient as Zeek.

use super::super::mime::header::{is_blank, is_special, skip_blanks};
use super::super::{Cx, uri};
use super::Dialog;

/// Major and minor number; (0, 0) when unknown.
pub(super) type Version = (u8, u8);

/// Shortest method of HTTP/0.9: anything shorter is another protocol.
const METHOD_BYTES_MIN: usize = 3;

/// A request line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestLine<'l> {
    pub(super) method: &'l [u8],
    /// Escapes resolved.
    pub(super) uri: Vec<u8>,
}

/// A status line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StatusLine<'l> {
    pub(super) version: Version,
    /// Unset when the line ends before it.
    pub(super) code: Option<u64>,
    pub(super) reason: Option<&'l [u8]>,
}

impl<'l> RequestLine<'l> {
    /// Reads a line; says on `cx` what is odd about it. The version counts for `dialog` even if
    /// the line turns out to be none.
    pub(super) fn parse(line: &'l [u8], dialog: &mut Dialog, cx: &mut Cx<'_>) -> Option<Self> {
        let method_len = line.iter().take_while(|c| is_token_char(**c)).count();
        let (method, behind) = line.split_at_checked(method_len)?;
        if method.is_empty() {
            let at = line.len().checked_sub(9);
            let end = at.and_then(|at| line.get(at..at + 6));
            let has_version = end.is_some_and(|end| end.eq_ignore_ascii_case(b" HTTP/"));
            cx.weird(if has_version {
                "bad_HTTP_request_with_version"
            } else {
                "bad_HTTP_request"
            });
            return None;
        }
        let rest = skip_blanks(behind);
        if rest.len() == behind.len() {
            cx.weird("bad_HTTP_request");
            return None;
        }
        let (uri_len, version) = Self::uri_and_version(rest, cx);
        if let Some(version) = version {
            dialog.set_request_version(version, cx);
        }
        let uri = uri::unescape(rest.get(..uri_len).unwrap_or_default(), Some(cx));
        let is_old = dialog.request_version == (0, 9);
        if is_old && (method.len() < METHOD_BYTES_MIN || uri_len == 0) {
            cx.weird("bad_HTTP_request");
            return None;
        }
        Some(Self { method, uri })
    }

    /// Where the URI ends in `rest`, and the version. What stands between them and is no URI
    /// belongs to the URI.
    fn uri_and_version(rest: &[u8], cx: &mut Cx<'_>) -> (usize, Option<Version>) {
        let mut uri_end = rest.iter().take_while(|c| uri::is_uri_char(**c) || **c == b'%').count();
        if has_keyword(rest, cx) && uri_end >= rest.len() {
            cx.weird("missing_HTTP_uri");
            uri_end = 0;
        }
        let mut at = uri_end;
        while at < rest.len() {
            uri_end = at;
            let tail = rest.get(at..).unwrap_or_default();
            let behind = skip_blanks(tail);
            at += tail.len() - behind.len();
            if has_keyword(behind, cx) {
                let number = behind.get(5..).unwrap_or_default();
                // Shorter than `HTTP/1.1`: the version stays what it was.
                return (uri_end, (number.len() >= 3).then(|| version(number)));
            }
            at += 1;
        }
        (uri_end, Some((0, 9)))
    }
}

impl<'l> StatusLine<'l> {
    /// Reads a line; `None` when it is none.
    pub(super) fn parse(line: &'l [u8], cx: &mut Cx<'_>) -> Option<Self> {
        if !has_keyword(line, cx) {
            return None;
        }
        let rest = line.get(5..).unwrap_or_default();
        let version = version(rest);
        let rest = skip_blanks(behind_word(rest));
        let none = Self { version, code: None, reason: None };
        let Some((code, rest)) = rest.split_at_checked(3) else { return Some(none) };
        let code = match code {
            [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u64::from(a - b'0') * 100 + u64::from(b - b'0') * 10 + u64::from(c - b'0')
            }
            _ => 0,
        };
        let rest = behind_word(rest);
        let reason = (!rest.is_empty()).then(|| skip_blanks(rest));
        Some(Self { version, code: Some(code), reason })
    }
}

/// What is behind everything up to the next blank.
fn behind_word(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().take_while(|c| !is_blank(**c)).count();
    bytes.get(len..).unwrap_or_default()
}

/// Whether `bytes` begin with `HTTP/`. In lower case that is a weird.
fn has_keyword(bytes: &[u8], cx: &mut Cx<'_>) -> bool {
    let Some(keyword) = bytes.get(..5) else { return false };
    if !keyword.eq_ignore_ascii_case(b"HTTP/") {
        return false;
    }
    if keyword != b"HTTP/" {
        cx.weird("lowercase_HTTP_keyword");
    }
    true
}

const fn version(number: &[u8]) -> Version {
    match number {
        [major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9', ..] => (*major - b'0', *minor - b'0'),
        _ => (0, 0),
    }
}

/// Characters of tokens (RFC 2616 section 2.2): those of mail, without braces.
const fn is_token_char(c: u8) -> bool {
    matches!(c, 33..=126) && !is_special(c) && !matches!(c, b'{' | b'}')
}
