//! Files that protocols carry: found by the handle that their protocol gives them, over several
//! connections where it says so; sniffed, hashed, logged to files.log when they end.
//!
//! ```text
//! analyzer ─ Cx::file_* ─▶ Files ─▶ File: order ─▶ type, hashes, analyses ─▶ rows
//! ```

mod analyzers;
mod extract;
mod followed;
pub(crate) mod handle;
mod hashes;
pub mod log;
pub(crate) mod magic;
mod magic_table;
mod pattern;
mod pe;
mod reassembly;
mod table;

use tyto_core::net::Side;
use tyto_core::time::Ts;
use tyto_core::uid::Fuid;

use crate::analyzer::Cx;
use crate::analyzer::state::Shared;
use crate::output::Output;

pub use analyzers::{FILE_SPECS, FileAnalyzer, FileCx, FileSpec};
pub use followed::{File, FileConn};
pub use table::{FileStats, Files};

/// A file while it is followed, for the analyzer that feeds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Its id in the logs.
    pub fuid: Fuid,
}

/// What became of a file with the bytes that it was given.
#[derive(Clone, Copy, Debug)]
pub struct FileFed {
    /// Its type by its first bytes, once they were enough to tell.
    pub mime_type: Option<&'static str>,
    /// These bytes told the type.
    pub is_type_new: bool,
    /// Its last byte was among these: more that comes is not of this file.
    pub is_over: bool,
}

/// What the protocol says of a file before its first byte.
#[derive(Clone, Debug, Default)]
pub struct FileAbout {
    /// How deep in the session it is: of HTTP the number of the request.
    pub depth: u64,
    /// The file it is part of.
    pub parent: Option<Fuid>,
    /// Its name.
    pub filename: Option<String>,
    /// Its type, where the protocol leaves no choice (certificates).
    pub mime_type: Option<&'static str>,
    /// Its length in bytes.
    pub total_bytes: Option<u64>,
}

/// What files are followed with.
#[derive(Debug)]
pub(crate) struct FileIo<'a> {
    pub(crate) now: Ts,
    pub(crate) shared: &'a mut Shared,
    pub(crate) out: &'a mut Output,
}

impl Cx<'_> {
    /// The file called `handle`, which `side` sends; begun if it is new. The same handle is the
    /// same file, also on other connections: protocols put into it what tells their files apart
    /// (Zeek: `get_file_handle`), and it always gives the same id. `about` counts when the file
    /// is new. Who feeds a file by offsets (SMB, ranges) calls this before each piece: a file
    /// whose last byte came is over, and one that is read again is a new one.
    pub fn file_open(&mut self, side: Side, handle: &[u8], about: &FileAbout) -> FileRef {
        let conn = FileConn { uid: self.uid(), id: self.id() };
        let source = self.analyzer_name();
        let fuid = self.shared.files.fuid(handle);
        let Some(mut file) = self.shared.files.take_or_begin(fuid, side, about, self.now) else {
            return FileRef { fuid };
        };
        if file.source.is_none() {
            file.source = source;
            self.shared.files.begin_extraction(&mut file);
        }
        if file.carried_by(conn) {
            // The side is that of the first connection, as in Zeek.
            let sender = match file.side {
                Side::Orig => self.conn.orig.addr,
                Side::Resp => self.conn.resp.addr,
            };
            file.local_orig = self.shared.site.is_local(sender);
        }
        self.shared.files.put_back(file);
        FileRef { fuid }
    }

    /// The next bytes of the file. None when it is not followed, or no more.
    pub fn file_bytes(&mut self, file: FileRef, bytes: &[u8]) -> Option<FileFed> {
        self.with_file(file, |file, io| file.chunk(file.offset, bytes, io))
    }

    /// Bytes that stand at `offset`. None when the file is not followed, or no more.
    pub fn file_bytes_at(&mut self, file: FileRef, offset: u64, bytes: &[u8]) -> Option<FileFed> {
        self.with_file(file, |file, io| file.chunk(offset, bytes, io))
    }

    /// The next `missed_bytes` of the file will not come.
    pub fn file_gap(&mut self, file: FileRef, missed_bytes: u64) {
        self.with_file(file, |file, io| file.gap(missed_bytes, io));
    }

    /// The file's length, once it is known. None when it is not followed, or no more.
    pub fn file_total(&mut self, file: FileRef, total_bytes: u64) -> Option<FileFed> {
        self.with_file(file, |file, _| file.total_bytes = Some(total_bytes))
    }

    /// The file's name, once it is known.
    pub fn file_name(&mut self, file: FileRef, name: &str) {
        if let Some(file) = self.shared.files.file_mut(file.fuid) {
            file.filename = Some(name.to_owned());
        }
    }

    /// Type of a file that is followed, once its first bytes were enough to tell.
    pub fn file_mime(&self, file: FileRef) -> Option<&'static str> {
        self.shared.files.file(file.fuid)?.mime_type
    }

    /// Type of a file that was given up because nothing came for long. Asked once.
    pub fn file_given_up(&mut self, file: FileRef) -> Option<&'static str> {
        self.shared.files.take_given_up(file.fuid)
    }

    /// Whether the file is followed: false once it is over.
    pub fn file_is_open(&self, file: FileRef) -> bool {
        self.shared.files.file(file.fuid).is_some()
    }

    /// The file is over: its row is written. Gives its type.
    pub fn file_end(&mut self, file: FileRef) -> Option<&'static str> {
        let taken = self.shared.files.take(file.fuid)?;
        let mut io = FileIo { now: self.now, shared: &mut *self.shared, out: &mut *self.out };
        io.over(taken, false)
    }

    /// Calls `call` with the file; ends it when its last byte is there.
    fn with_file(
        &mut self,
        file: FileRef,
        call: impl FnOnce(&mut File, &mut FileIo<'_>),
    ) -> Option<FileFed> {
        let mut taken = self.shared.files.take(file.fuid)?;
        taken.last_active = self.now;
        let type_before = taken.mime_type;
        let mut io = FileIo { now: self.now, shared: &mut *self.shared, out: &mut *self.out };
        let waiting = taken.waiting_bytes();
        call(&mut taken, &mut io);
        if io.shared.files.waits_too_much(waiting, taken.waiting_bytes()) {
            taken.flush(&mut io);
            io.shared.files.waits_too_much(taken.waiting_bytes(), 0);
        }
        let is_over = taken.is_complete();
        let mime_type = if is_over {
            io.over(taken, false)
        } else {
            let mime_type = taken.mime_type;
            self.shared.files.put_back(taken);
            mime_type
        };
        let is_type_new = type_before.is_none() && mime_type.is_some();
        Some(FileFed { mime_type, is_type_new, is_over })
    }
}

impl FileIo<'_> {
    /// Ends files that were silent for too long; `now` has come.
    #[inline]
    pub(crate) fn expire(&mut self) {
        if self.shared.files.is_due(self.now) {
            self.end_silent();
        }
    }

    #[cold]
    fn end_silent(&mut self) {
        while let Some(file) = self.shared.files.take_silent(self.now) {
            let fuid = file.fuid;
            if let Some(mime_type) = self.over(file, true) {
                self.shared.files.gave_up(fuid, mime_type);
            }
        }
    }

    /// Ends all files: nothing more will come.
    pub(crate) fn finish(&mut self) {
        for fuid in self.shared.files.in_order() {
            if let Some(file) = self.shared.files.take(fuid) {
                self.over(file, true);
            }
        }
        self.shared.files.finish_extraction();
    }

    /// Writes the rows of a file that is over, and gives its type.
    fn over(&mut self, mut file: Box<File>, timedout: bool) -> Option<&'static str> {
        let waiting = file.waiting_bytes();
        file.end(self);
        self.shared.files.waits_too_much(waiting, 0);
        for row in file.rows(timedout) {
            self.out.row(&row);
        }
        self.shared.files.removed(&file);
        file.mime_type
    }
}
