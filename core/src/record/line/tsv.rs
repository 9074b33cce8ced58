//! Lines of Zeek's TSV with its default separators, which are the only ones we write.

use super::{LineError, LineReader, bad_value, scalar};
use crate::record::FieldSink;
use crate::record::schema::{FieldType, Scalar};

impl LineReader {
    pub(super) fn replay_tsv(
        &mut self,
        line: &[u8],
        sink: &mut impl FieldSink,
    ) -> Result<(), LineError> {
        let expected = self.schema.fields.len();
        let mut columns = line.split(|&byte| byte == b'\t');
        for (field, wanted) in self.schema.fields.iter().zip(&self.wanted) {
            let Some(text) = columns.next() else {
                let found = line.split(|&byte| byte == b'\t').count();
                return Err(LineError::Columns { found, expected });
            };
            if !wanted {
                sink.unset();
                continue;
            }
            column(field.field_type, text, &mut self.scratch, sink)
                .ok_or_else(|| bad_value(field))?;
        }
        match columns.count() {
            0 => Ok(()),
            more => Err(LineError::Columns { found: expected + more, expected }),
        }
    }
}

fn column(
    field_type: FieldType,
    text: &[u8],
    scratch: &mut Vec<u8>,
    sink: &mut impl FieldSink,
) -> Option<()> {
    match field_type {
        FieldType::One(scalar) => value(scalar, text, scratch, sink),
        FieldType::Set(_) | FieldType::Vector(_) if text == b"-" => {
            sink.unset();
            Some(())
        }
        // A container of one empty string prints the same as an empty one.
        FieldType::Set(_) | FieldType::Vector(_) if text == b"(empty)" => {
            sink.begin(0);
            sink.end();
            Some(())
        }
        FieldType::Set(scalar) | FieldType::Vector(scalar) => {
            let values = text.split(|&byte| byte == b',');
            sink.begin(values.clone().count());
            for text in values {
                value(scalar, text, scratch, sink)?;
            }
            sink.end();
            Some(())
        }
    }
}

fn value(
    scalar: Scalar,
    text: &[u8],
    scratch: &mut Vec<u8>,
    sink: &mut impl FieldSink,
) -> Option<()> {
    if text == b"-" {
        sink.unset();
        return Some(());
    }
    if !matches!(scalar, Scalar::String | Scalar::Enum) {
        return scalar::plain(scalar, text, sink);
    }
    if text == b"(empty)" {
        sink.string(b"");
    } else if memchr::memchr(b'\\', text).is_none() {
        sink.string(text);
    } else {
        unescape(text, scratch);
        sink.string(scratch);
    }
    Some(())
}

/// `\xNN` and `\\` back into bytes. A backslash before anything else stands for itself.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match (byte, tail) {
            (b'\\', [b'\\', tail @ ..]) => Some((b'\\', tail)),
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let byte = digit(*high).zip(digit(*low)).map(|(high, low)| high * 16 + low);
                byte.and_then(|byte| u8::try_from(byte).ok()).map(|byte| (byte, tail))
            }
            _ => None,
        };
        let (byte, tail) = escaped.unwrap_or((byte, tail));
        out.push(byte);
        rest = tail;
    }
}
