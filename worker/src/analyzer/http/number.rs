//! Numbers in headers and chunk sizes, read as leniently as Zeek does.

/// A number at the begin of `text` (C++: `from_chars`): an optional minus, digits, anything.
pub(super) fn number(text: &[u8], radix: u32) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let mut value = None;
    for digit in digits.iter().map_while(|c| char::from(*c).to_digit(radix)) {
        let so_far: i64 = value.unwrap_or_default();
        let so_far = so_far.checked_mul(i64::from(radix))?;
        let digit = i64::from(digit);
        let next = if is_negative { so_far.checked_sub(digit) } else { so_far.checked_add(digit) };
        value = Some(next?);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_at_what_is_no_digit_and_do_not_overflow() {
        assert_eq!(number(b"1f;ext", 16), Some(0x1f));
        assert_eq!(number(b"-12 ", 10), Some(-12));
        assert_eq!(number(b"9223372036854775808", 10), None);
        assert_eq!(number(b" 1", 10), None);
        assert_eq!(number(b"", 10), None);
    }
}
