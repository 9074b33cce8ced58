//! A file whose next bytes the kernel is asked for before their turn comes: while what is here is
//! analysed, the disk brings what follows. Of a file that lies in the page cache it costs a look.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{Advice, fadvise};

/// Bytes that are asked for at a time. The kernel's own read-ahead, 128 KiB unless told otherwise,
/// is analysed in a fraction of the time in which a disk brings the next.
const AHEAD_BYTES: u64 = 4 << 20;

/// The file.
pub(super) struct FileAhead {
    file: File,
    /// Bytes that were read.
    read: u64,
    /// Where what was asked for ends.
    asked: u64,
}

impl FileAhead {
    /// `file` from its begin.
    pub(super) const fn new(file: File) -> Self {
        Self { file, read: 0, asked: 0 }
    }
}

impl Read for FileAhead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buf)?;
        self.read += read as u64;
        if read > 0 && self.read + AHEAD_BYTES > self.asked {
            let from = self.asked.max(self.read);
            // Pipes and devices do not know it, and are read all the same.
            let _unknown = fadvise(&self.file, from, AHEAD_BYTES.try_into().ok(), Advice::WillNeed);
            self.asked = from + AHEAD_BYTES;
        }
        Ok(read)
    }
}
