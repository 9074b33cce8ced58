//! Text as Windows sends it, turned into what Zeek prints.

/// UTF-16 (little-endian) as UTF-8, up to the first NUL. Half a surrogate pair, and an odd byte
/// at the end, become what they would be on their own.
pub fn from_utf16(bytes: &[u8]) -> Vec<u8> {
    let units = bytes.chunks(2).map(|pair| match *pair {
        [low, high] => u16::from_le_bytes([low, high]),
        [low] => u16::from(low),
        _ => 0,
    });
    let mut text = Vec::with_capacity(bytes.len());
    for unit in char::decode_utf16(units.take_while(|unit| *unit != 0)) {
        match unit {
            Ok(letter) => {
                text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Err(half) => {
                let half = half.unpaired_surrogate();
                let six = |shift: u16| (half >> shift & 0x3f) as u8 | 0x80;
                text.extend([0xe0 | (half >> 12) as u8, six(6), six(0)]);
            }
        }
    }
    text
}

/// Seconds from 1601 to 1970.
const EPOCHS_APART_S: f64 = 11_644_473_600.0;

/// A Windows time (units of 100 ns since 1601) in seconds since 1970, with the rounding of
/// Zeek's arithmetic.
pub fn filetime(ticks: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "Zeek loses it, too")]
    let seconds = ticks as f64 / 10_000_000.0;
    seconds - EPOCHS_APART_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_the_first_nul_and_keeps_half_pairs() {
        assert_eq!(from_utf16(b"a\0\xe9\0\0\0b\0"), "aé".as_bytes());
        assert_eq!(from_utf16(&[0x3d, 0xd8, 0x00, 0xde]), "😀".as_bytes());
        assert_eq!(from_utf16(&[0x3d, 0xd8, b'x', 0]), b"\xed\xa0\xbdx");
        assert_eq!(from_utf16(b"a\0b"), b"ab");
    }

    #[test]
    fn file_times_count_from_1601() {
        assert_eq!(filetime(116_444_736_000_000_000), 0.0);
        assert_eq!(filetime(0), -11_644_473_600.0);
    }
}
