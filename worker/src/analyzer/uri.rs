//! Escapes in URIs (RFC 3986 section 2.1, and the %uXXXX that some programs write).

use super::Cx;

/// Resolves the escapes of `uri`. What is broken stays as it is, and is told to `cx` if there is
/// one.
pub(crate) fn unescape(uri: &[u8], mut cx: Option<&mut Cx<'_>>) -> Vec<u8> {
    let mut odd = |name| {
        if let Some(cx) = cx.as_deref_mut() {
            cx.weird(name);
        }
    };
    let mut out = Vec::with_capacity(uri.len());
    let mut rest = uri;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        rest = escaped.get(1..).unwrap_or_default();
        match *rest {
            [] => {
                out.push(b'%');
                odd("illegal_%_at_end_of_URI");
            }
            [c] => {
                out.extend_from_slice(&[b'%', c]);
                odd("partial_escape_at_end_of_URI");
                rest = &[];
            }
            // The first of two is dropped, the second begins an escape.
            [b'%', ..] => odd("double_%_in_URI"),
            [high, low, ref behind @ ..] if hex(high).is_some() && hex(low).is_some() => {
                out.push(byte(high, low));
                rest = behind;
            }
            [b'u', a, b, c, d, ref behind @ ..] if [a, b, c, d].into_iter().all(is_hex) => {
                if (a, b) != (b'0', b'0') {
                    out.push(byte(a, b));
                }
                out.push(byte(c, d));
                rest = behind;
            }
            [c, ref behind @ ..] => {
                odd("unescaped_%_in_URI");
                out.extend_from_slice(&[b'%', c]);
                rest = behind;
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Characters that RFC 3986 and its predecessor allow in URIs, besides `%`. NUL is among them,
/// as in Zeek.
pub(crate) const fn is_uri_char(c: u8) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            b':' | b'/'
                | b'?'
                | b'#'
                | b'['
                | b']'
                | b'@'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b'-'
                | b'_'
                | b'.'
                | b'~'
                | 0
        )
}

const fn is_hex(c: u8) -> bool {
    c.is_ascii_hexdigit()
}

fn hex(c: u8) -> Option<u8> {
    char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn byte(high: u8, low: u8) -> u8 {
    hex(high).unwrap_or_default() << 4 | hex(low).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved_and_broken_ones_stay() {
        for (uri, expected) in [
            (&b"/a%20b"[..], &b"/a b"[..]),
            (b"/%u0041%u4142", b"/AAB"),
            (b"/%%41", b"/A"),
            (b"/%zz", b"/%zz"),
            (b"/%", b"/%"),
            (b"/%4", b"/%4"),
            (b"/plain", b"/plain"),
        ] {
            assert_eq!(unescape(uri, None), expected);
        }
    }
}
