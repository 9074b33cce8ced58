//! Numbers and strings as `MySQL` packs them, and values of the binary protocol.

use crate::analyzer::bytes::Cursor;

/// A number of one byte, or with a marker in front of more. Markers without a number are 0.
pub(super) fn number(cursor: &mut Cursor<'_>) -> Option<u64> {
    let first = cursor.u8()?;
    number_after(first, cursor)
}

/// The same, when its first byte was read already.
pub(super) fn number_after(first: u8, cursor: &mut Cursor<'_>) -> Option<u64> {
    match first {
        0xfc => cursor.le16().map(u64::from),
        0xfd => cursor.le24().map(u64::from),
        0xfe => cursor.le64(),
        0xfb | 0xff => Some(0),
        one => Some(u64::from(one)),
    }
}

/// A string with its length in front.
pub(super) fn string<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let len = number(cursor)?;
    cursor.take(usize::try_from(len).ok()?)
}

/// The same, when the first byte of its length was read already.
pub(super) fn string_after<'a>(first: u8, cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let len = number_after(first, cursor)?;
    cursor.take(usize::try_from(len).ok()?)
}

/// A string that NUL ends.
pub(super) fn string_nul<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    cursor.until(0)
}

/// Skips the attributes of a query: how many, which of them are NULL, types and names, values.
pub(super) fn skip_attributes(cursor: &mut Cursor<'_>) -> Option<()> {
    let count = usize::try_from(number(cursor)?).ok()?;
    let _sets = number(cursor)?;
    if count == 0 {
        return Some(());
    }
    let nulls = cursor.take(count.checked_add(7)? / 8)?;
    let _types_follow = cursor.u8().filter(|sent| *sent == 1)?;
    let mut types = Vec::new();
    for _ in 0..count {
        types.push(cursor.u8()?);
        cursor.u8()?;
        string(cursor)?;
    }
    for (index, kind) in types.into_iter().enumerate() {
        let is_null = nulls.get(index / 8).is_some_and(|bits| bits >> (index % 8) & 1 == 1);
        if !is_null {
            skip_value(kind, cursor)?;
        }
    }
    Some(())
}

/// Skips a value of the binary protocol.
fn skip_value(kind: u8, cursor: &mut Cursor<'_>) -> Option<()> {
    match kind {
        // Decimal.
        0x00 => number(cursor).map(|_| ()),
        // Null.
        0x06 => Some(()),
        // Tiny; short, year; long, int24, float; longlong, double.
        0x01 => cursor.skip(1),
        0x02 | 0x0d => cursor.skip(2),
        0x03 | 0x04 | 0x09 => cursor.skip(4),
        0x05 | 0x08 => cursor.skip(8),
        // Dates and times have a length of their own.
        0x07 | 0x0a | 0x0b | 0x0c | 0x11 => {
            let len = cursor.u8().filter(|len| matches!(len, 0 | 4 | 7 | 8 | 11 | 12))?;
            cursor.skip(usize::from(len))
        }
        0x0f | 0x10 | 0xf5..=0xff => string(cursor).map(|_| ()),
        _ => None,
    }
}
