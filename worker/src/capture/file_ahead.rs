//! A file whose next bytes the kernel is asked for before their turn comes: while what is here is
//! analysed, the disk brings what follows. Of a file that lies in the page cache nothing is asked.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};

use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

/// Bytes that are asked for at a time. The kernel's own read-ahead, 128 KiB unless told otherwise,
/// is analysed in a fraction of the time in which a disk brings the next.
const AHEAD_BYTES: u64 = 4 << 20;
/// The offset that stands for where the file is read.
const HERE: u64 = u64::MAX;

/// The file.
pub(super) struct FileAhead {
    file: File,
    /// All that was read so far lay in the page cache.
    is_cached: bool,
    /// Bytes that were read.
    read: u64,
    /// Where what was asked for ends.
    asked: u64,
}

impl FileAhead {
    /// `file` from its begin.
    pub(super) const fn new(file: File) -> Self {
        Self { file, is_cached: true, read: 0, asked: 0 }
    }

    /// What lies in the page cache already. None where that is nothing, or cannot be told (pipes,
    /// some file systems).
    fn read_cached(&self, buf: &mut [u8]) -> Option<usize> {
        preadv2(&self.file, &mut [IoSliceMut::new(buf)], HERE, ReadWriteFlags::NOWAIT).ok()
    }

    /// Asks for what follows.
    fn ask(&mut self) {
        if self.read + AHEAD_BYTES > self.asked {
            let from = self.asked.max(self.read);
            // Pipes and devices do not know it, and are read all the same.
            let _unknown = fadvise(&self.file, from, AHEAD_BYTES.try_into().ok(), Advice::WillNeed);
            self.asked = from + AHEAD_BYTES;
        }
    }
}

impl Read for FileAhead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_cached {
            if let Some(read) = self.read_cached(buf) {
                self.read += read as u64;
                return Ok(read);
            }
            self.is_cached = false;
        }
        let read = self.file.read(buf)?;
        self.read += read as u64;
        if read > 0 {
            self.ask();
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn whole(file: File) -> Vec<u8> {
        let mut bytes = Vec::new();
        FileAhead::new(file).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn files_are_read_whole_whether_they_lie_in_the_page_cache_or_not() {
        let bytes: Vec<u8> = (0..AHEAD_BYTES + 4321).flat_map(|n| n.to_le_bytes()).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        file.rewind().unwrap();
        assert!(whole(file.try_clone().unwrap()) == bytes);
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        file.rewind().unwrap();
        assert!(whole(file) == bytes, "from the disk");
    }

    #[test]
    fn pipes_are_read_to_their_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let writing = std::thread::spawn(move || writer.write_all(&[7; 300_000]));
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        assert_eq!(whole(file), [7; 300_000]);
        writing.join().unwrap().unwrap();
    }
}
