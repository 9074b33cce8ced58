//! Bytes as the text of a Parquet file, which is UTF-8, and back.

/// UTF-8 as it is, other bytes as `\xNN`, and a backslash before `xNN` as `\x5c`.
pub(super) fn printable(value: &[u8]) -> String {
    let mut text = String::new();
    for chunk in value.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find('\\') {
            let (before, tail) = rest.split_at(at);
            text.push_str(before);
            text.push_str(if looks_escaped(tail) { "\\x5c" } else { "\\" });
            rest = tail.get(1..).unwrap_or_default();
        }
        text.push_str(rest);
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// Whether it begins as a byte that is printed as `\xNN`.
fn looks_escaped(text: &str) -> bool {
    matches!(text.as_bytes(), [b'\\', b'x', high, low, ..]
        if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// The bytes of a text that stands in a Parquet file: the inverse of what is written.
pub fn bytes_of(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, tail) = rest.split_at(at);
        out.extend_from_slice(before);
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let byte = match tail {
            [b'\\', b'x', high, low, ..] => digit(*high).zip(digit(*low)),
            _ => None,
        };
        let (byte, len) = byte.map_or((b'\\', 1), |(high, low)| (high << 4 | low, 4));
        out.push(byte);
        rest = tail.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_through_their_text() {
        let values: [&[u8]; 7] = [
            b"",
            b"C:\\x86",
            b"\\x4\xff",
            b"\\\xff",
            b"\\\\x5cff",
            b"\\xzz\\",
            "gr\u{fc}n".as_bytes(),
        ];
        let mut back = Vec::new();
        for value in values {
            bytes_of(printable(value).as_bytes(), &mut back);
            assert_eq!(back, value, "{}", printable(value));
        }
        assert_eq!(printable(b"a\\b\xff\\x41"), r"a\b\xff\x5cx41");
    }
}
