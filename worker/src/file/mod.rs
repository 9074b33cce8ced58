//! Files that protocols carry: found by the handle that their protocol gives them, over several
//! connections where it says so; sniffed, hashed, logged to files.log when they end.

use hashbrown::HashMap;
use tyto_core::net::Side;
use tyto_core::uid::Fuid;

use crate::analyzer::Cx;
use crate::flow::hash::KeyedHasher;

/// Files that are followed at a time. Further ones are not looked at, and counted.
const FILES_MAX: usize = 65_536;

/// A file while it is followed, for the analyzer that feeds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Its id in the logs.
    pub fuid: Fuid,
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

/// The files that the worker follows.
#[derive(Debug)]
pub struct Files {
    open: HashMap<Vec<u8>, Fuid, KeyedHasher>,
    refused: u64,
}

impl Files {
    /// None yet; handles are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self { open: HashMap::with_hasher(hasher), refused: 0 }
    }

    /// Files that were not followed at the limit.
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

impl Cx<'_> {
    /// The file called `handle`, which `side` sends; begun if it is new. The same handle is the
    /// same file, also on other connections: protocols put into it what tells their files apart
    /// (Zeek: `get_file_handle`). `about` counts when the file is new.
    pub fn file_open(&mut self, side: Side, handle: &[u8], about: &FileAbout) -> FileRef {
        let _ = (side, about);
        if let Some(&fuid) = self.shared.files.open.get(handle) {
            return FileRef { fuid };
        }
        let fuid = self.shared.next_fuid();
        if self.shared.files.open.len() < FILES_MAX {
            self.shared.files.open.insert(handle.to_vec(), fuid);
        } else {
            self.shared.files.refused += 1;
        }
        FileRef { fuid }
    }

    /// The next bytes of the file.
    pub fn file_bytes(&mut self, _file: FileRef, _bytes: &[u8]) {}

    /// Bytes that stand at `offset`.
    pub fn file_bytes_at(&mut self, _file: FileRef, _offset: u64, _bytes: &[u8]) {}

    /// The next `missed_bytes` of the file will not come.
    pub fn file_gap(&mut self, _file: FileRef, _missed_bytes: u64) {}

    /// The file's length, once it is known.
    pub fn file_total(&mut self, _file: FileRef, _total_bytes: u64) {}

    /// The file's name, once it is known.
    pub fn file_name(&mut self, _file: FileRef, _name: &str) {}

    /// Type of the file by its first bytes, once they were enough to tell.
    pub fn file_mime(&self, _file: FileRef) -> Option<&'static str> {
        None
    }

    /// The file is over: its row is written.
    pub fn file_end(&mut self, _file: FileRef) {}
}
