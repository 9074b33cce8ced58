//! MIME entities (RFC 2045, 2046) out of the lines of mail and of multipart bodies: headers,
//! nested parts, decoded content. Lines in; what they mean goes to a [`MimeSink`]. Nothing is
//! kept but the header line that is being read and the boundaries of the parts around.

mod decode;
pub mod header;

use super::Cx;
pub use decode::Base64;

/// Parts within parts that are followed (Zeek: `MIME::max_depth`).
const DEPTH_MAX: usize = 100;
/// Bytes of a header field after which folded lines are left out (Zeek: `max_header_bytes`).
const HEADER_BYTES_MAX: usize = 65_536;

/// Who is told what the entities are. The top-level entity has depth 0.
pub trait MimeSink {
    /// An entity begins.
    fn begin_entity(&mut self, depth: usize, cx: &mut Cx<'_>);
    /// A header field of the current entity; folded lines are one.
    fn header(&mut self, name: &[u8], value: &[u8], cx: &mut Cx<'_>);
    /// The next decoded bytes of the current entity.
    fn content(&mut self, bytes: &[u8], cx: &mut Cx<'_>);
    /// The current entity is over; the one around is the current one again.
    fn end_entity(&mut self, cx: &mut Cx<'_>);
}

/// What kind of content an entity has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// Parts between boundaries.
    Multipart,
    /// An entity of its own.
    Message,
    /// Text, also where nothing is said.
    Text,
    /// Anything else.
    Other,
}

/// A message: the top-level entity and the one that is being read within it, by their lines.
#[derive(Debug, Default)]
pub struct Message {
    /// From the outermost to the innermost; empty before the first line.
    entities: Vec<Entity>,
    decoded: Vec<u8>,
}

#[derive(Debug)]
struct Entity {
    is_in_header: bool,
    has_ended: bool,
    header_line: Option<Vec<u8>>,
    content_type: ContentType,
    encoding: Encoding,
    boundary: Option<Vec<u8>>,
    base64: Option<Base64>,
    owes_line_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    QuotedPrintable,
    Base64,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boundary {
    Part,
    Closing,
}

impl Message {
    /// Begins the top-level entity.
    pub fn begin(sink: &mut impl MimeSink, cx: &mut Cx<'_>) -> Self {
        let mut message = Self::default();
        message.begin_entity(sink, cx);
        message
    }

    /// The header of the innermost entity is not over.
    pub fn is_in_header(&self) -> bool {
        self.entities.last().is_some_and(|entity| entity.is_in_header)
    }

    /// Kind of the top-level entity, as far as its header was read.
    pub fn content_type(&self) -> ContentType {
        self.entities.first().map_or(ContentType::Text, |entity| entity.content_type)
    }

    /// The closing boundary of the top-level entity came.
    pub fn has_ended(&self) -> bool {
        self.entities.first().is_some_and(|entity| entity.has_ended)
    }

    /// The next line, without its end; `has_line_end` says whether it had one.
    pub fn line(
        &mut self,
        line: &[u8],
        has_line_end: bool,
        sink: &mut impl MimeSink,
        cx: &mut Cx<'_>,
    ) {
        let mut depth = 0;
        while let Some(entity) = self.entities.get_mut(depth) {
            if entity.is_in_header {
                self.header_line(depth, line, sink, cx);
                return;
            }
            if entity.content_type == ContentType::Multipart
                && let Some(boundary) = entity.boundary_in(line)
            {
                self.boundary(depth, boundary, sink, cx);
                return;
            }
            if !matches!(entity.content_type, ContentType::Multipart | ContentType::Message) {
                self.content(depth, line, has_line_end, sink, cx);
                return;
            }
            // What stands around the parts is nobody's.
            depth += 1;
        }
    }

    /// Nothing more comes.
    pub fn end(&mut self, sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        self.end_down_to(0, sink, cx);
        self.end_entity(sink, cx);
    }

    fn begin_entity(&mut self, sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        let depth = self.entities.len();
        if depth > DEPTH_MAX {
            cx.weird_with("exceeded_mime_max_depth", &DEPTH_MAX.to_string());
            return;
        }
        let encoding = self.entities.last().map_or(Encoding::Binary, |parent| parent.encoding);
        self.entities.push(Entity {
            is_in_header: true,
            has_ended: false,
            header_line: None,
            content_type: ContentType::Text,
            encoding,
            boundary: None,
            base64: None,
            owes_line_end: false,
        });
        sink.begin_entity(depth, cx);
    }

    /// Ends the entities within the one at `depth`.
    fn end_down_to(&mut self, depth: usize, sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        while self.entities.len() > depth + 1 {
            self.end_entity(sink, cx);
            self.entities.pop();
        }
    }

    /// Ends the innermost entity; it stays in its place.
    fn end_entity(&mut self, sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        let Some(entity) = self.entities.last_mut() else { return };
        if std::mem::replace(&mut entity.has_ended, true) {
            return;
        }
        if entity.is_in_header {
            entity.finish_header(sink, cx);
            entity.is_in_header = false;
        } else if let Some(mut base64) = entity.base64.take() {
            self.decoded.clear();
            base64.finish(&mut self.decoded, cx);
            if !self.decoded.is_empty() {
                sink.content(&self.decoded, cx);
            }
        }
        sink.end_entity(cx);
    }

    fn header_line(
        &mut self,
        depth: usize,
        line: &[u8],
        sink: &mut impl MimeSink,
        cx: &mut Cx<'_>,
    ) {
        let Some(entity) = self.entities.get_mut(depth) else { return };
        if !matches!(line.first(), None | Some(0)) {
            entity.header_line(line, sink, cx);
            return;
        }
        entity.finish_header(sink, cx);
        entity.is_in_header = false;
        if entity.encoding == Encoding::Base64 {
            entity.base64 = Some(Base64::default());
        }
        if entity.content_type == ContentType::Message {
            self.begin_entity(sink, cx);
        }
    }

    fn boundary(
        &mut self,
        depth: usize,
        boundary: Boundary,
        sink: &mut impl MimeSink,
        cx: &mut Cx<'_>,
    ) {
        self.end_down_to(depth, sink, cx);
        let has_ended = self.entities.get(depth).is_some_and(|entity| entity.has_ended);
        match boundary {
            Boundary::Closing => self.end_entity(sink, cx),
            Boundary::Part if !has_ended => self.begin_entity(sink, cx),
            Boundary::Part => {}
        }
    }

    fn content(
        &mut self,
        depth: usize,
        line: &[u8],
        has_line_end: bool,
        sink: &mut impl MimeSink,
        cx: &mut Cx<'_>,
    ) {
        let is_part = depth
            .checked_sub(1)
            .and_then(|parent| self.entities.get(parent))
            .is_some_and(|parent| parent.content_type == ContentType::Multipart);
        let Some(entity) = self.entities.get_mut(depth) else { return };
        let decoded = &mut self.decoded;
        decoded.clear();
        match (entity.encoding, &mut entity.base64) {
            (Encoding::QuotedPrintable, _) => decode::quoted_printable(line, decoded),
            (Encoding::Base64, Some(base64)) => base64.decode(line, decoded, cx),
            (Encoding::Base64 | Encoding::Binary, _) => {
                if std::mem::take(&mut entity.owes_line_end) {
                    decoded.extend_from_slice(b"\r\n");
                }
                decoded.extend_from_slice(line);
                // The end of a part's last line belongs to the boundary behind it.
                if has_line_end && is_part {
                    entity.owes_line_end = true;
                } else if has_line_end {
                    decoded.extend_from_slice(b"\r\n");
                }
            }
        }
        if !decoded.is_empty() {
            sink.content(decoded, cx);
        }
    }
}

impl Entity {
    fn header_line(&mut self, line: &[u8], sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        let is_folded = matches!(line.first(), Some(b'\t' | b' '));
        match &mut self.header_line {
            Some(field) if is_folded && field.len() >= HEADER_BYTES_MAX => {
                let len = field.len().to_string();
                cx.weird_with("exceeded_mime_max_header_bytes", &len);
            }
            Some(field) if is_folded => field.extend_from_slice(line),
            _ => {
                self.finish_header(sink, cx);
                let line = line.trim_ascii_start();
                self.header_line = (!line.is_empty()).then(|| line.to_vec());
            }
        }
    }

    fn finish_header(&mut self, sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        let Some(line) = self.header_line.take() else { return };
        let Some((name, value)) = header::field(&line) else { return };
        if name.eq_ignore_ascii_case(b"content-type") {
            self.has_content_type(value);
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            self.has_encoding(value);
        }
        sink.header(name, value, cx);
    }

    fn has_content_type(&mut self, value: &[u8]) {
        let Some((kind, _, parameters)) = header::slash_pair(value) else { return };
        self.content_type = if kind.eq_ignore_ascii_case(b"multipart") {
            ContentType::Multipart
        } else if kind.eq_ignore_ascii_case(b"message") {
            ContentType::Message
        } else if kind.eq_ignore_ascii_case(b"text") {
            ContentType::Text
        } else {
            ContentType::Other
        };
        if self.content_type == ContentType::Multipart {
            self.boundary = header::boundary(parameters).or_else(|| self.boundary.take());
            if self.boundary.is_none() {
                // Nothing tells the parts apart: it is content like any other.
                self.content_type = ContentType::Other;
            }
        }
    }

    fn has_encoding(&mut self, value: &[u8]) {
        let Some((encoding, _)) = header::token(value) else { return };
        self.encoding = if encoding.eq_ignore_ascii_case(b"quoted-printable") {
            Encoding::QuotedPrintable
        } else if encoding.eq_ignore_ascii_case(b"base64") {
            Encoding::Base64
        } else {
            Encoding::Binary
        };
    }

    /// What boundary `line` is.
    fn boundary_in(&self, line: &[u8]) -> Option<Boundary> {
        let behind = line.strip_prefix(b"--")?.strip_prefix(self.boundary.as_deref()?)?;
        Some(if behind.starts_with(b"--") { Boundary::Closing } else { Boundary::Part })
    }
}
