//! Content of files onto disk, when asked for. A capture file is read no faster than the disk
//! takes it; on a live node a thread of its own writes, and what finds its queue full is dropped
//! and counted. Missing bytes are holes.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use hashbrown::HashMap;
use tyto_core::config::runtime::{AnalysisConfig, ExtractTo};

/// Files that are open at a time; those of further ones are opened again for each piece.
const OPEN_MAX: usize = 64;
/// Pieces that wait for the disk.
const QUEUE_PIECES_MAX: usize = 4096;
/// Bytes of a piece in the queue: larger ones are cut. With the former this bounds the queue.
const QUEUE_PIECE_BYTES_MAX: usize = 16 * 1024;

/// Pieces refused because the folder is full, after which is looked again how full it is: somebody
/// may have taken files away.
const LOOK_AGAIN_PIECES: u64 = 4096;
/// Who may read what was extracted: the node's user, and its group.
const FILE_MODE: u32 = 0o640;

/// Where content goes.
#[derive(Debug)]
pub(super) struct Extractor {
    way: Way,
    /// Bytes of one file that are written at most.
    bytes_max: u64,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Way {
    Direct(Folder),
    Queued { sender: SyncSender<Piece>, writer: JoinHandle<()> },
}

#[derive(Debug)]
struct Piece {
    name: Arc<str>,
    offset: u64,
    bytes: Vec<u8>,
}

/// What of one file was extracted.
#[derive(Clone, Debug)]
pub(super) struct Extracted {
    pub(super) name: Arc<str>,
    /// Bytes after which it was cut off.
    pub(super) cut_off_at: Option<u64>,
    /// It was cut off because the disk did not take it: what comes is lost.
    is_lost: bool,
}

impl Extractor {
    /// The extractor that the configuration asks for.
    pub(super) fn new(config: &AnalysisConfig) -> Option<Self> {
        let lost = Arc::new(AtomicU64::new(0));
        let total_bytes_max = config.extract_total_bytes_max.0;
        let way = match &config.extract_to {
            ExtractTo::Nowhere => return None,
            ExtractTo::Direct(folder) => Way::Direct(Folder::new(folder, total_bytes_max)),
            ExtractTo::Queued(folder) => {
                let (sender, receiver) = sync_channel(QUEUE_PIECES_MAX);
                let folder = Folder::new(folder, total_bytes_max);
                let lost = Arc::clone(&lost);
                let writer = std::thread::Builder::new()
                    .name("extract".to_owned())
                    .spawn(move || write_all(folder, &receiver, &lost));
                Way::Queued { sender, writer: writer.ok()? }
            }
        };
        Some(Self { way, bytes_max: config.extract_bytes_max.0, lost })
    }

    /// Begins a file.
    pub(super) fn begin(name: String) -> Extracted {
        Extracted { name: name.into(), cut_off_at: None, is_lost: false }
    }

    /// Bytes of the file that stand at `offset`.
    pub(super) fn write(&mut self, file: &mut Extracted, offset: u64, bytes: &[u8]) {
        if file.is_lost {
            self.lost.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            return;
        }
        if file.cut_off_at.is_some() {
            return;
        }
        let room = self.bytes_max.saturating_sub(offset);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let taken = bytes.get(..room).unwrap_or(bytes);
        if taken.len() < bytes.len() {
            file.cut_off_at = Some(self.bytes_max);
        }
        let mut at = offset;
        for piece in taken.chunks(QUEUE_PIECE_BYTES_MAX) {
            let lost = match &mut self.way {
                Way::Direct(_) if file.is_lost => true,
                Way::Direct(folder) => {
                    file.is_lost = folder.write(&file.name, at, piece).is_err();
                    if file.is_lost {
                        file.cut_off_at = Some(at);
                    }
                    file.is_lost
                }
                Way::Queued { sender, .. } => {
                    let name = Arc::clone(&file.name);
                    sender.try_send(Piece { name, offset: at, bytes: piece.to_vec() }).is_err()
                }
            };
            if lost {
                self.lost.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            at += piece.len() as u64;
        }
    }

    /// Bytes that could not be written, or found the queue full.
    pub(super) fn lost_bytes(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until all is written.
    pub(super) fn finish(self) {
        if let Way::Queued { sender, writer } = self.way {
            drop(sender);
            writer.join().ok();
        }
    }
}

fn write_all(mut folder: Folder, pieces: &Receiver<Piece>, lost: &AtomicU64) {
    while let Ok(piece) = pieces.recv() {
        if folder.write(&piece.name, piece.offset, &piece.bytes).is_err() {
            lost.fetch_add(piece.bytes.len() as u64, Ordering::Relaxed);
        }
    }
}

/// The folder, made when the first file comes.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    open: HashMap<Arc<str>, fs::File>,
    is_made: bool,
    /// Bytes of all its files at most.
    total_bytes_max: u64,
    /// Bytes of its files: counted when it is made, and what was written since.
    total_bytes: u64,
    refused_pieces: u64,
}

impl Folder {
    fn new(path: &Path, total_bytes_max: u64) -> Self {
        Self {
            path: path.to_owned(),
            open: HashMap::new(),
            is_made: false,
            total_bytes_max,
            total_bytes: 0,
            refused_pieces: 0,
        }
    }

    /// Takes room for `bytes` more.
    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        if self.refused_pieces >= LOOK_AGAIN_PIECES {
            self.refused_pieces = 0;
            self.total_bytes = bytes_of_files(&self.path)?;
        }
        let total_bytes = self.total_bytes.saturating_add(bytes as u64);
        if total_bytes > self.total_bytes_max {
            self.refused_pieces += 1;
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.total_bytes = total_bytes;
        Ok(())
    }

    fn write(&mut self, name: &Arc<str>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.is_made {
            fs::create_dir_all(&self.path)?;
            self.total_bytes = bytes_of_files(&self.path)?;
            self.is_made = true;
        }
        self.reserve(bytes.len())?;
        if let Some(file) = self.open.get(name) {
            return file.write_all_at(bytes, offset);
        }
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        let path = self.path.join(&**name);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(path)?;
        file.write_all_at(bytes, offset)?;
        self.open.insert(Arc::clone(name), file);
        Ok(())
    }
}

/// Bytes of the files in a folder.
fn bytes_of_files(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        // One that was taken away meanwhile has none.
        bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tyto_core::config::runtime::{ExtractBytesMax, ExtractTotalBytesMax};

    fn extractor(to: ExtractTo) -> Extractor {
        let config = AnalysisConfig {
            extract_to: to,
            extract_bytes_max: ExtractBytesMax(10),
            extract_total_bytes_max: ExtractTotalBytesMax(18),
            ..AnalysisConfig::default()
        };
        Extractor::new(&config).unwrap()
    }

    #[test]
    fn both_ways_write_the_same_and_cut_off_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for to in [ExtractTo::Direct(path("direct")), ExtractTo::Queued(path("queued"))] {
            let mut extractor = extractor(to);
            let mut file = Extractor::begin("file".to_owned());
            extractor.write(&mut file, 0, b"abc");
            extractor.write(&mut file, 5, b"fg");
            assert_eq!(file.cut_off_at, None);
            extractor.write(&mut file, 7, b"hijklm");
            assert_eq!(file.cut_off_at, Some(10));
            extractor.write(&mut file, 13, b"n");
            assert_eq!(extractor.lost_bytes(), 0);
            extractor.finish();
        }
        for way in ["direct", "queued"] {
            let path = path(way).join("file");
            assert_eq!(fs::read(&path).unwrap(), b"abc\0\0fghij");
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & !FILE_MODE, 0, "{mode:o}");
        }
    }

    #[test]
    fn a_full_folder_takes_no_more_until_files_are_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut extractor = extractor(ExtractTo::Direct(folder.path().to_owned()));
        let mut write = |name: &str, bytes: &[u8]| {
            let mut file = Extractor::begin(name.to_owned());
            extractor.write(&mut file, 0, bytes);
            (file.cut_off_at, extractor.lost_bytes())
        };
        assert_eq!(write("one", b"0123456789"), (None, 0));
        assert_eq!(write("two", b"01234567"), (None, 0));
        assert_eq!(write("three", b"0"), (Some(0), 1));
        assert!(!folder.path().join("three").exists());
        fs::remove_file(folder.path().join("one")).unwrap();
        for _ in 1..LOOK_AGAIN_PIECES {
            write("three", b"0");
        }
        assert_eq!(write("four", b"0"), (None, LOOK_AGAIN_PIECES));
        assert_eq!(fs::read(folder.path().join("four")).unwrap(), b"0");
    }

    #[test]
    fn nothing_is_written_when_nobody_asked() {
        assert!(Extractor::new(&AnalysisConfig::default()).is_none());
    }
}
