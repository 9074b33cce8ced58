//! Header fields of mail and of HTTP, read as leniently as Zeek does: comments and odd characters
//! before names and tokens are passed over (RFC 2822 section 3.2.3, RFC 2045 section 5.1). Slices
//! in and out.

/// A header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'h> {
    /// What stands before the colon.
    pub name: &'h [u8],
    /// What stands behind it, without leading white space.
    pub value: &'h [u8],
}

impl<'h> Header<'h> {
    /// Reads a header line, folded lines put together. `None` when it is none.
    pub(crate) fn parse(line: &'h [u8]) -> Option<Self> {
        let (name, rest) = field_name(line)?;
        let value = skip_comments(rest).strip_prefix(b":")?;
        let space = value.iter().take_while(|c| is_space(**c)).count();
        Some(Self { name, value: value.get(space..).unwrap_or_default() })
    }

    /// Whether the field is called `name`, which is in lower case.
    pub(crate) const fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value's first token, and what is behind it.
    pub(crate) fn first_token(&self) -> Option<(&'h [u8], &'h [u8])> {
        token(self.value, false)
    }
}

pub(crate) const fn is_blank(c: u8) -> bool {
    matches!(c, b' ' | b'\t')
}

/// What is behind blanks.
pub(crate) fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|c| is_blank(**c)).count();
    bytes.get(blanks..).unwrap_or_default()
}

/// C's `isspace`.
const fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// What is behind white space and comments.
pub(crate) fn skip_comments(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    loop {
        match rest {
            [b' ' | b'\t', behind @ ..] => rest = behind,
            [b'(', ..] => rest = behind_comment(rest),
            _ => return rest,
        }
    }
}

/// What is behind the comment at the begin of `bytes`; nothing if it does not end.
fn behind_comment(bytes: &[u8]) -> &[u8] {
    let mut depth = 0_usize;
    let mut rest = bytes;
    while let [c, behind @ ..] = rest {
        rest = behind;
        match c {
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return rest;
                }
            }
            b'\\' => rest = rest.get(1..).unwrap_or_default(),
            _ => {}
        }
    }
    &[]
}

/// The first run of characters that `belongs` takes, and what is behind it. Others, comments
/// among them, are passed over.
fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    loop {
        let first = *rest.first()?;
        if belongs(first) {
            let len = rest.iter().take_while(|c| belongs(**c)).count();
            return rest.split_at_checked(len);
        }
        let behind = skip_comments(rest);
        rest = if behind.len() < rest.len() { behind } else { rest.get(1..)? };
    }
}

fn field_name(line: &[u8]) -> Option<(&[u8], &[u8])> {
    run(skip_comments(line), |c| matches!(c, 33..=126) && c != b':')
}

/// A token (RFC 2045 section 5.1). Of boundaries, all but quotes are taken.
pub(crate) fn token(bytes: &[u8], is_boundary: bool) -> Option<(&[u8], &[u8])> {
    let bytes = if is_boundary { bytes } else { skip_comments(bytes) };
    let is_special = |c| if is_boundary { c == b'"' } else { is_special(c) };
    run(bytes, |c| matches!(c, 33..=126) && !is_special(c))
}

/// Characters that no token has (`tspecials` of RFC 2045 section 5.1).
pub(crate) const fn is_special(c: u8) -> bool {
    matches!(
        c,
        b'(' | b')'
            | b'<'
            | b'>'
            | b'@'
            | b','
            | b';'
            | b':'
            | b'\\'
            | b'"'
            | b'/'
            | b'['
            | b']'
            | b'?'
            | b'='
    )
}

/// `type/subtype`, and what is behind.
pub(crate) fn media_type(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (main, rest) = token(value, false)?;
    let rest = skip_comments(rest).strip_prefix(b"/")?;
    let (_, rest) = token(rest, false)?;
    Some((main, rest))
}

/// A parameter's value, token or quoted string, and what is behind it.
fn parameter_value(bytes: &[u8], is_boundary: bool) -> Option<(Vec<u8>, &[u8])> {
    let bytes = if is_boundary { bytes } else { skip_comments(bytes) };
    let Some(quoted) = bytes.strip_prefix(b"\"") else {
        return token(bytes, is_boundary).map(|(value, rest)| (value.to_vec(), rest));
    };
    let mut value = Vec::new();
    let mut rest = quoted;
    loop {
        match rest {
            [] | [b'\\'] => return None,
            [b'"', behind @ ..] => return Some((value, behind)),
            [b'\\', c, behind @ ..] | [c, behind @ ..] => {
                value.push(*c);
                rest = behind;
            }
        }
    }
}

/// The boundary among the parameters of a multipart type. Of several, the last.
pub(crate) fn boundary(parameters: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let mut rest = parameters;
    while let Some(behind) = skip_comments(rest).strip_prefix(b";") {
        let Some((name, behind)) = token(behind, false) else { break };
        rest = behind;
        let Some(value) = skip_comments(behind).strip_prefix(b"=") else { continue };
        rest = value;
        let is_boundary = name.eq_ignore_ascii_case(b"boundary");
        let Some((value, behind)) = parameter_value(value, is_boundary) else { continue };
        rest = behind;
        if is_boundary {
            found = Some(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_a_colon_and_a_value_without_leading_space() {
        let header = Header::parse(b"Host: \t example.org ").unwrap();
        assert_eq!((header.name, header.value), (&b"Host"[..], &b"example.org "[..]));
        assert_eq!(Header::parse(b"no colon"), None);
        assert_eq!(Header::parse(b""), None);
        assert_eq!(Header::parse(b"(note) A (b) : c").unwrap().name, b"A");
    }

    #[test]
    fn a_boundary_may_be_quoted_or_not() {
        for parameters in
            [&b"; boundary=a?b"[..], b";charset=x; Boundary=\"a?b\"", b" ; boundary=\"a\\?b\""]
        {
            assert_eq!(boundary(parameters).as_deref(), Some(&b"a?b"[..]));
        }
        assert_eq!(boundary(b"; charset=x"), None);
    }
}
