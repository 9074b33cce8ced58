//! A message that is fetched: its parts are files.

use tyto_core::net::Side;

use crate::analyzer::Cx;
use crate::analyzer::mime::decode::Line;
use crate::analyzer::mime::header::Header;
use crate::analyzer::mime::{Message, MimeSink};
use crate::file::{FileAbout, FileRef};

/// A message.
#[derive(Debug)]
pub(super) struct Mail {
    message: Message,
    part: Part,
}

/// The part that is being read.
#[derive(Debug, Default)]
struct Part {
    file: Option<FileRef>,
}

impl Mail {
    /// Begins a message.
    pub(super) fn begin(cx: &mut Cx<'_>) -> Self {
        let mut part = Part::default();
        let message = Message::begin(&mut part, cx);
        Self { message, part }
    }

    /// The next line.
    pub(super) fn line(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        let line = Line { bytes: line, has_end: true };
        self.message.line(line, &mut self.part, cx);
    }

    /// The message is over.
    pub(super) fn end(mut self, cx: &mut Cx<'_>) {
        self.message.end(&mut self.part, cx);
    }
}

impl MimeSink for Part {
    fn begin_entity(&mut self, _: usize, _: &mut Cx<'_>) {
        self.file = None;
    }

    fn header(&mut self, _: &Header<'_>, _: &mut Cx<'_>) {}

    fn content(&mut self, bytes: &[u8], cx: &mut Cx<'_>) {
        let file = match self.file {
            Some(file) => file,
            None => {
                // Zeek tells these files apart by when they began: parts that come in one packet
                // have one id there, and so they have here.
                let handle = format!("POP3 {} {}", cx.uid(), cx.now.0).into_bytes();
                let file = cx.file_open(Side::Resp, &handle, &FileAbout::default());
                *self.file.insert(file)
            }
        };
        cx.file_bytes(file, bytes);
    }

    fn end_entity(&mut self, cx: &mut Cx<'_>) {
        if let Some(file) = self.file.take() {
            cx.file_end(file);
        }
    }
}
