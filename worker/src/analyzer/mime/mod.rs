//! MIME entities (RFC 2045, 2046) out of the lines of mail: headers, nested parts, decoded
//! content. Lines in; what they mean goes to a [`MimeSink`]. Nothing is kept but the header line
//! that is being read and the boundaries of the parts around. Of what an entity is, HTTP knows
//! no other: only its lengths, chunks and compression make it move its entities itself.

pub mod decode;
pub mod filename;
pub mod format;
pub mod header;

use self::decode::{Content, Line};
use self::format::{Boundary, Field, Format};
use self::header::Header;
use super::Cx;

/// Parts within parts that are followed (Zeek: `MIME::max_depth`).
pub(crate) const DEPTH_MAX: usize = 100;

/// Who is told what the entities are. The top-level entity has depth 0.
pub trait MimeSink {
    /// An entity begins.
    fn begin_entity(&mut self, depth: usize, cx: &mut Cx<'_>);
    /// A header field of the current entity; folded lines are one.
    fn header(&mut self, header: &Header<'_>, cx: &mut Cx<'_>);
    /// The next decoded bytes of the current entity.
    fn content(&mut self, bytes: &[u8], cx: &mut Cx<'_>);
    /// The current entity is over; the one around is the current one again.
    fn end_entity(&mut self, cx: &mut Cx<'_>);
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
    field: Field,
    format: Format,
    content: Content,
}

impl Message {
    /// Begins the top-level entity.
    pub fn begin(sink: &mut impl MimeSink, cx: &mut Cx<'_>) -> Self {
        let mut message = Self::default();
        message.begin_entity(sink, cx);
        message
    }

    /// The next line.
    pub fn line(&mut self, line: Line<'_>, sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        let mut depth = 0;
        while let Some(entity) = self.entities.get_mut(depth) {
            if entity.is_in_header {
                return self.header_line(depth, line.bytes, sink, cx);
            }
            if let Some(boundary) = entity.format.boundary_in(line.bytes) {
                return self.boundary(depth, boundary, sink, cx);
            }
            if !entity.format.has_entities() {
                return self.content(depth, line, sink, cx);
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
        let parent = self.entities.last();
        let content = parent.map_or_else(Content::default, |parent| parent.content.within());
        self.entities.push(Entity {
            is_in_header: true,
            has_ended: false,
            field: Field::default(),
            format: Format::default(),
            content,
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
        } else {
            entity.content.finish(&mut self.decoded, cx);
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
        if entity.format.is_message() {
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

    fn content(&mut self, depth: usize, line: Line<'_>, sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        let parent = depth.checked_sub(1).and_then(|parent| self.entities.get(parent));
        let is_part = parent.is_some_and(|parent| parent.format.is_multipart());
        let Some(entity) = self.entities.get_mut(depth) else { return };
        entity.content.decode(line, is_part, &mut self.decoded, cx);
        if !self.decoded.is_empty() {
            sink.content(&self.decoded, cx);
        }
    }
}

impl Entity {
    fn header_line(&mut self, line: &[u8], sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        if !self.field.goes_on_with(line, cx) {
            self.finish_header(sink, cx);
            self.field.begin(line);
        }
    }

    fn finish_header(&mut self, sink: &mut impl MimeSink, cx: &mut Cx<'_>) {
        let Some((line, _)) = self.field.take() else { return };
        if let Some(header) = Header::parse(&line) {
            if header.is(b"content-type") {
                self.format.content_type(header.value);
            } else if header.is(b"content-transfer-encoding") {
                self.content.has_encoding(header.value);
            }
            sink.header(&header, cx);
        }
        self.field.keep(line);
    }
}
