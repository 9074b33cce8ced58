//! The disk as log files, journal, archive and spool use it: every operation on a file of theirs
//! goes through [`Disk`], so that tests run the same code on a disk that loses, tears and refuses.
//! [`real`] is the file system of the host.
//!
//! Dynamic dispatch: one indirect call beside a system call is not to be measured, and no type
//! that holds files has to name the disk that it works on.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To read what is there.
    Read,
    /// To read and write what is there.
    ReadWrite,
    /// To read and write; made if it is not there, emptied if it is.
    Create,
    /// To read and write a file that must not be there yet.
    CreateNew,
}

/// What a name stands for. Symbolic links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// A folder.
    pub is_folder: bool,
    /// Size, bytes.
    pub len: u64,
    /// When it was written last, by the host's clock.
    pub modified: SystemTime,
}

/// A file system. Paths mean what they mean to the system; names and bytes are durable when
/// they were synced, and not before.
///
/// # Errors
/// All methods: what the system says.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name, in place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name, unless that is taken (`AlreadyExists`).
    fn rename_to_free(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, sorted.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Makes a folder and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// What a name stands for.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a symbolic link.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// What a symbolic link points at.
    fn read_link(&self, link: &Path) -> io::Result<PathBuf>;

    /// Free bytes and all bytes of the file system that holds `path`. A disk without a bound has
    /// nothing but free space.
    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        let _ = path;
        Ok((u64::MAX, u64::MAX))
    }

    /// Takes a lock that other processes see, until what is returned is dropped, or the process
    /// dies; none when somebody has it. A disk of one process alone has no need of it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Debug>>> {
        let _ = path;
        Ok(Some(Box::new(())))
    }

    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Reader::new(self.open(path, Open::Read)?).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether a name stands for something. A disk that cannot tell is not one without it.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// An open file.
///
/// # Errors
/// All methods: what the system says.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads some bytes from `offset` on; none at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of `bytes` at `offset`, at least one.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Cuts or extends it.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes its bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes all of it durable, but for its name.
    fn sync_all(&self) -> io::Result<()>;
    /// Sets when it was written last. A disk that keeps no times has nothing to do.
    fn set_modified(&self, at: SystemTime) -> io::Result<()> {
        let _ = at;
        Ok(())
    }
    /// Its length, bytes.
    fn size(&self) -> io::Result<u64>;

    /// Reads exactly as many bytes as there is room for.
    fn read_exact_at(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.read_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    bytes = bytes.get_mut(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`. After a fault, any part of them may be there.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The host's file system.
pub fn real() -> Arc<dyn Disk> {
    Arc::new(Real)
}

/// Reads a file from its beginning.
#[derive(Debug)]
pub struct Reader {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl Reader {
    /// From the first byte on.
    pub const fn new(file: Box<dyn DiskFile>) -> Self {
        Self { file, offset: 0 }
    }
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Writes a file from its beginning. Its `flush` syncs nothing.
#[derive(Debug)]
pub struct Writer {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl Writer {
    /// From the first byte on.
    pub const fn new(file: Box<dyn DiskFile>) -> Self {
        Self { file, offset: 0 }
    }

    /// The file, to sync it.
    pub fn into_file(self) -> Box<dyn DiskFile> {
        self.file
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Real;

impl Disk for Real {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(how != Open::Read);
        options.create(how == Open::Create).truncate(how == Open::Create);
        let file = options.create_new(how == Open::CreateNew).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_to_free(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some file systems do not know the flag: there a link does the same, in two steps.
            Err(rustix::io::Errno::INVAL) => {
                fs::hard_link(from, to).and_then(|()| fs::remove_file(from))
            }
            other => other.map_err(io::Error::from),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name());
        }
        names.sort();
        Ok(names)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let found = fs::metadata(path)?;
        let (is_folder, len) = (found.is_dir(), found.len());
        Ok(Metadata { is_folder, len, modified: found.modified()? })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, link)
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        fs::read_link(link)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok((bytes(found.f_bavail), bytes(found.f_blocks)))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Debug>>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DiskFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }

    fn set_modified(&self, at: SystemTime) -> io::Result<()> {
        Self::set_modified(self, at)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
