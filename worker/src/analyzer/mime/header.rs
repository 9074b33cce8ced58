//! Header fields of MIME entities (RFC 822, 2045): names, tokens, quoted strings, comments. As
//! forgiving as Zeek: what cannot be read is passed over until something can.

/// What is between two values of a header field.
const fn is_lws(byte: u8) -> bool {
    byte == b'\t' || byte == b' '
}

/// May stand in the name of a field (RFC 822 section 3.1).
const fn is_name_byte(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && byte != b':'
}

/// May stand in a token (RFC 2045 section 5.1). A boundary is taken as it comes: programs put
/// there what would need quotes.
fn is_token_byte(byte: u8, is_boundary: bool) -> bool {
    let special = if is_boundary { &b"\""[..] } else { &b"()<>@,;:\\\"/[]?="[..] };
    byte > b' ' && byte < 0x7f && !special.contains(&byte)
}

/// `text` behind blanks and comments.
pub(super) fn skip_comments(text: &[u8]) -> &[u8] {
    let mut rest = text;
    loop {
        match rest.split_first() {
            Some((&byte, behind)) if is_lws(byte) => rest = behind,
            Some((b'(', _)) => rest = behind_comment(rest),
            _ => return rest,
        }
    }
}

/// `text`, which begins with a parenthesis, behind the one that closes it.
fn behind_comment(text: &[u8]) -> &[u8] {
    let mut depth = 0_u32;
    let mut is_quoted = false;
    for (index, &byte) in text.iter().enumerate() {
        match byte {
            _ if is_quoted => is_quoted = false,
            b'\\' => is_quoted = true,
            b'(' => depth += 1,
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return text.get(index + 1..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    &[]
}

/// The first run of bytes that `is_part` takes, and what stands behind it.
fn run(text: &[u8], skips_first: bool, is_part: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let mut rest = if skips_first { skip_comments(text) } else { text };
    loop {
        let (&first, behind) = rest.split_first()?;
        if is_part(first) {
            let len = rest.iter().position(|&byte| !is_part(byte)).unwrap_or(rest.len());
            return rest.split_at_checked(len);
        }
        let skipped = skip_comments(rest);
        rest = if skipped.len() < rest.len() { skipped } else { behind };
    }
}

/// The first token, and what stands behind it.
pub(super) fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    run(text, true, |byte| is_token_byte(byte, false))
}

/// Name and value of a field; none when there is no name, or no colon behind it.
pub fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = run(line, true, is_name_byte)?;
    let value = skip_comments(rest).strip_prefix(b":")?;
    let is_space = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    Some((name, value.get(start..).unwrap_or_default()))
}

/// `type/subtype`, and what stands behind it.
pub(super) fn slash_pair(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (first, rest) = token(text)?;
    let (second, rest) = token(skip_comments(rest).strip_prefix(b"/")?)?;
    Some((first, second, rest))
}

/// The `boundary` among the parameters that stand in `text`. The last counts, as in Zeek.
pub(super) fn boundary(text: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let mut rest = text;
    while let Some(behind) = skip_comments(rest).strip_prefix(b";") {
        let Some((name, behind)) = token(behind) else { return found };
        rest = behind;
        let Some(behind) = skip_comments(rest).strip_prefix(b"=") else { continue };
        rest = behind;
        let is_boundary = name.eq_ignore_ascii_case(b"boundary");
        let Some((value, behind)) = parameter(rest, is_boundary) else { continue };
        rest = behind;
        if is_boundary {
            found = Some(value);
        }
    }
    found
}

/// A token or quoted string, and what stands behind it.
fn parameter(text: &[u8], is_boundary: bool) -> Option<(Vec<u8>, &[u8])> {
    let text = if is_boundary { text } else { skip_comments(text) };
    if text.first() == Some(&b'"') {
        return quoted_string(text);
    }
    let (value, rest) = run(text, !is_boundary, |byte| is_token_byte(byte, is_boundary))?;
    Some((value.to_vec(), rest))
}

/// The string between quotes, its quoted pairs decoded (RFC 822 section 3.3).
fn quoted_string(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut is_quoted = false;
    for (index, &byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if is_quoted => {
                is_quoted = false;
                value.push(byte);
            }
            b'\\' => is_quoted = true,
            b'"' => return Some((value, text.get(index + 1..).unwrap_or_default())),
            _ => value.push(byte),
        }
    }
    None
}

/// The name of a file in the value of `Content-Disposition` or `Content-Type`; none where there
/// is no parameter whose name ends in `wanted` (`filename`, `name`).
pub fn filename(value: &[u8], wanted: &str) -> Option<Vec<u8>> {
    let names_it = (0..value.len()).any(|at| {
        let behind = value.get(at..).and_then(|rest| {
            let (word, rest) = rest.split_at_checked(wanted.len())?;
            word.eq_ignore_ascii_case(wanted.as_bytes()).then_some(rest)
        });
        let behind = behind.map(trim_blanks);
        // Only the disposition may be extended by RFC 2231.
        let behind = behind.map(|rest| match (wanted, rest.strip_prefix(b"*")) {
            ("filename", Some(rest)) => rest,
            _ => rest,
        });
        behind.is_some_and(|rest| rest.starts_with(b"="))
    });
    names_it.then(|| disposition_filename(value))
}

/// What stands behind the last `name=`, without quotes, language, percent signs
/// (Zeek: `extract_filename_from_content_disposition`).
fn disposition_filename(value: &[u8]) -> Vec<u8> {
    let mut name = behind_last_name(value).unwrap_or(value);
    if let Some(quoted) = name.strip_prefix(b"\"") {
        let len = quoted.iter().position(|&byte| byte == b'"').unwrap_or(quoted.len());
        name = quoted.get(..len).unwrap_or_default();
    }
    unescape_uri(behind_language(name))
}

fn behind_last_name(value: &[u8]) -> Option<&[u8]> {
    // A dot of the pattern ends at a line's end: it is not looked for behind one.
    let line_len = value.iter().position(|&byte| byte == b'\n').unwrap_or(value.len());
    (0..line_len).rev().find_map(|at| {
        let (word, rest) = value.get(at..)?.split_at_checked(4)?;
        if !word.eq_ignore_ascii_case(b"name") {
            return None;
        }
        let rest = trim_blanks(rest);
        let rest = rest.strip_prefix(b"*").unwrap_or(rest);
        rest.strip_prefix(b"=").map(trim_blanks)
    })
}

fn trim_blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| !is_lws(byte)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// `charset'language'name` without what stands before the name (RFC 5987).
fn behind_language(name: &[u8]) -> &[u8] {
    let is_part = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'`' | b'{' | b'}' | b'~')
            || (b'+'..=b'_').contains(&byte)
    };
    let charset = name.iter().position(|&byte| !is_part(byte)).unwrap_or(name.len());
    let Some(language) = name.get(charset..).and_then(|rest| rest.strip_prefix(b"'")) else {
        return name;
    };
    let len = language.iter().position(|&byte| !is_part(byte)).unwrap_or(language.len());
    if charset == 0 || language.get(len) != Some(&b'\'') {
        return name;
    }
    let last = name.iter().rposition(|&byte| byte == b'\'').unwrap_or(0);
    name.get(last + 1..).unwrap_or_default()
}

/// `%41` is `A`.
fn unescape_uri(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        let escaped = match behind {
            [high, low, behind @ ..] if byte == b'%' => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4 | low, behind))
            }
            _ => None,
        };
        let (byte, behind) = escaped.unwrap_or((byte, behind));
        plain.push(byte);
        rest = behind;
    }
    plain
}

/// The value of a hexadecimal digit.
pub(super) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
