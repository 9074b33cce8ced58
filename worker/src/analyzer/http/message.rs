//! Messages: headers and bodies of one side, moved by lines and plain bytes (RFC 9112, RFC 2046).
//! What they mean for the connection is [`super::Http`]'s, what is logged [`Transactions`]'s.
//!
//! Longer than 500 lines: one state machine, whose states read best side by side.

use tyto_core::net::Side;

use super::super::Cx;
use super::super::content_line::{ContentLine, Eol};
use super::super::mime::DEPTH_MAX;
use super::super::mime::decode::Line;
use super::super::mime::format::{Boundary, Field};
use super::super::mime::header::Header;
use super::Dialog;
use super::entity::{Body, Chunks, Coding, Entity};
use super::inflate::Inflate;
use super::number::number;
use super::transactions::{BodyFile, Transactions};
use crate::file::FileFed;

/// Plain delivery until the connection ends.
const UNTIL_END: u64 = i64::MAX as u64;

/// The message of one side that is being read.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// The entity, and the entities inside of it, each in the one before.
    entities: Vec<Entity>,
    /// The header whose line may go on; kept from message to message for its memory.
    field: Field,
    /// Memory for content whose encoding is resolved.
    decoded: Vec<u8>,
    /// Which entity is being read.
    current: Option<usize>,
    body_bytes: u64,
    is_over: bool,
}

/// What a message works with while it is called.
pub(super) struct Env<'e, 'c> {
    pub(super) side: Side,
    pub(super) dialog: &'e mut Dialog,
    pub(super) lines: &'e mut ContentLine,
    pub(super) cx: &'e mut Cx<'c>,
}

impl Message {
    /// Begins a message behind its first line. True if one was not over yet.
    pub(super) fn begin(&mut self, body: Body, env: &mut Env<'_, '_>) -> bool {
        let was_open = !self.entities.is_empty() && !self.is_over;
        self.entities.clear();
        // Few messages have parts.
        self.entities.reserve_exact(1);
        self.entities.push(Entity::new(body));
        self.field.begin(&[]);
        self.body_bytes = 0;
        self.is_over = false;
        self.begin_entity(0, env);
        was_open
    }

    /// Whether a message was begun.
    pub(super) const fn exists(&self) -> bool {
        !self.entities.is_empty()
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Forgets the message.
    pub(super) fn clear(&mut self) {
        self.entities.clear();
        self.current = None;
    }

    /// The next line, or plain bytes, of the message.
    pub(super) fn deliver(&mut self, bytes: &[u8], is_line: bool, env: &mut Env<'_, '_>) {
        self.deliver_to(0, bytes, is_line, env);
    }

    /// `missed_bytes` will not come. True when they lie within a body, so that we know how it
    /// goes on behind them.
    pub(super) fn gap(&mut self, missed_bytes: u64, env: &mut Env<'_, '_>) -> bool {
        let at = self.current.unwrap_or_default();
        let Some(entity) = self.entities.get(at) else { return false };
        if entity.body_bytes == 0 {
            return false;
        }
        self.file_gap(at, missed_bytes, env);
        let Some(entity) = self.entities.get_mut(at) else { return false };
        let missed = i64::try_from(missed_bytes).unwrap_or(i64::MAX);
        let is_within = match entity.chunks {
            Chunks::No => entity.content_length.is_some(),
            chunks => chunks == Chunks::Bytes,
        } && entity.expected_bytes >= missed;
        if !is_within {
            return false;
        }
        entity.body_bytes += missed_bytes;
        entity.expected_bytes -= missed;
        env.lines.deliver_plain(entity.expected_bytes.unsigned_abs());
        if entity.expected_bytes == 0 {
            if entity.is_chunked() {
                entity.chunks = Chunks::End;
            } else {
                self.end_entity(at, env);
            }
        }
        true
    }

    /// The message is over, also when it has not all that it announced.
    pub(super) fn end(&mut self, env: &mut Env<'_, '_>) {
        if self.is_over || self.entities.is_empty() {
            return;
        }
        self.is_over = true;
        self.end_entity(0, env);
        self.end_file(0, env);
        let (side, bytes) = (env.side, self.body_bytes);
        Transactions::with(env.cx, |log, cx| log.message_done(side, bytes, cx));
    }

    fn deliver_to(&mut self, at: usize, bytes: &[u8], is_line: bool, env: &mut Env<'_, '_>) {
        let Some(entity) = self.entities.get_mut(at) else { return };
        if entity.is_over {
            return;
        }
        if entity.in_header {
            if !is_line {
                env.cx.weird("http_no_crlf_in_header_list");
            }
            self.header_line(at, bytes, env);
        } else if entity.format.has_entities() {
            self.body(at, bytes, is_line, env);
            self.count_top_level(at, bytes.len(), is_line, env);
        } else if entity.is_chunked() {
            self.chunked(at, bytes, env);
        } else if entity.content_length.is_some() {
            self.body(at, bytes, false, env);
            let Some(entity) = self.entities.get_mut(at) else { return };
            entity.expected_bytes -= signed(bytes.len());
            if entity.expected_bytes <= 0 {
                env.lines.deliver_plain(0);
                env.lines.set_delivery_bytes(None);
                self.end_entity(at, env);
            }
        } else {
            self.body(at, bytes, is_line, env);
        }
    }

    /// The parts of a message end with its announced length, whatever they say.
    fn count_top_level(&mut self, at: usize, len: usize, is_line: bool, env: &mut Env<'_, '_>) {
        let Some(entity) = self.entities.get_mut(at) else { return };
        if at != 0 || entity.content_length.is_none_or(|length| length == 0) {
            return;
        }
        entity.expected_bytes -= signed(len) + if is_line { 2 } else { 0 };
        if entity.expected_bytes <= 0 {
            env.lines.deliver_plain(0);
            self.end_entity(at, env);
        }
    }

    fn chunked(&mut self, at: usize, bytes: &[u8], env: &mut Env<'_, '_>) {
        let Some(entity) = self.entities.get_mut(at) else { return };
        match entity.chunks {
            Chunks::Size => {
                entity.expected_bytes = number(bytes, 16).unwrap_or_else(|| {
                    env.cx.weird_with("HTTP_bad_chunk_size", &String::from_utf8_lossy(bytes));
                    0
                });
                if entity.expected_bytes > 0 {
                    entity.chunks = Chunks::Bytes;
                    env.lines.deliver_plain(entity.expected_bytes.unsigned_abs());
                } else {
                    entity.in_header = true;
                    entity.chunks = Chunks::Trailer;
                }
            }
            Chunks::Bytes => {
                entity.expected_bytes -= signed(bytes.len());
                if entity.expected_bytes <= 0 {
                    env.lines.deliver_plain(0);
                    entity.chunks = Chunks::End;
                }
                self.body(at, bytes, false, env);
            }
            Chunks::End => entity.chunks = Chunks::Size,
            Chunks::No | Chunks::Announced | Chunks::Trailer | Chunks::Over => {}
        }
    }

    fn body(&mut self, at: usize, bytes: &[u8], is_line: bool, env: &mut Env<'_, '_>) {
        let Some(entity) = self.entities.get_mut(at) else { return };
        if entity.coding == Coding::Identity {
            return self.clear_body(at, bytes, is_line, env);
        }
        if bytes.is_empty() {
            return;
        }
        let inflate = entity.inflate.take();
        let mut inflate = inflate.unwrap_or_else(|| Box::new(Inflate::new(bytes)));
        let fed = inflate.feed(bytes, |clear| {
            if !clear.is_empty() {
                self.clear_body(at, clear, false, env);
            }
        });
        if fed.is_err() {
            env.cx.weird_of("ZIP", "inflate_failed", "");
        }
        if let Some(entity) = self.entities.get_mut(at).filter(|entity| !entity.is_over) {
            entity.inflate = Some(inflate);
        }
    }

    fn clear_body(&mut self, at: usize, bytes: &[u8], is_line: bool, env: &mut Env<'_, '_>) {
        let Some(entity) = self.entities.get_mut(at) else { return };
        entity.body_bytes += bytes.len() as u64 + if is_line { 2 } else { 0 };
        if let Some(boundary) = entity.format.boundary_in(bytes) {
            self.end_child(at, env);
            if boundary == Boundary::Closing {
                self.end_entity(at, env);
            } else if self.entities.get(at).is_some_and(|entity| !entity.is_over) {
                self.begin_child(at, env);
            }
            return;
        }
        let Some(entity) = self.entities.get(at) else { return };
        if entity.format.has_entities() {
            // What stands before the first or behind the last boundary belongs to nothing.
            self.deliver_to(at + 1, bytes, is_line, env);
        } else {
            self.decoded_body(at, bytes, is_line, env);
        }
    }

    /// Resolves the transfer encoding of a part, line by line.
    fn decoded_body(&mut self, at: usize, bytes: &[u8], is_line: bool, env: &mut Env<'_, '_>) {
        let is_part = self.is_part(at);
        let Some(entity) = self.entities.get_mut(at) else { return };
        if !is_line && entity.content.is_as_it_comes() {
            return self.file_bytes(at, bytes, env);
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        entity.content.decode(Line { bytes, has_end: is_line }, is_part, &mut decoded, env.cx);
        self.file_bytes(at, &decoded, env);
        self.decoded = decoded;
    }

    /// Whether the entity is one of those between boundaries.
    fn is_part(&self, at: usize) -> bool {
        let parent = at.checked_sub(1).and_then(|parent| self.entities.get(parent));
        parent.is_some_and(|parent| parent.format.is_multipart())
    }

    fn begin_entity(&mut self, at: usize, env: &mut Env<'_, '_>) {
        self.current = Some(at);
        let side = env.side;
        Transactions::with(env.cx, |log, cx| log.begin_entity(side, cx));
    }

    fn begin_child(&mut self, at: usize, env: &mut Env<'_, '_>) {
        if at >= DEPTH_MAX {
            env.cx.weird_with("exceeded_mime_max_depth", &at.to_string());
            return;
        }
        let Some(child) = self.entities.get(at).map(Entity::child) else { return };
        self.entities.truncate(at + 1);
        self.entities.push(child);
        self.begin_entity(at + 1, env);
    }

    fn end_child(&mut self, at: usize, env: &mut Env<'_, '_>) {
        if self.entities.len() > at + 1 {
            self.end_entity(at + 1, env);
            self.entities.truncate(at + 1);
        }
    }

    /// The entity is over: by its length, its boundary, or the end of the connection.
    fn end_entity(&mut self, at: usize, env: &mut Env<'_, '_>) {
        let Some(entity) = self.entities.get_mut(at) else { return };
        entity.inflate = None;
        entity.coding = Coding::Identity;
        if std::mem::replace(&mut entity.is_over, true) {
            return;
        }
        if std::mem::take(&mut entity.in_header) {
            self.end_header(at, env);
            self.end_headers(at, env);
        } else {
            self.end_child(at, env);
            self.end_content(at, env);
        }
        Transactions::with(env.cx, |log, _| log.end_entity());
        self.current = at.checked_sub(1);
        if self.is_part(at) {
            env.lines.set_quiet(false);
            env.lines.set_eol(Eol::Either);
        }
        if at == 0 {
            self.body_bytes += self.entities.first().map_or(0, |entity| entity.body_bytes);
            self.end(env);
        } else {
            self.end_file(at, env);
        }
    }

    fn end_content(&mut self, at: usize, env: &mut Env<'_, '_>) {
        let Some(entity) = self.entities.get_mut(at) else { return };
        if entity.format.has_entities() {
            return;
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        entity.content.finish(&mut decoded, env.cx);
        self.file_bytes(at, &decoded, env);
        self.decoded = decoded;
    }
}

/// Headers.
impl Message {
    fn header_line(&mut self, at: usize, line: &[u8], env: &mut Env<'_, '_>) {
        match line.first() {
            None | Some(0) => {
                self.end_header(at, env);
                if let Some(entity) = self.entities.get_mut(at) {
                    entity.in_header = false;
                }
                self.end_headers(at, env);
                // The trailer of a chunked body ended the entity.
                if self.entities.get(at).is_some_and(|e| !e.is_over && e.format.is_message()) {
                    self.begin_child(at, env);
                }
            }
            Some(_) if self.field.goes_on_with(line, env.cx) => {}
            Some(_) => {
                self.end_header(at, env);
                self.field.begin(line);
            }
        }
    }

    /// The header that was being read is complete.
    fn end_header(&mut self, at: usize, env: &mut Env<'_, '_>) {
        let Some((line, lines)) = self.field.take() else { return };
        if let Some(header) = Header::parse(&line) {
            if at == 0 && lines > 1 {
                let name = String::from_utf8_lossy(header.name);
                env.cx.weird_with("HTTP_obsolete_line_folding", &name);
            }
            if let Some(entity) = self.entities.get_mut(at) {
                entity.header(at, &header, env);
            }
            env.dialog.header(env.side, &header);
            let side = env.side;
            Transactions::with(env.cx, |log, cx| log.header(side, &header, cx));
        }
        self.field.keep(line);
    }

    /// The headers are complete: says how the body will come.
    fn end_headers(&mut self, at: usize, env: &mut Env<'_, '_>) {
        if self.is_part(at) {
            // A single CR or LF in a part is content: a line's CR LF is put back, this is not.
            env.lines.set_quiet(true);
            env.lines.set_eol(Eol::CrLfOnly);
        }
        let Some(entity) = self.entities.get_mut(at) else { return };
        if let Some(length) = entity.content_length {
            env.lines.set_delivery_bytes(Some(length));
        }
        if entity.chunks == Chunks::Trailer {
            entity.chunks = Chunks::Over;
            return self.end_entity(at, env);
        }
        if entity.body == Body::No {
            return self.end_entity(at, env);
        }
        if entity.format.has_entities() {
            if entity.is_chunked() {
                env.cx.weird("HTTP_chunked_transfer_for_multipart_message");
            }
            match entity.content_length {
                Some(0) if at == 0 => self.end_entity(at, env),
                Some(length) if at == 0 => entity.expected_bytes = length.cast_signed(),
                _ => {}
            }
        } else if entity.is_chunked() {
            entity.chunks = Chunks::Size;
        } else if let Some(length) = entity.content_length {
            if length == 0 {
                return self.end_entity(at, env);
            }
            entity.expected_bytes = length.cast_signed();
            env.lines.deliver_plain(length);
        } else if env.dialog.reply_closes || entity.coding == Coding::Compressed {
            env.lines.deliver_plain(UNTIL_END);
        } else if entity.body != Body::Yes {
            self.end_entity(at, env);
        }
    }
}

/// Files.
impl Message {
    fn file_bytes(&mut self, at: usize, bytes: &[u8], env: &mut Env<'_, '_>) {
        if bytes.is_empty() {
            return;
        }
        let Some(entity) = self.entities.get_mut(at) else { return };
        let fed = entity.feed_file(bytes, env).or_else(|| {
            entity.begin_file(env);
            entity.feed_file(bytes, env)
        });
        let Some(file) = &mut entity.file else { return };
        if let Some(offset) = &mut entity.range_offset {
            *offset += bytes.len() as u64;
        }
        if let Some(mime_type) = fed.and_then(|fed| fed.mime_type) {
            Transactions::with(env.cx, |log, _| log.set_type(file, Some(mime_type)));
        }
        // Of a file that is whole nothing more can come (Zeek: `Manager::DataIn`).
        if fed.is_none_or(|fed| fed.is_over) {
            entity.file_handle = None;
        }
    }

    fn file_gap(&mut self, at: usize, missed_bytes: u64, env: &mut Env<'_, '_>) {
        let Some(entity) = self.entities.get_mut(at) else { return };
        let Some(file) = entity.open_file(env) else { return };
        env.cx.file_gap(file.file, missed_bytes);
        if let Some(offset) = &mut entity.range_offset {
            *offset += missed_bytes;
        }
    }

    /// The entity's file is over, unless it is a range: others may bring the rest of it.
    fn end_file(&mut self, at: usize, env: &mut Env<'_, '_>) {
        let file = self.entities.get_mut(at).and_then(|entity| entity.file.take());
        let Some(mut file) = file else { return };
        let is_range = env.side == Side::Resp && env.dialog.reply_code == 206;
        let mime_type = match env.cx.file_is_open(file.file) {
            true if is_range => return,
            true => env.cx.file_end(file.file),
            false => env.cx.file_given_up(file.file),
        };
        Transactions::with(env.cx, |log, _| log.set_type(&mut file, mime_type));
    }
}

impl Entity {
    /// Gives the file of the body its next bytes. None when it did not begin, or is followed no
    /// more.
    fn feed_file(&mut self, bytes: &[u8], env: &mut Env<'_, '_>) -> Option<FileFed> {
        let file = self.file?.file;
        // What the headers say is the compressed length.
        if self.owes_total && self.coding == Coding::Identity {
            let total = match self.range_offset {
                Some(_) => self.instance_length,
                None => self.content_length,
            };
            if let Some(total) = total.filter(|total| *total > 0) {
                let told = env.cx.file_total(file, total)?;
                self.owes_total = false;
                if told.is_over {
                    return Some(told);
                }
            }
        }
        self.owes_total = false;
        match self.range_offset {
            Some(offset) => env.cx.file_bytes_at(file, offset, bytes),
            None => env.cx.file_bytes(file, bytes),
        }
    }

    /// The file of the body that is there, or begins.
    fn open_file(&mut self, env: &mut Env<'_, '_>) -> Option<BodyFile> {
        let is_open = self.file.is_some_and(|file| env.cx.file_is_open(file.file));
        if !is_open {
            self.begin_file(env);
        }
        self.file
    }

    /// The body's file begins with its first bytes, and again if it ended meanwhile.
    fn begin_file(&mut self, env: &mut Env<'_, '_>) {
        // Given up meanwhile, which told its type.
        if let Some(mut file) = self.file {
            let mime_type = env.cx.file_given_up(file.file);
            Transactions::with(env.cx, |log, _| log.set_type(&mut file, mime_type));
        }
        let (side, handle) = (env.side, &mut self.file_handle);
        self.file = Transactions::with(env.cx, |log, cx| log.open_file(side, handle, cx));
    }
}

/// Lengths of slices fit.
fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}
