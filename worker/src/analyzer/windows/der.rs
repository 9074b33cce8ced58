//! The outer form of ASN.1 (X.690): tags, lengths, and the few types that SPNEGO and Kerberos
//! need. Constructed strings and indefinite lengths do not occur in DER.

use super::reader::{Fault, Reader};

/// First byte of a tag that an index chose: `[0]`.
const INDEX_TAG: u8 = 0xa0;
/// Bytes of a number. Longer ones are 0, and a weird (Zeek:
/// `asn_binary_to_int64_shift_too_large`).
const INTEGER_BYTES_MAX: usize = 8;

/// Tag and length.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// The tag's first byte.
    pub tag: u8,
    /// The byte behind it, as it stands there.
    pub len: u8,
    /// Bytes that follow.
    pub length: u64,
}

impl Meta {
    /// Index, if it is the tag of one.
    pub const fn index(self) -> u8 {
        self.tag.wrapping_sub(INDEX_TAG)
    }
}

/// Tag and length of what follows.
///
/// # Errors
/// When they are cut.
pub fn meta(reader: &mut Reader<'_>) -> Result<Meta, Fault> {
    let outer = reader.record();
    let tag = reader.u8("ASN1EncodingMeta:len")?;
    let len = reader.u8("ASN1EncodingMeta:len")?;
    let length = if len & 0x80 == 0 {
        u64::from(len)
    } else {
        number(reader.take(u64::from(len & 0x7f), "ASN1EncodingMeta:more_len")?, reader)
    };
    reader.end_record(outer);
    Ok(Meta { tag, len, length })
}

/// Content of the element that follows.
///
/// # Errors
/// When it is cut.
pub fn content<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Fault> {
    let outer = reader.record();
    let length = meta(reader)?.length;
    let content = reader.take(length, "ASN1Encoding:content")?;
    reader.end_record(outer);
    Ok(content)
}

/// An indexed element: its index and the content of the element in it.
///
/// # Errors
/// When it is cut.
pub fn indexed<'a>(reader: &mut Reader<'a>) -> Result<(u8, &'a [u8]), Fault> {
    let index = meta(reader)?.index();
    Ok((index, content(reader)?))
}

/// The number in the indexed element that follows.
///
/// # Errors
/// When it is cut.
pub fn indexed_integer(reader: &mut Reader<'_>) -> Result<u64, Fault> {
    let (_, content) = indexed(reader)?;
    Ok(number(content, reader))
}

fn number(bytes: &[u8], reader: &Reader<'_>) -> u64 {
    if bytes.len() > INTEGER_BYTES_MAX {
        reader.tell_oversize(bytes.len());
    }
    integer(bytes)
}

/// A number, most significant byte first; 0 when it has more than eight bytes.
pub fn integer(bytes: &[u8]) -> u64 {
    if bytes.len() > INTEGER_BYTES_MAX {
        return 0;
    }
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_a_short_and_a_long_form() {
        let mut reader = Reader::big(&[0xa2, 3, 4, 1, b'x', 0x30, 0x82, 0x01, 0x00]);
        assert_eq!(indexed(&mut reader), Ok((2, &b"x"[..])));
        assert_eq!(meta(&mut reader).map(|meta| meta.length), Ok(256));
        assert!(meta(&mut reader).is_err());
    }
}
