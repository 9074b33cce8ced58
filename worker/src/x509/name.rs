//! Names (X.501) as text: RFC 2253 as OpenSSL writes it (`XN_FLAG_RFC2253`), the last part first.

use super::der::{Element, Elements, hex_upper, tag};
use super::oid;
use crate::analyzer::text::{UPPER, push_hex};

/// Zeek reads a name into a buffer of 2048 bytes, the last of which ends it.
const TEXT_MAX: usize = 2047;
/// `commonName`.
const COMMON_NAME: &str = "2.5.4.3";

/// A name, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Name<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Clone, Debug)]
struct Attribute<'a> {
    /// Number of the set that it stands in.
    set: usize,
    oid: String,
    value: Element<'a>,
}

impl<'a> Name<'a> {
    /// Takes the content of a name's sequence apart; `None` when it is no name.
    pub(super) fn read(mut sets: Elements<'a>) -> Option<Self> {
        let mut attributes = Vec::new();
        let mut set = 0;
        while !sets.is_empty() {
            let mut members = sets.expect(tag::SET)?.inside();
            while !members.is_empty() {
                let mut pair = members.expect(tag::SEQUENCE)?.inside();
                let oid = oid::dotted(pair.expect(tag::OID)?.content)?;
                let value = pair.next()?;
                attributes.push(Attribute { set, oid, value });
            }
            set += 1;
        }
        Some(Self { attributes })
    }

    /// The name as Zeek logs it.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut before = None;
        for attribute in self.attributes.iter().rev() {
            if let Some(before) = before {
                text.push(if before == attribute.set { '+' } else { ',' });
            }
            before = Some(attribute.set);
            let short = oid::short_name(&attribute.oid);
            text.push_str(short.unwrap_or(&attribute.oid));
            text.push('=');
            // OpenSSL stops where a value is not what its type says.
            let Some(value) = escaped(&attribute.value, short.is_some()) else { break };
            text.push_str(&value);
        }
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text
    }

    /// The last common name, with dots for what cannot be printed.
    pub(super) fn last_common_name(&self) -> Option<Vec<u8>> {
        let last = self.attributes.iter().rfind(|attribute| attribute.oid == COMMON_NAME)?;
        let line = last.value.content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let printable = |byte: &u8| if (b' '..=b'~').contains(byte) { *byte } else { b'.' };
        Some(line.iter().take(TEXT_MAX).map(printable).collect())
    }
}

/// A value in characters, escaped; `None` when it is broken.
fn escaped(value: &Element<'_>, is_known: bool) -> Option<String> {
    let Some(characters) = is_known.then(|| characters(value)).flatten() else {
        return Some(format!("#{}", hex_upper(value.raw)));
    };
    let characters = characters?;
    let mut text = String::new();
    let last = characters.len().saturating_sub(1);
    for (index, character) in characters.into_iter().enumerate() {
        let is_first = index == 0;
        match character {
            ',' | '+' | '"' | '<' | '>' | ';' | '\\' => text.extend(['\\', character]),
            '#' if is_first => text.push_str("\\#"),
            ' ' if is_first || index == last => text.push_str("\\ "),
            ' '..='~' => text.push(character),
            other => {
                let mut bytes = [0; 4];
                for byte in other.encode_utf8(&mut bytes).bytes() {
                    text.push('\\');
                    push_hex(&mut text, &[byte], UPPER);
                }
            }
        }
    }
    Some(text)
}

/// The characters of a value: the outer `None` when its type is not one of characters, the
/// inner when it is broken.
fn characters(value: &Element<'_>) -> Option<Option<Vec<char>>> {
    if value.is_context {
        return None;
    }
    let bytes = value.content;
    match value.tag {
        tag::UTF8_STRING => {
            Some(std::str::from_utf8(bytes).ok().map(|text| text.chars().collect()))
        }
        // Numeric, printable, T61, IA5, times, visible: a byte each, Latin 1.
        18..=20 | 22..=24 | 26 => Some(Some(bytes.iter().map(|byte| char::from(*byte)).collect())),
        tag::UNIVERSAL_STRING => Some(wide::<4>(bytes)),
        tag::BMP_STRING => Some(wide::<2>(bytes)),
        _ => None,
    }
}

fn wide<const LEN: usize>(bytes: &[u8]) -> Option<Vec<char>> {
    let (chunks, []) = bytes.as_chunks::<LEN>() else { return None };
    let number = |chunk: &[u8; LEN]| chunk.iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
    chunks.iter().map(|chunk| char::from_u32(number(chunk))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name of sets with one attribute each: the identifier's last byte (2.5.4.x), the tag,
    /// the value.
    fn name(attributes: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (arc, tag, value) in attributes {
            let len = u8::try_from(value.len()).unwrap_or_default();
            bytes.extend([0x31, len + 9, 0x30, len + 7, 6, 3, 0x55, 4, *arc, *tag, len]);
            bytes.extend_from_slice(value);
        }
        bytes
    }

    fn text(attributes: &[(u8, u8, &[u8])]) -> String {
        let bytes = name(attributes);
        Name::read(Elements(&bytes)).map(|name| name.text()).unwrap_or_default()
    }

    #[test]
    fn the_last_part_comes_first_and_what_has_a_meaning_is_escaped() {
        assert_eq!(
            text(&[(6, 19, b"US"), (10, 12, b"A, Inc."), (3, 12, b"x")]),
            "CN=x,O=A\\, Inc.,C=US"
        );
        assert_eq!(text(&[(3, 12, b" #a ")]), "CN=\\ #a\\ ");
        assert_eq!(text(&[(3, 12, b"#a")]), "CN=\\#a");
        assert_eq!(text(&[(3, 12, "ü".as_bytes())]), "CN=\\C3\\BC");
        assert_eq!(text(&[(3, 20, b"\xFC")]), "CN=\\C3\\BC");
        assert_eq!(text(&[(3, 30, b"\0a\0b")]), "CN=ab");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn unknown_types_are_dumped_and_broken_text_ends_the_name() {
        assert_eq!(text(&[(127, 12, b"a")]), "2.5.4.127=#0C0161");
        assert_eq!(text(&[(3, 4, b"a")]), "CN=#040161");
        assert_eq!(text(&[(6, 19, b"US"), (3, 12, b"\xFF")]), "CN=");
    }
}
