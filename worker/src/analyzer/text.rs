//! Text of columns: bytes in hexadecimal; and names, mostly one of a few constants, which need no
//! allocation.

use std::borrow::Cow;

use tyto_core::record::FieldSink;
use tyto_core::record::schema::FieldType;
use tyto_core::record::value::LogValue;

/// A name of a number: the known ones are borrowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub Cow<'static, str>);

impl LogValue for Text {
    const TYPE: FieldType = FieldType::STRING;

    fn write(&self, sink: &mut impl FieldSink) {
        sink.string(self.0.as_bytes());
    }
}

/// Digits, lower case.
pub const LOWER: &[u8; 16] = b"0123456789abcdef";
/// Digits, upper case.
pub const UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// Bytes in hexadecimal, lower case.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes, LOWER);
    text
}

/// Bytes in hexadecimal, lower case, with `between` between two.
pub fn hex_between(bytes: &[u8], between: &str) -> String {
    let mut text = String::with_capacity(bytes.len() * (2 + between.len()));
    for byte in bytes {
        if !text.is_empty() {
            text.push_str(between);
        }
        push_hex(&mut text, &[*byte], LOWER);
    }
    text
}

/// A UUID as it is written; its first three parts are little-endian on the wire.
pub fn uuid(bytes: [u8; 16]) -> String {
    let [d, c, b, a, f, e, h, g, i, j, node @ ..] = bytes;
    let parts = [&[a, b, c, d][..], &[e, f], &[g, h], &[i, j], &node];
    parts.map(hex).join("-")
}

/// Adds bytes in hexadecimal.
pub fn push_hex(text: &mut String, bytes: &[u8], digits: &[u8; 16]) {
    let digit = |nibble: u8| char::from(digits.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    for byte in bytes {
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_has_two_digits_a_byte() {
        assert_eq!(hex(&[0, 0x0f, 0xa5]), "000fa5");
        let mut text = String::from("-");
        push_hex(&mut text, &[0xbe, 0xef], UPPER);
        assert_eq!(text, "-BEEF");
        assert_eq!(hex_between(&[0, 0x0f, 0xa5], ":"), "00:0f:a5");
        assert_eq!(hex_between(&[], ":"), "");
    }
}
