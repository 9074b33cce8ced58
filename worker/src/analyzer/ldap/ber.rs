//! ASN.1 in the form that LDAP uses (RFC 4511 section 5.1), values as Zeek turns them into text.

use crate::analyzer::windows::reader::{Fault, Reader};

/// Elements within elements. Deeper ones are a fault.
const DEPTH_MAX: u8 = 32;

/// Classes of tags.
pub(super) const UNIVERSAL: u8 = 0;
pub(super) const APPLICATION: u8 = 1;
pub(super) const CONTEXT: u8 = 2;

/// Universal types.
pub(super) const INTEGER: u8 = 2;
pub(super) const OCTET_STRING: u8 = 4;
pub(super) const OBJECT_ID: u8 = 6;
pub(super) const ENUMERATED: u8 = 10;
pub(super) const SEQUENCE: u8 = 16;
pub(super) const SET: u8 = 17;

/// Tag and length of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) class: u8,
    pub(super) kind: u8,
    pub(super) len: u64,
}

impl Head {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        const FIELD: &str = "ASN1Header:len";
        let tag = reader.u8(FIELD)?;
        let short = reader.u8(FIELD)?;
        let len = if short & 0x80 == 0 {
            u64::from(short)
        } else {
            let bytes = reader.take(u64::from(short & 0x7f), FIELD)?;
            if bytes.len() > 8 {
                return Err(invalid(FIELD));
            }
            bytes.iter().fold(0, |len, byte| len << 8 | u64::from(*byte))
        };
        Ok(Self { class: tag >> 6, kind: tag & 0x1f, len })
    }

    pub(super) const fn is(self, class: u8, kind: u8) -> bool {
        self.class == class && self.kind == kind
    }
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) head: Head,
    pub(super) content: &'a [u8],
}

impl<'a> Element<'a> {
    pub(super) fn parse(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let head = Head::parse(reader)?;
        Ok(Self { head, content: reader.take(head.len, "ASN1Body:value")? })
    }

    /// The same, with all elements within looked at.
    pub(super) fn parse_deep(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let element = Self::parse(reader)?;
        element.check(0)?;
        Ok(element)
    }

    fn check(self, depth: u8) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::InvalidCase { record: "ASN1Message", index: depth.into() });
        }
        if self.head.class != UNIVERSAL {
            return Ok(());
        }
        match self.head.kind {
            1 if self.content.len() != 1 => Err(invalid("ASN1Body:bool_value")),
            INTEGER | ENUMERATED => number(self.content).map(drop),
            5 if !self.content.is_empty() => Err(invalid("ASN1Body:null_value")),
            3 if self.content.is_empty() => Err(invalid("ASN1BitString:value_bits")),
            SEQUENCE | SET => {
                let mut inner = Reader::big(self.content);
                while !inner.is_empty() {
                    Element::parse(&mut inner)?.check(depth + 1)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The elements within. They were looked at.
    pub(super) fn parts(self) -> impl Iterator<Item = Element<'a>> {
        let mut inner = Reader::big(self.content);
        std::iter::from_fn(
            move || {
                if inner.is_empty() { None } else { Element::parse(&mut inner).ok() }
            },
        )
    }

    /// Its number.
    pub(super) fn number(self) -> Result<i64, Fault> {
        if !self.head.is(UNIVERSAL, INTEGER) && !self.head.is(UNIVERSAL, ENUMERATED) {
            return Err(invalid("ASN1Body:num_value"));
        }
        number(self.content)
    }

    /// Its text.
    pub(super) fn text(self) -> Result<Vec<u8>, Fault> {
        if self.head.class != UNIVERSAL {
            return Err(invalid("ASN1Body:str_value"));
        }
        match self.head.kind {
            OCTET_STRING | 19 | 23 | 24 => Ok(ascii(self.content)),
            OBJECT_ID => Ok(object_id(self.content).into_bytes()),
            12 | 18 | 20..=22 | 25..=30 => Ok(utf8(self.content)),
            _ => Err(invalid("ASN1Body:str_value")),
        }
    }
}

pub(super) const fn invalid(field: &'static str) -> Fault {
    Fault::Enforced { field }
}

/// A number, most significant byte first, with a sign.
pub(super) fn number(bytes: &[u8]) -> Result<i64, Fault> {
    let Some(first) = bytes.first() else { return Err(invalid("ASN1Body:num_value")) };
    if bytes.len() > 8 {
        return Err(invalid("ASN1Body:num_value"));
    }
    let sign = if first & 0x80 == 0 { 0 } else { -1 };
    Ok(bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte)))
}

/// What is not printable becomes a question mark.
pub(super) fn ascii(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| if matches!(byte, 0x20..0x7f) { *byte } else { b'?' }).collect()
}

/// What is not UTF-8 becomes a replacement character.
pub(super) fn utf8(bytes: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(bytes).into_owned().into_bytes()
}

/// An object id as it is written.
pub(super) fn object_id(bytes: &[u8]) -> String {
    let Some((first, rest)) = bytes.split_first() else { return String::new() };
    let mut text = format!("{}.{}", first / 40, first % 40);
    let mut number = 0_u64;
    for byte in rest {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            text.push_str(&format!(".{number}"));
            number = 0;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_text() {
        assert_eq!(object_id(&[0x2b, 6, 1, 5, 5, 2]), "1.3.6.1.5.5.2");
        assert_eq!(object_id(&[0x2a, 0x86, 0x48]), "1.2.840");
        assert_eq!(ascii(b"a\0\xfcb"), b"a??b");
        assert_eq!(utf8(b"\xfcb"), "\u{fffd}b".as_bytes());
        assert_eq!(number(&[0xff]), Ok(-1));
        assert_eq!(number(&[0x01, 0x00]), Ok(256));
    }

    #[test]
    fn lengths_have_no_sign() {
        let head = |bytes: &[u8]| Head::parse(&mut Reader::big(bytes)).map(|head| head.len);
        assert_eq!(head(&[0x30, 0x81, 0xa4]), Ok(0xa4));
        assert_eq!(head(&[0x30, 0x84, 0, 0, 1, 0]), Ok(256));
        assert!(head(&[0x30, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
    }

    #[test]
    fn elements_within_elements_end_at_a_depth() {
        let mut nested = vec![0x30, 0];
        for _ in 0..40 {
            let len = u8::try_from(nested.len()).unwrap();
            nested = [&[0x30, len], nested.as_slice()].concat();
        }
        assert!(Element::parse_deep(&mut Reader::big(&nested)).is_err());
        assert!(Element::parse(&mut Reader::big(&nested)).is_ok());
    }
}
