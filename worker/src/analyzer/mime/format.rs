//! What the headers of an entity say about its form (RFC 2045 section 5, RFC 2046): the type of
//! its content, what separates its parts, and fields that go on in further lines.

use super::header;
use crate::analyzer::Cx;

/// Bytes of a header field after which folded lines are left out (Zeek: `max_header_bytes`).
const FIELD_BYTES_MAX: usize = 65_536;

/// The form of an entity's content.
#[derive(Debug, Default)]
pub struct Format {
    kind: Kind,
    boundary: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Parts between boundaries.
    Multipart,
    /// An entity of its own.
    Message,
    /// Anything else, also where nothing is said.
    #[default]
    Plain,
}

/// What a line between parts is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Another part begins.
    Part,
    /// There are no more.
    Closing,
}

impl Format {
    /// What the header Content-Type says.
    pub fn content_type(&mut self, value: &[u8]) {
        let Some((kind, parameters)) = header::media_type(value) else { return };
        self.kind = if kind.eq_ignore_ascii_case(b"multipart") {
            Kind::Multipart
        } else if kind.eq_ignore_ascii_case(b"message") {
            Kind::Message
        } else {
            Kind::Plain
        };
        if self.kind == Kind::Multipart {
            self.boundary = header::boundary(parameters).or_else(|| self.boundary.take());
            if self.boundary.is_none() {
                // Nothing tells the parts apart: it is content like any other.
                self.kind = Kind::Plain;
            }
        }
    }

    /// There are parts between boundaries.
    pub fn is_multipart(&self) -> bool {
        self.kind == Kind::Multipart
    }

    /// The content is an entity of its own.
    pub fn is_message(&self) -> bool {
        self.kind == Kind::Message
    }

    /// There are entities within this one.
    pub fn has_entities(&self) -> bool {
        self.kind != Kind::Plain
    }

    /// What boundary between parts `line` is, if it is one.
    pub fn boundary_in(&self, line: &[u8]) -> Option<Boundary> {
        let boundary = self.boundary.as_deref().filter(|_| self.is_multipart())?;
        let behind = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
        Some(if behind.starts_with(b"--") { Boundary::Closing } else { Boundary::Part })
    }
}

/// The header field that is being read: one line, and those that it goes on in.
#[derive(Debug, Default)]
pub struct Field {
    /// Kept from field to field for its memory.
    bytes: Vec<u8>,
    lines: u32,
}

impl Field {
    /// Whether `line` goes on with the field at hand; if so it is taken.
    pub fn goes_on_with(&mut self, line: &[u8], cx: &mut Cx<'_>) -> bool {
        let is_folded = line.first().is_some_and(|first| header::is_blank(*first));
        if !is_folded || self.lines == 0 {
            return false;
        }
        if self.bytes.len() >= FIELD_BYTES_MAX {
            cx.weird_with("exceeded_mime_max_header_bytes", &self.bytes.len().to_string());
        } else {
            self.bytes.extend_from_slice(line);
            self.lines += 1;
        }
        true
    }

    /// `line` begins another.
    pub fn begin(&mut self, line: &[u8]) {
        let line = header::skip_blanks(line);
        self.bytes.clear();
        self.bytes.extend_from_slice(line);
        self.lines = u32::from(!line.is_empty());
    }

    /// The whole field and the number of its lines; none if none was begun. [`Self::keep`] may
    /// be given the memory back.
    pub fn take(&mut self) -> Option<(Vec<u8>, u32)> {
        let lines = std::mem::take(&mut self.lines);
        (lines > 0).then(|| (std::mem::take(&mut self.bytes), lines))
    }

    /// Memory for the next field.
    pub fn keep(&mut self, memory: Vec<u8>) {
        self.bytes = memory;
    }
}
