//! Elements of ASN.1, by the basic rules (X.690): who checks certificates takes more than the
//! distinguished ones, and so does OpenSSL, whose reading Zeek logs.

use asn1_rs::{Any, Class, FromBer};

use crate::analyzer::text::{UPPER, push_hex};

/// Tags of the universal class.
pub(super) mod tag {
    pub(crate) const BOOLEAN: u32 = 1;
    pub(crate) const INTEGER: u32 = 2;
    pub(crate) const BIT_STRING: u32 = 3;
    pub(crate) const OCTET_STRING: u32 = 4;
    pub(crate) const OID: u32 = 6;
    pub(crate) const ENUMERATED: u32 = 10;
    pub(crate) const UTF8_STRING: u32 = 12;
    pub(crate) const SEQUENCE: u32 = 16;
    pub(crate) const SET: u32 = 17;
    pub(crate) const UTC_TIME: u32 = 23;
    pub(crate) const GENERALIZED_TIME: u32 = 24;
    pub(crate) const UNIVERSAL_STRING: u32 = 28;
    pub(crate) const BMP_STRING: u32 = 30;
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    /// Its tag.
    pub(super) tag: u32,
    /// The tag's meaning is the context's.
    pub(super) is_context: bool,
    /// What it holds.
    pub(super) content: &'a [u8],
    /// All of it.
    pub(super) raw: &'a [u8],
}

/// Elements one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Elements<'a> {
    /// The next element, if there is one and it is whole.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (rest, any) = Any::from_ber(self.0).ok()?;
        let raw = self.0.get(..self.0.len().checked_sub(rest.len())?)?;
        let is_context = match any.class() {
            Class::Universal => false,
            Class::ContextSpecific => true,
            Class::Application | Class::Private => return None,
        };
        self.0 = rest;
        Some(Element { tag: any.tag().0, is_context, content: any.as_bytes(), raw })
    }

    /// The next element, which must have the universal `tag`.
    pub(super) fn expect(&mut self, tag: u32) -> Option<Element<'a>> {
        self.next().filter(|element| element.is(tag))
    }

    /// The next element if it has `tag` of the context; otherwise it stays.
    pub(super) fn context(&mut self, tag: u32) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.is_context && element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// The next element if it has the universal `tag`; otherwise it stays.
    pub(super) fn optional(&mut self, tag: u32) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.expect(tag)?;
        *self = ahead;
        Some(element)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Element<'a> {
    pub(super) const fn is(&self, tag: u32) -> bool {
        !self.is_context && self.tag == tag
    }

    /// The elements that it holds.
    pub(super) const fn inside(&self) -> Elements<'a> {
        Elements(self.content)
    }
}

/// A whole number as OpenSSL's `i2a_ASN1_INTEGER` writes it: hexadecimal in whole bytes, a line
/// of at most 35 of them.
pub(super) fn integer_text(content: &[u8]) -> String {
    const LINE_BYTES: usize = 35;
    let is_negative = content.first().is_some_and(|first| first & 0x80 != 0);
    let magnitude = if is_negative { negated(content) } else { content.to_vec() };
    let digits = without_leading_zeros(&magnitude);
    let mut text = String::from(if is_negative { "-" } else { "" });
    if digits.is_empty() {
        text.push_str("00");
    }
    for (index, byte) in digits.iter().enumerate() {
        if index > 0 && index % LINE_BYTES == 0 {
            text.push_str("\\\n");
        }
        push_hex(&mut text, &[*byte], UPPER);
    }
    text
}

/// Bytes without the zeros in front.
pub(super) fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// The magnitude of a negative number of two's complement.
fn negated(content: &[u8]) -> Vec<u8> {
    let mut carry = true;
    let mut bytes: Vec<u8> = content
        .iter()
        .rev()
        .map(|byte| {
            let (value, carried) = (!byte).overflowing_add(u8::from(carry));
            carry = carried;
            value
        })
        .collect();
    bytes.reverse();
    bytes
}

/// Bits of a positive number.
pub(super) fn bit_length(content: &[u8]) -> u64 {
    let digits = without_leading_zeros(content);
    let first = digits.first().map_or(0, |first| u64::from(u8::BITS - first.leading_zeros()));
    first + 8 * digits.len().saturating_sub(1) as u64
}

/// A positive number in decimal digits. Of more than `LEN_MAX` bytes: `None`.
pub(super) fn decimal(content: &[u8]) -> Option<String> {
    /// Exponents are small; the conversion takes time by the square of the length.
    const LEN_MAX: usize = 512;
    let mut left = without_leading_zeros(content).to_vec();
    if left.len() > LEN_MAX {
        return None;
    }
    let mut digits = Vec::new();
    while !left.is_empty() {
        let mut remainder = 0_u16;
        for byte in &mut left {
            let value = remainder << 8 | u16::from(*byte);
            *byte = u8::try_from(value / 10).unwrap_or_default();
            remainder = value % 10;
        }
        digits.push(char::from(b'0' + u8::try_from(remainder).unwrap_or_default()));
        left = without_leading_zeros(&left).to_vec();
    }
    if digits.is_empty() {
        digits.push('0');
    }
    Some(digits.iter().rev().collect())
}

/// Bytes in hexadecimal, upper case.
pub(super) fn hex_upper(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes, UPPER);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_openssl_prints_them() {
        assert_eq!(integer_text(&[0]), "00");
        assert_eq!(integer_text(&[0, 0xCE, 0x85]), "CE85");
        assert_eq!(integer_text(&[0xFF, 0x01]), "-FF");
        assert_eq!(integer_text(&[0x80]), "-80");
        assert_eq!(integer_text(&[1; 36]), format!("{}\\\n01", "01".repeat(35)));
        assert_eq!(decimal(&[1, 0, 1]).as_deref(), Some("65537"));
        assert_eq!(decimal(&[0]).as_deref(), Some("0"));
        assert_eq!(decimal(&[1; 600]), None);
        assert_eq!(bit_length(&[0, 0xFF, 0]), 16);
        assert_eq!(bit_length(&[1, 0]), 9);
        assert_eq!(bit_length(&[]), 0);
    }

    #[test]
    fn a_cut_element_is_none() {
        assert!(Elements(&[0x30, 5, 1, 2]).next().is_none());
        assert!(Elements(&[]).next().is_none());
        let mut elements = Elements(&[0x02, 1, 7, 0xA1, 0]);
        assert!(elements.context(1).is_none());
        assert_eq!(elements.expect(tag::INTEGER).map(|e| e.content), Some(&[7][..]));
        assert_eq!(elements.context(1).map(|e| e.raw), Some(&[0xA1, 0][..]));
        assert!(elements.is_empty());
    }
}
