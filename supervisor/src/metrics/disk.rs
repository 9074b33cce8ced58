//! Room on the file systems of an installation. A file system that hangs (a network disk) must not
//! hold up a scrape: it is asked on a thread of its own, and the last answer is told meanwhile.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tyto_core::layout::Layout;

/// How old an answer may be before it is asked again.
const AGE_MAX: Duration = Duration::from_secs(5);

/// Room on one file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// The folder.
    pub(super) path: String,
    /// What the nodes' user may still write, bytes.
    pub(super) free_bytes: u64,
    /// All of it, bytes.
    pub(super) size_bytes: u64,
}

/// The last answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Rooms(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    rooms: Vec<Room>,
    at: Option<Instant>,
    is_asking: bool,
}

impl Rooms {
    /// The last answer; asks anew when it is old. Waits for nothing.
    pub(super) fn latest(&self, layout: &Layout) -> Vec<Room> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !asked.is_asking && asked.at.is_none_or(|at| at.elapsed() >= AGE_MAX) {
            asked.is_asking = true;
            let (folders, cell) = ([layout.logs(), layout.spool()], self.0.clone());
            drop(tokio::task::spawn_blocking(move || {
                let rooms = folders.into_iter().filter_map(room).collect();
                let mut asked = cell.lock().unwrap_or_else(PoisonError::into_inner);
                *asked = Asked { rooms, at: Some(Instant::now()), is_asking: false };
            }));
        }
        asked.rooms.clone()
    }
}

fn room(path: PathBuf) -> Option<Room> {
    let stat = rustix::fs::statvfs(&path).ok()?;
    Some(Room {
        path: path.display().to_string(),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        size_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_room_and_a_missing_one_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let found = room(dir.path().to_owned()).unwrap();
        assert!(found.size_bytes > 0 && found.free_bytes <= found.size_bytes);
        assert_eq!(room(dir.path().join("none")), None);
    }
}
