//! Transfer encodings (RFC 2045 section 6): base64 and quoted-printable, as forgiving as Zeek.

use super::header::hex;
use crate::analyzer::Cx;

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

    /// No more comes: a group that is not whole is filled with zeros.
    pub fn finish(&mut self, out: &mut Vec<u8>, cx: &mut Cx<'_>) {
        if self.filled == 0 {
            return;
        }
        let missing = 4 - self.filled;
        self.illegal(cx, || {
            format!("incomplete base64 group, padding with {} bits of 0", missing * 6)
        });
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
pub(super) fn quoted_printable(line: &[u8], out: &mut Vec<u8>) {
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
