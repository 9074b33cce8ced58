//! Messages: headers and bodies of one side, moved by lines and plain bytes (RFC 9112, RFC 2046).
//! What they mean for the connection is [`super::Http`]'s, what is logged [`Transactions`]'s.
//!
//! Longer than 500 lines: one state machine, whose states read best side by side.

use tyto_core::net::Side;

use super::super::Cx;
use super::super::content_line::{ContentLine, Eol};
use super::Dialog;
use super::entity::{Body, Chunks, Coding, Entity, Media, Transfer};
use super::header::{self, Header};
use super::inflate::Inflate;
use super::transactions::Transactions;

/// Entities inside of entities (Zeek: `MIME::max_depth`).
const DEPTH_MAX: usize = 100;
/// Bytes of a folded header that are kept (Zeek: `MIME::max_header_bytes`).
const HEADER_BYTES_MAX: usize = 65_536;
/// Plain delivery until the connection ends.
const UNTIL_END: u64 = i64::MAX as u64;

/// The message of one side that is being read.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// The entity, and the entities inside of it, each in the one before.
    entities: Vec<Entity>,
    /// The header whose line may go on; kept from message to message for its memory.
    header: Vec<u8>,
    header_lines: u32,
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

/// What a line of a multipart body is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Boundary {
    No,
    Next,
    Closing,
}

impl Message {
    /// Begins a message behind its first line. True if one was not over yet.
    pub(super) fn begin(&mut self, body: Body, env: &mut Env<'_, '_>) -> bool {
        let was_open = !self.entities.is_empty() && !self.is_over;
        self.entities.clear();
        self.entities.push(Entity::new(body));
        self.header_lines = 0;
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
        } else if entity.has_parts() {
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
                entity.expected_bytes = header::number(bytes, 16).unwrap_or_else(|| {
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
        if entity.media == Media::Multipart {
            let boundary = entity.boundary_of(bytes);
            if boundary != Boundary::No {
                self.end_child(at, env);
                if boundary == Boundary::Closing {
                    self.end_entity(at, env);
                } else if self.entities.get(at).is_some_and(|entity| !entity.is_over) {
                    self.begin_child(at, env);
                }
                return;
            }
        }
        let Some(entity) = self.entities.get(at) else { return };
        if entity.has_parts() {
            // What stands before the first or behind the last boundary belongs to nothing.
            self.deliver_to(at + 1, bytes, is_line, env);
        } else {
            self.decoded_body(at, bytes, is_line, env);
        }
    }

    /// Resolves the transfer encoding of a part, line by line.
    fn decoded_body(&mut self, at: usize, bytes: &[u8], is_line: bool, env: &mut Env<'_, '_>) {
        let is_part = at > 0
            && self.entities.get(at - 1).is_some_and(|parent| parent.media == Media::Multipart);
        let Some(entity) = self.entities.get_mut(at) else { return };
        match entity.transfer {
            Transfer::Plain => {
                if std::mem::take(&mut entity.owes_crlf) {
                    self.file_bytes(at, b"\r\n", env);
                }
                self.file_bytes(at, bytes, env);
                if !is_line {
                    return;
                }
                if is_part && let Some(entity) = self.entities.get_mut(at) {
                    // The last line end belongs to the boundary behind it.
                    entity.owes_crlf = true;
                } else {
                    self.file_bytes(at, b"\r\n", env);
                }
            }
            Transfer::QuotedPrintable => {
                let decoded = quoted_printable(bytes);
                self.file_bytes(at, &decoded, env);
            }
            Transfer::Base64 => {
                let mut decoded = Vec::with_capacity(bytes.len());
                let complaint = entity.base64.feed(bytes, &mut decoded);
                if let Some(complaint) = complaint {
                    env.cx.weird_without_source("base64_illegal_encoding", &complaint);
                }
                self.file_bytes(at, &decoded, env);
            }
        }
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
            self.end_base64(at, env);
        }
        Transactions::with(env.cx, |log, _| log.end_entity());
        self.current = at.checked_sub(1);
        let is_part = self
            .current
            .and_then(|parent| self.entities.get(parent))
            .is_some_and(|parent| parent.media == Media::Multipart);
        if is_part {
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

    fn end_base64(&mut self, at: usize, env: &mut Env<'_, '_>) {
        let Some(entity) = self.entities.get_mut(at) else { return };
        if entity.transfer != Transfer::Base64 || entity.has_parts() {
            return;
        }
        let mut decoded = Vec::new();
        if let Some(complaint) = entity.base64.end(&mut decoded) {
            env.cx.weird_without_source("base64_illegal_encoding", &complaint);
        }
        self.file_bytes(at, &decoded, env);
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
                if self.entities.get(at).is_some_and(|e| !e.is_over && e.media == Media::Message) {
                    self.begin_child(at, env);
                }
            }
            Some(&first) if header::is_blank(first) => self.folded_line(at, line, env),
            Some(_) => self.new_header(at, line, env),
        }
    }

    fn new_header(&mut self, at: usize, line: &[u8], env: &mut Env<'_, '_>) {
        self.end_header(at, env);
        if !line.is_empty() {
            self.header.clear();
            self.header.extend_from_slice(line);
            self.header_lines = 1;
        }
    }

    fn folded_line(&mut self, at: usize, line: &[u8], env: &mut Env<'_, '_>) {
        if self.header_lines == 0 {
            self.new_header(at, header::skip_blanks(line), env);
        } else if self.header.len() >= HEADER_BYTES_MAX {
            env.cx.weird_with("exceeded_mime_max_header_bytes", &self.header.len().to_string());
        } else {
            self.header.extend_from_slice(line);
            self.header_lines += 1;
        }
    }

    /// The header that was being read is complete.
    fn end_header(&mut self, at: usize, env: &mut Env<'_, '_>) {
        let lines = std::mem::take(&mut self.header_lines);
        if lines == 0 {
            return;
        }
        let line = std::mem::take(&mut self.header);
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
        self.header = line;
    }

    /// The headers are complete: says how the body will come.
    fn end_headers(&mut self, at: usize, env: &mut Env<'_, '_>) {
        let is_part = at > 0
            && self.entities.get(at - 1).is_some_and(|parent| parent.media == Media::Multipart);
        if is_part {
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
        if entity.has_parts() {
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
        let Some(mut file) = entity.open_file(env) else { return };
        // What the headers say is the compressed length.
        let owes_total =
            std::mem::take(&mut entity.owes_total) && entity.coding == Coding::Identity;
        let total = match entity.range_offset {
            Some(_) => entity.instance_length,
            None => entity.content_length,
        };
        if owes_total && let Some(total) = total.filter(|total| *total > 0) {
            env.cx.file_total(file.file, total);
        }
        match &mut entity.range_offset {
            Some(offset) => {
                env.cx.file_bytes_at(file.file, *offset, bytes);
                *offset += bytes.len() as u64;
            }
            None => env.cx.file_bytes(file.file, bytes),
        }
        let mime_type = env.cx.file_mime(file.file);
        Transactions::with(env.cx, |log, _| log.set_type(&mut file, mime_type));
        entity.file = Some(file);
        // Of a file that is whole nothing more can come (Zeek: `Manager::DataIn`).
        if !env.cx.file_is_open(file.file) {
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
    /// The file of the body: begun with its first bytes, and again if it ended meanwhile.
    fn open_file(&mut self, env: &mut Env<'_, '_>) -> Option<super::transactions::BodyFile> {
        let is_open = self.file.is_some_and(|file| env.cx.file_is_open(file.file));
        if !is_open {
            let side = env.side;
            // Given up meanwhile, which told its type.
            if let Some(mut file) = self.file {
                let mime_type = env.cx.file_given_up(file.file);
                Transactions::with(env.cx, |log, _| log.set_type(&mut file, mime_type));
            }
            let handle = &mut self.file_handle;
            self.file = Transactions::with(env.cx, |log, cx| log.open_file(side, handle, cx));
        }
        self.file
    }

    fn boundary_of(&self, line: &[u8]) -> Boundary {
        let rest = line.strip_prefix(b"--").and_then(|rest| {
            let boundary = self.boundary.as_deref()?;
            rest.strip_prefix(boundary)
        });
        match rest {
            None => Boundary::No,
            Some([b'-', b'-', ..]) => Boundary::Closing,
            Some(_) => Boundary::Next,
        }
    }
}

/// Quoted-printable (RFC 2045 section 6.7), one line.
fn quoted_printable(line: &[u8]) -> Vec<u8> {
    let blanks = line.iter().rev().take_while(|c| header::is_blank(**c)).count();
    let content = line.get(..line.len() - blanks).unwrap_or_default();
    let hex = |c: u8| char::from(c).to_digit(16);
    let mut decoded = Vec::with_capacity(line.len() + 2);
    let mut rest = content;
    while let [c, behind @ ..] = rest {
        rest = behind;
        match (c, behind) {
            // A line end that is none.
            (b'=', []) => return decoded,
            (b'=', &[high, low, ref behind @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                let byte = hex(high).unwrap_or_default() << 4 | hex(low).unwrap_or_default();
                decoded.push(u8::try_from(byte).unwrap_or_default());
                rest = behind;
            }
            _ => decoded.push(*c),
        }
    }
    decoded.extend_from_slice(b"\r\n");
    decoded
}

/// Lengths of slices fit.
fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}
