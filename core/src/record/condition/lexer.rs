//! Text into words, values and signs, each with its column. The parser asks for one token after
//! the other, because only it knows where `/` begins a pattern.

use super::ast::{Literal, Unit};
use super::error::ConditionError;

/// Characters of a condition at most.
pub(super) const TEXT_CHARS_MAX: usize = 8_192;

/// A word, value or sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A field, a keyword, or a value without quotes.
    Word(String),
    Value(Literal),
    Sign(&'static str),
    End,
}

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) token: Token,
    /// Characters from 1.
    pub(super) column: usize,
    /// As it is typed.
    pub(super) text: String,
}

/// Longest first.
const SIGNS: [&str; 20] = [
    "&&", "||", "==", "!=", "<=", ">=", "=~", "!~", "<", ">", "!", "(", ")", "{", "}", ",", "?",
    "-", "=", "&",
];

/// What is left of the text.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
    column: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, ConditionError> {
        if text.chars().count() > TEXT_CHARS_MAX {
            let message =
                format!("the condition goes on; expected at most {TEXT_CHARS_MAX} characters");
            return Err(ConditionError::new(TEXT_CHARS_MAX + 1, message));
        }
        Ok(Self { rest: text, column: 1 })
    }

    /// The next token; [`Token::End`] again and again behind the last.
    pub(super) fn next(&mut self) -> Result<Placed, ConditionError> {
        self.skip_space();
        let column = self.column;
        let (token, len) = self.token()?;
        let text = self.take(len).to_owned();
        Ok(Placed { token, column, text })
    }

    /// A pattern between slashes, `\/` being a slash of the pattern: its text and its column.
    pub(super) fn pattern(&mut self) -> Result<(String, usize), ConditionError> {
        self.skip_space();
        let column = self.column;
        let fault = || {
            let found = self.rest.chars().next().map_or("the end".into(), |c| format!("`{c}`"));
            ConditionError::expected(column, &found, "a pattern between slashes")
                .hint("such as `host =~ /\\.example\\.com$/`")
        };
        let body = self.rest.strip_prefix('/').ok_or_else(fault)?;
        let (mut pattern, mut is_escaped) = (String::new(), false);
        for (at, c) in body.char_indices() {
            if c == '/' && !is_escaped {
                self.take(at + 2);
                return Ok((pattern, column));
            }
            if is_escaped && c != '/' {
                pattern.push('\\');
            }
            is_escaped = c == '\\' && !is_escaped;
            if !is_escaped {
                pattern.push(c);
            }
        }
        Err(ConditionError::expected(column, "a pattern without its end", "a slash behind it")
            .hint("write a slash in the pattern as `\\/`"))
    }

    fn skip_space(&mut self) {
        let trimmed = self.rest.trim_start();
        let len = self.rest.len() - trimmed.len();
        self.take(len);
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = rest;
        self.column += taken.chars().count();
        taken
    }

    /// The token that the rest begins with, and its length in bytes.
    fn token(&self) -> Result<(Token, usize), ConditionError> {
        let rest = self.rest;
        let Some(first) = rest.chars().next() else { return Ok((Token::End, 0)) };
        if first == '"' {
            return self.string();
        }
        if let Some(found) = address(rest) {
            return Ok(found);
        }
        let negative = rest.strip_prefix('-').is_some_and(|r| r.starts_with(is_digit));
        if is_digit(first) || negative {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let len = prefix_len(rest, |c| c.is_ascii_alphanumeric() || "_.:".contains(c));
            let word = rest.get(..len).unwrap_or_default().trim_end_matches([':', '.']);
            return Ok((Token::Word(word.to_owned()), word.len()));
        }
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            return Ok((Token::Sign(sign), sign.len()));
        }
        let expected = "a field, a value or a sign such as `(`";
        let error = ConditionError::expected(self.column, &format!("`{first}`"), expected);
        Err(if first == '\'' {
            error.hint("strings stand in double quotes: `\"ssl\"`")
        } else {
            error
        })
    }

    fn number(&self) -> Result<(Token, usize), ConditionError> {
        let sign = usize::from(self.rest.starts_with('-'));
        let unsigned = self.rest.get(sign..).unwrap_or_default();
        let digits_len = sign + prefix_len(unsigned, |c| c.is_ascii_digit() || c == '.');
        let digits = self.rest.get(..digits_len).unwrap_or_default();
        let behind = self.rest.get(digits_len..).unwrap_or_default();
        let found = |text: &str| {
            ConditionError::expected(self.column, &format!("`{text}`"), "a number or an address")
        };
        if behind.starts_with('/') {
            let len = 1 + prefix_len(behind.get(1..).unwrap_or_default(), char::is_alphanumeric);
            let text = self.rest.get(..digits_len + len).unwrap_or_default();
            let error = found(text);
            let is_port = digits.bytes().all(|b| b.is_ascii_digit());
            let hint = format!("a port is its number: `{digits}`; `proto` has the protocol");
            return Err(if is_port { error.hint(hint) } else { error });
        }
        let word_len = prefix_len(behind, |c| c.is_ascii_alphanumeric() || c == '_');
        let word = behind.get(..word_len).unwrap_or_default();
        if digits.parse::<f64>().is_err() || (Unit::of(word).is_none() && !word.is_empty()) {
            let hint = "times have the units us, ms, s, min, h and d: `10min`; quote a string";
            return Err(found(&format!("{digits}{word}")).hint(hint));
        }
        let number = Literal::Number { digits: digits.to_owned(), unit: Unit::of(word) };
        Ok((Token::Value(number), digits_len + word_len))
    }

    fn string(&self) -> Result<(Token, usize), ConditionError> {
        let mut value = Vec::new();
        let mut bytes = self.rest.bytes().enumerate().skip(1);
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' => return Ok((Token::Value(Literal::String(value)), at + 1)),
                b'\\' => match bytes.next() {
                    Some((_, b'n')) => value.push(b'\n'),
                    Some((_, b'r')) => value.push(b'\r'),
                    Some((_, b't')) => value.push(b'\t'),
                    Some((at, b'x')) => {
                        let hex = self.rest.get(at + 1..at + 3);
                        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                        let Some(byte) = byte else {
                            let found = "`\\x` without two hex digits";
                            return Err(ConditionError::expected(self.column, found, "`\\x41`"));
                        };
                        value.push(byte);
                        bytes.nth(1);
                    }
                    Some((_, other)) => value.push(other),
                    None => break,
                },
                other => value.push(other),
            }
        }
        Err(ConditionError::expected(self.column, "a string without its end", "`\"` behind it"))
    }
}

/// An address or subnet, when `rest` begins with a whole one; IPv6 may stand in brackets.
fn address(rest: &str) -> Option<(Token, usize)> {
    let (inner, brackets) = rest.strip_prefix('[').map_or((rest, 0), |inner| (inner, 1));
    let len = prefix_len(inner, |c| c.is_ascii_hexdigit() || c == ':' || c == '.');
    let ip: std::net::IpAddr = inner.get(..len)?.parse().ok()?;
    let behind = inner.get(len..)?;
    let behind = if brackets == 1 { behind.strip_prefix(']')? } else { behind };
    let len = len + 2 * brackets;
    if behind.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let Some(bits) = behind.strip_prefix('/') else {
        return Some((Token::Value(Literal::Address(ip)), len));
    };
    let bits_len = prefix_len(bits, |c| c.is_ascii_digit());
    let net = ipnet::IpNet::new(ip, bits.get(..bits_len)?.parse().ok()?).ok()?;
    Some((Token::Value(Literal::Subnet(net.trunc())), len + 1 + bits_len))
}

const fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn prefix_len(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c: char| !belongs(c)).unwrap_or(text.len())
}
