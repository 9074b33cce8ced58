//! Filters of searches (RFC 4511 section 4.5.1.7) as text (RFC 4515), in the form in which Zeek
//! prints them: more than two parts are nested one in the other.

use super::ber::{Element, Head, UNIVERSAL, ascii, invalid, utf8};
use crate::analyzer::text::{hex_between, uuid};
use crate::analyzer::windows::reader::{Fault, Reader};

/// Filters within filters. Deeper ones are a fault.
const DEPTH_MAX: u8 = 20;

/// Reads one filter.
pub(super) fn filter(reader: &mut Reader<'_>, depth: u8) -> Result<Vec<u8>, Fault> {
    if depth > DEPTH_MAX {
        return Err(Fault::InvalidCase { record: "SearchFilter", index: depth.into() });
    }
    let element = Element::parse(reader)?;
    if element.head.class == UNIVERSAL {
        return Err(invalid("SearchFilter:filterType"));
    }
    let mut inner = Reader::big(element.content);
    Ok(match element.head.kind {
        0 => nested(b'&', &mut inner, depth)?,
        1 => nested(b'|', &mut inner, depth)?,
        2 => [b"(!", filter(&mut inner, depth + 1)?.as_slice(), b")"].concat(),
        3 => assertion(b"=", &mut inner)?,
        4 => substrings(&mut inner)?,
        5 => assertion(b">=", &mut inner)?,
        6 => assertion(b"<=", &mut inner)?,
        7 => [b"(", ascii(element.content).as_slice(), b"=*)"].concat(),
        8 => assertion(b"~=", &mut inner)?,
        9 => extended(&mut inner)?,
        _ => return Err(invalid("SearchFilter:filterType")),
    })
}

fn nested(sign: u8, reader: &mut Reader<'_>, depth: u8) -> Result<Vec<u8>, Fault> {
    let mut text = Vec::new();
    let mut count = 0;
    while !reader.is_empty() {
        let part = filter(reader, depth + 1)?;
        count += 1;
        if count != 2 {
            text.splice(0..0, [b'(', sign]);
        }
        text.extend(part);
        if count > 1 {
            text.push(b')');
        }
    }
    if count == 1 {
        text.push(b')');
    }
    Ok(text)
}

/// Bytes behind a tag and a length of one byte, which is all that Zeek takes here.
fn short<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Fault> {
    const FIELD: &str = "DecodedAttributeValue:assertionValue";
    reader.u8(FIELD)?;
    let len = reader.u8(FIELD)?;
    reader.take(len.into(), FIELD)
}

fn assertion(sign: &[u8], reader: &mut Reader<'_>) -> Result<Vec<u8>, Fault> {
    let name = short(reader)?;
    let value = shown(name, short(reader)?);
    Ok([b"(", utf8(name).as_slice(), sign, &value, b")"].concat())
}

fn extended(reader: &mut Reader<'_>) -> Result<Vec<u8>, Fault> {
    let rule = short(reader)?;
    let name = shown(rule, short(reader)?);
    let value = short(reader)?;
    Ok([b"(", name.as_slice(), b":", &utf8(rule), b":=", value, b")"].concat())
}

fn substrings(reader: &mut Reader<'_>) -> Result<Vec<u8>, Fault> {
    let name = short(reader)?;
    let len = Head::parse(reader)?.len;
    let mut parts = reader.sub(len, "SubstringFilter:header")?;
    let (mut initial, mut any, mut last) = (Vec::new(), Vec::new(), Vec::new());
    while !parts.is_empty() {
        let part = Element::parse(&mut parts)?;
        let text = escaped(part.content);
        match part.head.kind {
            0 => initial = text,
            1 => any.extend([text.as_slice(), b"*"].concat()),
            2 => last = text,
            _ => return Err(invalid("SubstringFilter:header")),
        }
    }
    Ok([b"(", utf8(name).as_slice(), b"=", &initial, b"*", &any, &last, b")"].concat())
}

/// A value, of some attributes of Active Directory (\[MS-ADTS\] section 6.3.3.1) as what it is.
fn shown(name: &[u8], value: &[u8]) -> Vec<u8> {
    match name {
        b"DomainGuid" => guid(value),
        b"objectSid" | b"AAC" => hex_between(value, ":").into_bytes(),
        b"DomainSid" => sid(value),
        b"NtVer" => match *value {
            [a, b, c, d] => format!("0x{d:02x}{c:02x}{b:02x}{a:02x}").into_bytes(),
            _ => b"HEX_FORMAT_FAILED".to_vec(),
        },
        _ => escaped(value),
    }
}

fn guid(value: &[u8]) -> Vec<u8> {
    let guid = <[u8; 16]>::try_from(value).map(uuid);
    guid.map_or_else(|_| b"GUID_FORMAT_FAILED".to_vec(), String::into_bytes)
}

/// A security id with four parts; Zeek takes no others.
fn sid(value: &[u8]) -> Vec<u8> {
    let Ok([revision, _, authority @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]) =
        <[u8; 24]>::try_from(value)
    else {
        return b"SID_FORMAT_FAILED".to_vec();
    };
    let authority = authority.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let mut text = format!("S-{revision}-{authority}");
    for part in value.get(8..).unwrap_or_default().chunks_exact(4) {
        let part = part.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        text.push_str(&format!("-{part}"));
    }
    text.into_bytes()
}

/// Characters that mean something in filters are escaped (RFC 4515 section 3); Zeek has 27
/// among them, which is not the backslash.
fn escaped(value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            0 | 27 | b'(' | b')' | b'*' => text.extend(format!("\\{byte:02x}").bytes()),
            _ => text.push(*byte),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn equals(name: &[u8], value: &[u8]) -> Vec<u8> {
        tlv(0xa3, &[tlv(4, name), tlv(4, value)].concat())
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(filter(&mut Reader::big(bytes), 0).unwrap()).unwrap()
    }

    #[test]
    fn parts_are_nested_from_the_third_on() {
        let three = [equals(b"a", b"1"), equals(b"b", b"2"), equals(b"c", b"3")];
        assert_eq!(text(&tlv(0xa0, &three.concat())), "(&(&(a=1)(b=2))(c=3))");
        assert_eq!(text(&tlv(0xa1, &three[..2].concat())), "(|(a=1)(b=2))");
        assert_eq!(text(&tlv(0xa1, &three[0])), "(|(a=1))");
        assert_eq!(text(&tlv(0xa2, &three[0])), "(!(a=1))");
    }

    #[test]
    fn leaves_have_their_signs() {
        let substrings = [tlv(0x80, b"a"), tlv(0x81, b"b"), tlv(0x82, b"c")].concat();
        let substrings = [tlv(4, b"cn"), tlv(0x30, &substrings)].concat();
        assert_eq!(text(&tlv(0xa4, &substrings)), "(cn=a*b*c)");
        assert_eq!(text(&tlv(0x87, b"objectclass")), "(objectclass=*)");
        assert_eq!(text(&equals(b"cn", b"a*(b)")), "(cn=a\\2a\\28b\\29)");
    }

    #[test]
    fn values_of_active_directory_are_shown_as_what_they_are() {
        assert_eq!(text(&equals(b"NtVer", &[0x16, 0, 0, 0x20])), "(NtVer=0x20000016)");
        let guid: Vec<u8> = (0..16).collect();
        assert_eq!(
            text(&equals(b"DomainGuid", &guid)),
            "(DomainGuid=03020100-0504-0706-0809-0a0b0c0d0e0f)"
        );
        let sid = [&[1, 4, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0][..], &[1, 0, 0, 0], &[0; 8]].concat();
        assert_eq!(text(&equals(b"DomainSid", &sid)), "(DomainSid=S-1-5-21-1-0-0)");
    }

    #[test]
    fn depth_has_an_end() {
        let mut deep = equals(b"a", b"1");
        for _ in 0..30 {
            deep = tlv(0xa2, &deep);
        }
        assert!(filter(&mut Reader::big(&deep), 0).is_err());
    }
}
