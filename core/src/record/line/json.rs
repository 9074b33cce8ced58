//! Lines of JSON: one flat object, values being numbers, strings, bools, null and arrays of
//! these. Columns may come in any order; what the schema does not have is passed over.

use std::ops::Range;

use super::{LineError, LineReader, bad_value, scalar};
use crate::record::FieldSink;
use crate::record::schema::{Scalar, SchemaField};

impl LineReader {
    pub(super) fn replay_json(
        &mut self,
        line: &[u8],
        sink: &mut impl FieldSink,
    ) -> Result<(), LineError> {
        self.find_values(line)?;
        for ((field, wanted), range) in
            self.schema.fields.iter().zip(&self.wanted).zip(&self.values)
        {
            let text = line.get(range.clone()).unwrap_or_default();
            if !wanted || text.is_empty() || text == b"null" {
                sink.unset();
                continue;
            }
            column(field, text, &mut self.scratch, sink).ok_or_else(|| bad_value(field))?;
        }
        Ok(())
    }

    /// Appends an object of these columns of a JSON line, as they stand there, to `out`.
    ///
    /// # Errors
    /// When the line is no JSON object.
    pub fn members(
        &mut self,
        line: &[u8],
        columns: &[usize],
        out: &mut Vec<u8>,
    ) -> Result<(), LineError> {
        self.find_values(line)?;
        out.push(b'{');
        let mut is_first = true;
        for &column in columns {
            let (field, range) = (self.schema.fields.get(column), self.values.get(column));
            let text = range.and_then(|range| line.get(range.clone())).unwrap_or_default();
            let Some(field) = field.filter(|_| !text.is_empty()) else { continue };
            let comma = if is_first { "" } else { "," };
            out.extend_from_slice(format!("{comma}\"{}\":", field.name).as_bytes());
            out.extend_from_slice(text);
            is_first = false;
        }
        out.push(b'}');
        Ok(())
    }

    /// Where the columns' values stand in the line.
    fn find_values(&mut self, line: &[u8]) -> Result<(), LineError> {
        let fields = &self.schema.fields;
        self.values.clear();
        self.values.resize(fields.len(), 0..0);
        let mut scan = Scan { line, at: 0 };
        let mut next = 0;
        scan.expect(b'{')?;
        if scan.accept(b'}') {
            return Ok(());
        }
        loop {
            let key = scan.value()?;
            scan.expect(b':')?;
            let value = scan.value()?;
            // Our own lines have the columns in order: the next is the one, or soon behind.
            let key = line.get(key.start + 1..key.end.saturating_sub(1)).unwrap_or_default();
            let is_it = |field: &SchemaField| field.name.as_bytes() == key;
            let ahead = fields.get(next..).unwrap_or_default().iter().position(is_it);
            let column = ahead.map(|at| at + next).or_else(|| fields.iter().position(is_it));
            if let Some(column) = column {
                next = column + 1;
                if let Some(place) = self.values.get_mut(column) {
                    *place = value;
                }
            }
            if !scan.accept(b',') {
                return scan.expect(b'}');
            }
        }
    }
}

/// Steps through a line.
struct Scan<'a> {
    line: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_it = self.peek() == Some(byte);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, byte: u8) -> Result<(), LineError> {
        if self.accept(byte) { Ok(()) } else { Err(LineError::Json { at: self.at }) }
    }

    /// Passes over a value and tells where it stands; strings with their quotes. Nested
    /// objects are passed over by their brackets.
    fn value(&mut self) -> Result<Range<usize>, LineError> {
        self.skip_space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'[' | b'{') => {
                let mut depth = 0_usize;
                loop {
                    match self.peek() {
                        Some(b'"') => {
                            self.string()?;
                            continue;
                        }
                        Some(b'[' | b'{') => depth += 1,
                        Some(b']' | b'}') => depth -= 1,
                        Some(_) => {}
                        None => return Err(LineError::Json { at: self.at }),
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                let is_part = |byte: u8| !matches!(byte, b',' | b'}' | b']') && byte > b' ';
                while self.peek().is_some_and(is_part) {
                    self.at += 1;
                }
            }
        }
        if self.at == start { Err(LineError::Json { at: start }) } else { Ok(start..self.at) }
    }

    fn string(&mut self) -> Result<(), LineError> {
        self.at += 1;
        loop {
            let rest = self.line.get(self.at..).unwrap_or_default();
            let Some(len) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(LineError::Json { at: self.line.len() });
            };
            let is_end = rest.get(len) == Some(&b'"');
            self.at += len + if is_end { 1 } else { 2 };
            if is_end {
                return Ok(());
            }
        }
    }
}

fn column(
    field: &SchemaField,
    text: &[u8],
    scratch: &mut Vec<u8>,
    sink: &mut impl FieldSink,
) -> Option<()> {
    let scalar = field.field_type.scalar();
    if !field.field_type.is_container() {
        return value(scalar, text, scratch, sink);
    }
    let mut scan = Scan { line: text, at: 0 };
    let mut count = 0;
    scan.expect(b'[').ok()?;
    while !scan.accept(b']') {
        scan.value().ok()?;
        count += 1;
        scan.accept(b',');
    }
    sink.begin(count);
    scan.at = 1;
    for _ in 0..count {
        let range = scan.value().ok()?;
        value(scalar, text.get(range)?, scratch, sink)?;
        scan.accept(b',');
    }
    sink.end();
    Some(())
}

fn value(
    scalar: Scalar,
    text: &[u8],
    scratch: &mut Vec<u8>,
    sink: &mut impl FieldSink,
) -> Option<()> {
    if text == b"null" {
        sink.unset();
        return Some(());
    }
    let Some(text) = text.strip_prefix(b"\"") else {
        let is_text = matches!(scalar, Scalar::String | Scalar::Enum);
        return if is_text { None } else { scalar::plain(scalar, text, sink) };
    };
    let text = text.strip_suffix(b"\"")?;
    let text = if memchr::memchr(b'\\', text).is_some() {
        unescape(text, scratch)?;
        scratch.as_slice()
    } else {
        text
    };
    match scalar {
        Scalar::String | Scalar::Enum => {
            sink.string(text);
            Some(())
        }
        Scalar::Time | Scalar::Addr | Scalar::Subnet => scalar::plain(scalar, text, sink),
        _ => None,
    }
}

/// JSON's escapes (RFC 8259 section 7) back into UTF-8.
fn unescape(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&kind, tail) = rest.split_first()?;
        rest = tail;
        match kind {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'u' => rest = unicode(rest, out)?,
            other => out.push(other),
        }
    }
    Some(())
}

/// The four digits behind `\u`, and those of a second half of a surrogate pair.
fn unicode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let unit = |text: &'a [u8]| {
        let (digits, rest) = text.split_at_checked(4)?;
        Some((u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?, rest))
    };
    let (first, mut rest) = unit(text)?;
    let mut units = vec![first];
    if (0xd800..0xdc00).contains(&first) {
        let (second, behind) = unit(rest.strip_prefix(b"\\u")?)?;
        units.push(second);
        rest = behind;
    }
    for c in char::decode_utf16(units) {
        out.extend_from_slice(c.ok()?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(rest)
}
