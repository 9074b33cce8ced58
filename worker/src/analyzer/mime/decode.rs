//! Transfer encodings (RFC 2045 section 6): base64 and quoted-printable, as forgiving as Zeek.

use super::header;
use crate::analyzer::Cx;

/// The body of an entity without parts: resolves its Content-Transfer-Encoding.
#[derive(Debug, Default)]
pub struct Content {
    encoding: Encoding,
    base64: Base64,
    /// A line end was read that belongs to the boundary, if one follows.
    owes_line_end: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encoding {
    /// As it is.
    #[default]
    Binary,
    QuotedPrintable,
    Base64,
}

impl Content {
    /// Of an entity within this one, which has its encoding until it says another.
    pub fn within(&self) -> Self {
        Self { encoding: self.encoding, ..Self::default() }
    }

    /// What the header Content-Transfer-Encoding says.
    pub fn has_encoding(&mut self, value: &[u8]) {
        let Some((encoding, _)) = header::token(value, false) else { return };
        self.encoding = if encoding.eq_ignore_ascii_case(b"quoted-printable") {
            Encoding::QuotedPrintable
        } else if encoding.eq_ignore_ascii_case(b"base64") {
            Encoding::Base64
        } else {
            Encoding::Binary
        };
    }

    /// What comes now, and is no line, is content as it is.
    pub fn is_as_it_comes(&self) -> bool {
        self.encoding == Encoding::Binary && !self.owes_line_end
    }

    /// Puts into `out` what a line, or bytes without an end, stands for. The end of a part's
    /// last line belongs to the boundary behind it.
    pub fn decode(&mut self, line: Line<'_>, is_part: bool, out: &mut Vec<u8>, cx: &mut Cx<'_>) {
        out.clear();
        match self.encoding {
            Encoding::QuotedPrintable => quoted_printable(line.bytes, out),
            Encoding::Base64 => self.base64.decode(line.bytes, out, cx),
            Encoding::Binary => {
                if std::mem::take(&mut self.owes_line_end) {
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(line.bytes);
                if line.has_end && is_part {
                    self.owes_line_end = true;
                } else if line.has_end {
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
    }

    /// The body is over: puts into `out` what was kept back.
    pub fn finish(&mut self, out: &mut Vec<u8>, cx: &mut Cx<'_>) {
        out.clear();
        if self.encoding == Encoding::Base64 {
            std::mem::take(&mut self.base64).finish(out, cx);
        }
    }
}

/// A line without its end, and whether it had one.
#[derive(Clone, Copy, Debug)]
pub struct Line<'l> {
    /// What stands before the end.
    pub bytes: &'l [u8],
    /// An end was there.
    pub has_end: bool,
}

/// Base64 as it comes in, line by line.
#[derive(Debug, Default)]
pub struct Base64 {
    group: [u8; 4],
    filled: usize,
    padding: usize,
    is_after_padding: bool,
    errors: u32,
}

impl Base64 {
    /// Appends to `out` what `text` stands for.
    pub fn decode(&mut self, text: &[u8], out: &mut Vec<u8>, cx: &mut Cx<'_>) {
        for &byte in text {
            let Some(value) = sextet(byte) else {
                self.illegal(cx, || format!("character {byte} ignored by Base64 decoding"));
                continue;
            };
            self.padding += usize::from(byte == b'=');
            if let Some(place) = self.group.get_mut(self.filled) {
                *place = value;
            }
            self.filled += 1;
            if self.filled == 4 {
                self.whole_group(out, cx);
            }
        }
    }

    /// No more comes: a group that is not whole is filled with zeros, which is told even if
    /// something was before.
    pub fn finish(&mut self, out: &mut Vec<u8>, cx: &mut Cx<'_>) {
        if self.filled == 0 {
            return;
        }
        let missing = 4 - self.filled;
        let told = format!("incomplete base64 group, padding with {} bits of 0", missing * 6);
        cx.weird_without_source("base64_illegal_encoding", &told);
        self.errors += 1;
        self.decode(b"===".get(..missing).unwrap_or_default(), out, cx);
    }

    /// Something was not base64.
    pub const fn has_erred(&self) -> bool {
        self.errors > 0
    }

    fn whole_group(&mut self, out: &mut Vec<u8>, cx: &mut Cx<'_>) {
        self.filled = 0;
        if self.is_after_padding {
            self.illegal(cx, || "extra base64 groups after '=' padding are ignored".to_owned());
            return;
        }
        let bits = self.group.iter().fold(0_u32, |bits, &value| bits << 6 | u32::from(value));
        let [_, octets @ ..] = bits.to_be_bytes();
        let len = octets.len().saturating_sub(self.padding);
        out.extend_from_slice(octets.get(..len).unwrap_or_default());
        self.is_after_padding = self.padding > 0;
        self.padding = 0;
    }

    fn illegal(&mut self, cx: &mut Cx<'_>, why: impl FnOnce() -> String) {
        self.errors += 1;
        if self.errors == 1 {
            cx.weird_without_source("base64_illegal_encoding", &why());
        }
    }
}

/// The six bits of a digit; padding counts as none.
const fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        b'=' => Some(0),
        _ => None,
    }
}

/// Appends what a line of quoted-printable text stands for, with its end unless that is soft.
fn quoted_printable(line: &[u8], out: &mut Vec<u8>) {
    let len = line.iter().rposition(|byte| !matches!(byte, b'\t' | b' ')).map_or(0, |at| at + 1);
    let mut rest = line.get(..len).unwrap_or_default();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'=' {
            out.push(byte);
            continue;
        }
        if behind.is_empty() {
            return;
        }
        // Two digits may be followed by blanks that were cut, not begin with them.
        let digits = behind.split_at_checked(2).and_then(|(digits, behind)| match *digits {
            [high, low] => Some((hex(high)? << 4 | hex(low)?, behind)),
            _ => None,
        });
        match digits {
            Some((value, behind)) => {
                out.push(value);
                rest = behind;
            }
            None => out.push(byte),
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
