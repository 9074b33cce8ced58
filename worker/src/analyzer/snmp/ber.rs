//! The part of BER (ITU-T X.690) that SNMP uses: definite lengths, tags of one byte.

use crate::analyzer::bytes::Cursor;

/// A value: its tag and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) bytes: &'a [u8],
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// Bytes of an integer: 64 bits, and one byte for the sign.
const INTEGER_LEN_MAX: usize = 9;

/// A tag and a length; what they tell of is not looked at.
pub(super) fn head(cursor: &mut Cursor<'_>) -> Result<(u8, u64), String> {
    let have = cursor.len();
    let (Some(tag), Some(len)) = (cursor.u8(), cursor.u8()) else {
        return Err(format!("out_of_bound: ASN1EncodingMeta:len: 2 > {have}"));
    };
    if len & 0x80 == 0 {
        return Ok((tag, u64::from(len)));
    }
    let more = usize::from(len & 0x7f);
    let Some(more) = cursor.take(more) else {
        return Err(format!("out_of_bound: ASN1EncodingMeta:more_len: {} > {have}", more + 2));
    };
    Ok((tag, more.iter().fold(0, |len, byte| len << 8 | u64::from(*byte))))
}

/// A value of any type.
pub(super) fn value<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>, String> {
    let have = cursor.len();
    let (tag, len) = head(cursor)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let before = have - cursor.len();
    match cursor.take(len) {
        Some(bytes) => Ok(Value { tag, bytes }),
        None => {
            let wanted = before.saturating_add(len);
            Err(format!("out_of_bound: ASN1Encoding:content: {wanted} > {have}"))
        }
    }
}

/// A value of one type.
pub(super) fn expect<'a>(cursor: &mut Cursor<'a>, tag: u8) -> Result<&'a [u8], String> {
    let value = value(cursor)?;
    check(value.tag, tag)?;
    if tag == INTEGER && value.bytes.len() > INTEGER_LEN_MAX {
        return Err(format!("ASN.1 integer width overflow: {}", value.bytes.len()));
    }
    Ok(value.bytes)
}

/// The begin of a sequence. Where it ends is not asked: what stands in it is read one by one.
pub(super) fn sequence(cursor: &mut Cursor<'_>) -> Result<(), String> {
    check(head(cursor)?.0, SEQUENCE)
}

fn check(tag: u8, expected: u8) -> Result<(), String> {
    if tag == expected {
        return Ok(());
    }
    Err(format!("Got ASN.1 tag {tag}, expect {expected}"))
}

/// The number that bytes stand for, without a sign.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
