//! A message on its way: its lines are MIME entities, its parts are files.

use tyto_core::net::Side;

use super::log::Transaction;
use crate::analyzer::Cx;
use crate::analyzer::mime::decode::Line;
use crate::analyzer::mime::filename;
use crate::analyzer::mime::header::Header;
use crate::analyzer::mime::{Message, MimeSink};
use crate::file::handle::Handle;
use crate::file::{FileAbout, FileRef};

/// A message that is being sent.
#[derive(Debug)]
pub(super) struct Mail {
    message: Message,
    part: Part,
}

/// The entity that is being read.
#[derive(Debug)]
struct Part {
    side: Side,
    filename: Option<Vec<u8>>,
    file: Option<FileRef>,
    /// Between the begin of an entity and its end.
    is_open: bool,
}

/// What an entity may touch.
struct Sink<'a> {
    part: &'a mut Part,
    transaction: &'a mut Transaction,
    mime_depth: &'a mut u64,
}

impl Mail {
    /// Begins a message that `side` sends. `mime_depth` counts the entities of the connection.
    pub(super) fn begin(
        side: Side,
        transaction: &mut Transaction,
        mime_depth: &mut u64,
        cx: &mut Cx<'_>,
    ) -> Self {
        let mut part = Part { side, filename: None, file: None, is_open: false };
        let mut sink = Sink { part: &mut part, transaction, mime_depth };
        let message = Message::begin(&mut sink, cx);
        Self { message, part }
    }

    /// The next line.
    pub(super) fn line(
        &mut self,
        line: Line<'_>,
        transaction: &mut Transaction,
        mime_depth: &mut u64,
        cx: &mut Cx<'_>,
    ) {
        let mut sink = Sink { part: &mut self.part, transaction, mime_depth };
        self.message.line(line, &mut sink, cx);
    }

    /// `missed_bytes` of the message will not come.
    pub(super) fn gap(
        &mut self,
        missed_bytes: u64,
        transaction: &mut Transaction,
        mime_depth: &mut u64,
        cx: &mut Cx<'_>,
    ) {
        let mut sink = Sink { part: &mut self.part, transaction, mime_depth };
        let file = sink.file(cx);
        cx.file_gap(file, missed_bytes);
    }

    /// The message is over.
    pub(super) fn end(
        mut self,
        transaction: &mut Transaction,
        mime_depth: &mut u64,
        cx: &mut Cx<'_>,
    ) {
        let mut sink = Sink { part: &mut self.part, transaction, mime_depth };
        self.message.end(&mut sink, cx);
    }
}

impl Sink<'_> {
    /// The file of the current entity; it begins with the first byte.
    fn file(&mut self, cx: &mut Cx<'_>) -> FileRef {
        if let Some(file) = self.part.file {
            return file;
        }
        let depth = self.transaction.row.trans_depth;
        let handle = Handle::of("SMTP").time(cx.conn.start).number(depth).number(*self.mime_depth);
        let filename = self.part.filename.as_deref().filter(|_| self.part.is_open);
        let about = FileAbout {
            depth: *self.mime_depth,
            filename: filename.map(|name| String::from_utf8_lossy(name).into_owned()),
            ..FileAbout::default()
        };
        let file = cx.file_open(self.part.side, handle.as_bytes(), &about);
        self.transaction.file(file.fuid);
        self.part.file = Some(file);
        file
    }
}

impl MimeSink for Sink<'_> {
    fn begin_entity(&mut self, _: usize, _: &mut Cx<'_>) {
        *self.mime_depth += 1;
        self.transaction.entities += 1;
        self.part.is_open = true;
        self.part.filename = None;
        self.part.file = None;
    }

    fn header(&mut self, header: &Header<'_>, cx: &mut Cx<'_>) {
        // The headers of parts are not those of the message.
        if self.transaction.entities <= 1 {
            self.transaction.header(header.name, header.value, cx);
        }
        if !self.part.is_open {
            cx.weird("missing_SMTP_entity");
            return;
        }
        let found = filename::of_header(header);
        if found.is_some() {
            self.part.filename = found;
        }
    }

    fn content(&mut self, bytes: &[u8], cx: &mut Cx<'_>) {
        let file = self.file(cx);
        cx.file_bytes(file, bytes);
    }

    fn end_entity(&mut self, cx: &mut Cx<'_>) {
        if let Some(file) = self.part.file.take() {
            cx.file_end(file);
        }
        self.part.is_open = false;
        self.part.filename = None;
    }
}
