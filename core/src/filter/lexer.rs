//! Text into words and signs, each with its column. A word is as long as it can be:
//! `tcp-syn`, `6000-6010` and `10.0.0.0` are one word each; what reads as an IPv6 or Ethernet
//! address is one address, so that `ip[2:2]` is not.

use std::net::Ipv6Addr;

use super::error::FilterError;

/// Characters of a filter at most.
pub(super) const TEXT_CHARS_MAX: usize = 8192;

/// A word or sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword, name, number, dotted address or range.
    Word(&'a str),
    /// A word behind a backslash: never a keyword.
    Escaped(&'a str),
    Ipv6(Ipv6Addr),
    Ethernet([u8; 6]),
    /// A sign, as it is typed; `&&`, `||` and `==` are told apart from `&`, `|` and `=`.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed<'a> {
    pub(super) token: Token<'a>,
    /// Characters from 1.
    pub(super) column: usize,
    /// As it is typed.
    pub(super) text: &'a str,
}

/// Longest first, so that `<<` is not read as two.
const SIGNS: [&str; 25] = [
    "&&", "||", "<<", ">>", "<=", ">=", "==", "!=", "(", ")", "[", "]", ":", "/", "+", "-", "*",
    "%", "&", "|", "^", "=", "<", ">", "!",
];

/// All tokens of a text; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Placed<'_>>, FilterError> {
    if text.chars().count() > TEXT_CHARS_MAX {
        let message = format!("the filter goes on; expected at most {TEXT_CHARS_MAX} characters");
        return Err(FilterError::new(TEXT_CHARS_MAX + 1, message));
    }
    let mut tokens = Vec::new();
    let (mut rest, mut column) = (text, 1);
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            column += 1;
            continue;
        }
        let (token, len) = token(rest).ok_or_else(|| {
            let expected = "a word, a number, an address or a sign such as `(`";
            FilterError::expected(column, &format!("`{first}`"), expected)
        })?;
        let (text, behind) = rest.split_at(len);
        tokens.push(Placed { token, column, text });
        column += text.chars().count();
        rest = behind;
    }
    tokens.push(Placed { token: Token::End, column, text: "" });
    Ok(tokens)
}

/// The token that `rest` begins with, and its length in bytes.
fn token(rest: &str) -> Option<(Token<'_>, usize)> {
    if let Some(escaped) = rest.strip_prefix('\\') {
        let len = escaped.find(|c: char| c.is_whitespace() || "!()".contains(c));
        let word = len.map_or(escaped, |len| escaped.get(..len).unwrap_or_default());
        return (!word.is_empty()).then_some((Token::Escaped(word), word.len() + 1));
    }
    if let Some(found) = address(rest) {
        return Some(found);
    }
    if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        return Some((Token::Sign(sign), sign.len()));
    }
    let word = prefix(rest, |c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let word = word.trim_end_matches(['-', '_']);
    (word.starts_with(|c: char| c.is_ascii_alphanumeric()))
        .then_some((Token::Word(word), word.len()))
}

/// An IPv6 or Ethernet address with colons, when `rest` begins with a whole one.
fn address(rest: &str) -> Option<(Token<'_>, usize)> {
    let text = prefix(rest, |c| c.is_ascii_hexdigit() || c == ':' || c == '.');
    let text = text.strip_suffix('.').unwrap_or(text);
    let behind = rest.get(text.len()..).unwrap_or_default();
    if behind.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    if let Some(address) = ethernet(text, ':') {
        return Some((Token::Ethernet(address), text.len()));
    }
    let is_ipv6 = text.contains(':').then(|| text.parse().ok()).flatten();
    is_ipv6.map(|address| (Token::Ipv6(address), text.len()))
}

/// An Ethernet address of six groups of one or two digits.
pub(super) fn ethernet(text: &str, separator: char) -> Option<[u8; 6]> {
    let mut address = [0; 6];
    let mut groups = text.split(separator);
    for byte in &mut address {
        let group = groups.next().filter(|group| (1..=2).contains(&group.len()))?;
        // `from_str_radix` would take a sign.
        let is_hex = group.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = is_hex.then(|| u8::from_str_radix(group, 16).ok()).flatten()?;
    }
    groups.next().is_none().then_some(address)
}

fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let len = text.find(|c: char| !belongs(c)).unwrap_or(text.len());
    text.get(..len).unwrap_or_default()
}
