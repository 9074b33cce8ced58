//! One file while it is followed: its bytes are put in order, sniffed, hashed, given to the
//! analyses of its type; at its end it has its rows.

use std::collections::BTreeSet;
use std::fmt;

use tyto_core::net::{ConnId, Side};
use tyto_core::time::Ts;
use tyto_core::uid::{Fuid, Uid};

use super::analyzers::{FILE_SPECS, FileAnalyzer, FileCx, FileSpec};
use super::extract::Extracted;
use super::hashes::Hashes;
use super::log::FilesLog;
use super::magic::{self, SNIFFED_BYTES};
use super::reassembly::Blocks;
use super::{FileAbout, FileIo};

/// Bytes of one file that wait for those in front of them (Zeek: `reassembly_buffer_size`); what
/// comes then is taken with a gap.
const WAITING_BYTES_MAX: usize = 524_288;
/// Connections of one file that have a row each.
const CONNS_MAX: usize = 256;

/// A connection that carried bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileConn {
    /// Its id.
    pub uid: Uid,
    /// Who with whom.
    pub id: ConnId,
}

/// A file that is followed.
#[derive(Debug)]
pub struct File {
    /// Its id.
    pub fuid: Fuid,
    /// The protocol that it comes from.
    pub source: Option<&'static str>,
    /// Who sends it.
    pub side: Side,
    /// The connections that carried it, in the order in which they did.
    pub conns: Vec<FileConn>,
    /// How deep it is in its source.
    pub depth: u64,
    /// The file that it is part of.
    pub parent: Option<Fuid>,
    /// Its name.
    pub filename: Option<String>,
    /// Its type, once it is known.
    pub mime_type: Option<&'static str>,
    /// Its length in bytes.
    pub total_bytes: Option<u64>,
    /// When it was first seen.
    pub begun: Ts,
    pub(super) last_active: Ts,
    pub(super) local_orig: Option<bool>,
    /// Serial number: the order in which files began.
    pub(super) serial: u64,
    /// When its silence is looked at next.
    pub(super) deadline: Ts,
    /// Where the next byte stands.
    pub(super) offset: u64,
    seen_bytes: u64,
    missing_bytes: u64,
    overflow_bytes: u64,
    blocks: Option<Blocks>,
    /// What came until there was enough to tell the type; none afterwards.
    begin: Option<Vec<u8>>,
    /// None once a byte is missing, and when files are not hashed.
    hashes: Option<Box<Hashes>>,
    is_hashed: bool,
    attached: Vec<Attached>,
    pub(super) extracted: Option<Extracted>,
    is_over: bool,
}

struct Attached {
    spec: &'static FileSpec,
    analyzer: Box<dyn FileAnalyzer>,
    wants_more: bool,
}

impl File {
    pub(super) fn new(fuid: Fuid, side: Side, about: &FileAbout, now: Ts, is_hashed: bool) -> Self {
        Self {
            fuid,
            source: None,
            side,
            conns: Vec::new(),
            depth: about.depth,
            parent: about.parent,
            filename: about.filename.clone(),
            mime_type: None,
            total_bytes: about.total_bytes,
            begun: now,
            last_active: now,
            local_orig: None,
            serial: 0,
            deadline: now,
            offset: 0,
            seen_bytes: 0,
            missing_bytes: 0,
            overflow_bytes: 0,
            blocks: None,
            begin: Some(Vec::new()),
            hashes: is_hashed.then(Box::default),
            is_hashed,
            attached: Vec::new(),
            extracted: None,
            is_over: false,
        }
    }

    /// Bytes that are kept because those in front of them are missing.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.blocks.as_ref().map_or(0, Blocks::bytes)
    }

    /// A connection carries it. True when it is a new one.
    pub(super) fn carried_by(&mut self, conn: FileConn) -> bool {
        let is_new = self.conns.len() < CONNS_MAX && self.conns.iter().all(|c| c.id != conn.id);
        if is_new {
            self.conns.push(conn);
        }
        is_new
    }

    /// All bytes are there.
    pub(super) fn is_complete(&self) -> bool {
        self.total_bytes.is_some_and(|total| self.offset >= total)
    }

    /// The protocol says of what type it is: nothing is sniffed.
    pub(super) fn set_mime_type(&mut self, mime_type: &'static str) {
        if self.begin.take().is_some() {
            self.has_type(mime_type);
        }
    }

    /// Bytes that stand at `offset`.
    pub(super) fn chunk(&mut self, offset: u64, bytes: &[u8], io: &mut FileIo<'_>) {
        let room = usize::try_from(u64::MAX - offset).unwrap_or(usize::MAX);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        if self.blocks.is_none() {
            if offset == self.offset {
                self.deliver(bytes, io);
                return;
            }
            self.blocks = Some(Blocks::default());
        }
        if self.waiting_bytes() > WAITING_BYTES_MAX {
            self.flush(io);
        }
        let from = self.offset;
        if let Some(blocks) = &mut self.blocks {
            blocks.insert(from, offset, bytes);
        }
        self.deliver_blocks(io);
    }

    /// Takes what waits, with gaps; what is missing counts as overflow.
    pub(super) fn flush(&mut self, io: &mut FileIo<'_>) {
        let missing = self.missing_bytes;
        if let Some(end) = self.blocks.as_ref().and_then(Blocks::end) {
            self.skip_to(end, io);
        }
        self.overflow_bytes += self.missing_bytes - missing;
    }

    /// The next `missed_bytes` will not come.
    pub(super) fn gap(&mut self, missed_bytes: u64, io: &mut FileIo<'_>) {
        self.skip_to(self.offset.saturating_add(missed_bytes), io);
        self.deliver_blocks(io);
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self, io: &mut FileIo<'_>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if let Some(end) = self.blocks.as_ref().and_then(Blocks::end) {
            self.skip_to(end, io);
        }
        self.begin_is_over(&[], io);
        self.each(io, |attached, cx| attached.analyzer.end(cx));
    }

    /// The rows of the file: one for each connection that carried it.
    pub(super) fn rows(&mut self, timedout: bool) -> Vec<FilesLog> {
        if self.attached.iter().any(|attached| attached.spec.hides_file) {
            return Vec::new();
        }
        let mut analyzers = BTreeSet::new();
        if self.is_hashed {
            analyzers.extend(["MD5", "SHA1", "SHA256"]);
        }
        analyzers.extend(self.attached.iter().map(|attached| attached.spec.name));
        let cut_off_at = self.extracted.as_ref().map(|extracted| extracted.cut_off_at);
        if cut_off_at.is_some() {
            analyzers.insert("EXTRACT");
        }
        let hashes = self.hashes.take().and_then(|hashes| hashes.finish());
        let [md5, sha1, sha256] = hashes.map_or([None, None, None], |hashes| hashes.map(Some));
        let row = FilesLog {
            ts: self.begun,
            fuid: self.fuid,
            uid: None,
            id: None,
            source: self.source,
            depth: self.depth,
            analyzers,
            mime_type: self.mime_type,
            filename: self.filename.take(),
            duration: self.last_active.since(self.begun),
            local_orig: self.local_orig,
            is_orig: (!self.conns.is_empty()).then_some(self.side == Side::Orig),
            seen_bytes: self.seen_bytes,
            total_bytes: self.total_bytes,
            missing_bytes: self.missing_bytes,
            overflow_bytes: self.overflow_bytes,
            timedout,
            parent_fuid: self.parent,
            md5,
            sha1,
            sha256,
            extracted: self.extracted.as_ref().map(|extracted| extracted.name.to_string()),
            extracted_cutoff: cut_off_at.map(|at| at.is_some()),
            extracted_size: cut_off_at.flatten(),
        };
        if self.conns.is_empty() {
            return vec![row];
        }
        let of_conn =
            |conn: &FileConn| FilesLog { uid: Some(conn.uid), id: Some(conn.id), ..row.clone() };
        self.conns.iter().map(of_conn).collect()
    }

    /// The next bytes in order.
    fn deliver(&mut self, bytes: &[u8], io: &mut FileIo<'_>) {
        if let Some(begin) = &mut self.begin {
            if begin.len() + bytes.len() < SNIFFED_BYTES {
                begin.extend_from_slice(bytes);
            } else {
                self.begin_is_over(bytes, io);
            }
        }
        if let Some(hashes) = &mut self.hashes {
            hashes.update(bytes);
        }
        if let Some(extracted) = &mut self.extracted {
            io.shared.files.extract(extracted, self.offset, bytes);
        }
        if self.begin.is_none() {
            self.each(io, |attached, cx| {
                attached.wants_more = attached.wants_more && attached.analyzer.deliver(bytes, cx);
            });
        }
        self.offset += bytes.len() as u64;
        self.seen_bytes += bytes.len() as u64;
    }

    /// There is enough, or there will be no more, to tell the type: what came before `next`.
    fn begin_is_over(&mut self, next: &[u8], io: &mut FileIo<'_>) {
        let Some(mut begin) = self.begin.take() else { return };
        if self.missing_bytes > 0 {
            return;
        }
        let came = begin.len();
        if came == 0 {
            if let Some(mime_type) = magic::mime_type(next) {
                self.has_type(mime_type);
            }
            return;
        }
        let wanted = next.get(..SNIFFED_BYTES.saturating_sub(came)).unwrap_or(next);
        begin.extend_from_slice(wanted);
        if let Some(mime_type) = magic::mime_type(&begin) {
            self.has_type(mime_type);
        }
        begin.truncate(came);
        self.each(io, |attached, cx| {
            attached.wants_more = attached.wants_more && attached.analyzer.deliver(&begin, cx);
        });
    }

    fn has_type(&mut self, mime_type: &'static str) {
        self.mime_type = Some(mime_type);
        for spec in FILE_SPECS.iter().filter(|spec| spec.mime_types.contains(&mime_type)) {
            let analyzer = (spec.begin)(self);
            self.attached.push(Attached { spec, analyzer, wants_more: true });
        }
    }

    /// Delivers the blocks for which nothing is missing any more.
    fn deliver_blocks(&mut self, io: &mut FileIo<'_>) {
        while let Some(blocks) = &mut self.blocks {
            let Some((_, block)) = blocks.take_first(self.offset.saturating_add(1)) else { return };
            self.deliver(&block, io);
        }
    }

    /// Delivers the blocks before `end`, and what is not there up to it as gaps.
    fn skip_to(&mut self, end: u64, io: &mut FileIo<'_>) {
        while let Some((offset, block)) =
            self.blocks.as_mut().and_then(|blocks| blocks.take_first(end))
        {
            self.missed(offset.saturating_sub(self.offset), io);
            self.deliver(&block, io);
        }
        self.missed(end.saturating_sub(self.offset), io);
    }

    fn missed(&mut self, missed_bytes: u64, io: &mut FileIo<'_>) {
        if missed_bytes == 0 {
            return;
        }
        self.begin_is_over(&[], io);
        self.hashes = None;
        self.each(io, |attached, cx| {
            attached.wants_more = attached.wants_more && attached.analyzer.gap(missed_bytes, cx);
        });
        self.offset += missed_bytes;
        self.missing_bytes += missed_bytes;
    }

    fn each(&mut self, io: &mut FileIo<'_>, mut call: impl FnMut(&mut Attached, &mut FileCx<'_>)) {
        if self.attached.is_empty() {
            return;
        }
        let mut attached = std::mem::take(&mut self.attached);
        let mut cx = FileCx { now: io.now, file: self, shared: &mut *io.shared, out: &mut *io.out };
        for one in &mut attached {
            call(one, &mut cx);
        }
        self.attached = attached;
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attached").field(&self.spec).field(&self.wants_more).finish()
    }
}
