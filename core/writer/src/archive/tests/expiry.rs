//! What goes from the archive, and when.

use super::*;

#[test]
fn logs_go_when_they_are_older_than_their_stream_is_kept() {
    let mut place = Place::new();
    place.config.expire.minutes = 2 * 1440;
    place.keep("dns", 1440);
    place.keep("notice", 0);
    for stream in ["conn", "dns", "notice"] {
        place.log(&format!("1970-01-10/{stream}.00:00:00-01:00:00.log.gz"), 10 * DAY, 10);
    }
    place.log("1970-01-10/notes.txt", 0, 10);
    place.log("1970-01-09/dns.00:00:00-01:00:00.log.gz", 9 * DAY, 10);
    let archive = place.archive();
    let names = |at: u64| {
        expire::expire(&archive, Ts(at * NANOS)).unwrap();
        let mut found = Vec::new();
        files(&place.logs(), &mut found);
        let mut names: Vec<String> = found
            .iter()
            .map(|path| path.strip_prefix(place.logs()).unwrap().display().to_string())
            .map(|path| path.trim_end_matches(".00:00:00-01:00:00.log.gz").to_owned())
            .collect();
        names.sort();
        names
    };
    let day = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("1970-01-10/{name}")).collect()
    };
    assert_eq!(names(11 * DAY), day(&["conn", "dns", "notes.txt", "notice"]));
    assert!(!place.logs().join("1970-01-09").exists());
    assert_eq!(names(11 * DAY + 1), day(&["conn", "notes.txt", "notice"]));
    assert_eq!(names(12 * DAY + 1), day(&["notes.txt", "notice"]));
    assert_eq!(names(9_999 * DAY), day(&["notes.txt", "notice"]));
    let report = archive.counts.report();
    assert_eq!((report.expired_by_age, report.expired_bytes), (3, 30));
}

#[test]
fn the_oldest_go_when_the_archive_is_too_large_but_none_that_is_kept() {
    let mut place = Place::new();
    place.config.archive_bytes_max = Some(25);
    place.config.keep = Some("http.* x509*".to_owned());
    let path = |n: u64, stream: &str| format!("1970-01-{n:02}/{stream}.00:00:00-01:00:00.log");
    let old = place.log(&path(1, "http"), DAY, 10);
    let gone = place.log(&path(2, "conn"), 2 * DAY, 10);
    let left = place.log(&path(3, "conn"), 3 * DAY, 10);
    let archive = place.archive();
    expire::expire(&archive, Ts(4 * DAY * NANOS)).unwrap();
    assert_eq!([old.exists(), gone.exists(), left.exists()], [true, false, true]);
    assert_eq!(archive.counts.report().expire_stuck, 0);
    fs::write(&old, vec![b'x'; 40]).unwrap();
    expire::expire(&archive, Ts(4 * DAY * NANOS)).unwrap();
    assert_eq!([old.exists(), left.exists()], [true, false]);
    let report = archive.counts.report();
    assert_eq!((report.expired_by_size, report.expire_stuck), (2, 1));
}

/// A file system of 1,000 bytes, of which the archive has what it has.
#[derive(Debug)]
struct Small {
    disk: Arc<dyn Disk>,
    logs: PathBuf,
}

impl Disk for Small {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path, how)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn rename_to_free(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename_to_free(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        self.disk.read_dir(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.disk.metadata(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_folder(path)
    }
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.disk.symlink(target, link)
    }
    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        self.disk.read_link(link)
    }
    fn space(&self, _path: &Path) -> io::Result<(u64, u64)> {
        let mut found = Vec::new();
        files(&self.logs, &mut found);
        let used: u64 = found.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        Ok((1_000 - used, 1_000))
    }
}

#[test]
fn the_oldest_go_until_there_is_free_space() {
    for (free, left) in [(FreeSpace::Percent(50), 5), (FreeSpace::Bytes(750), 2)] {
        let mut place = Place::new();
        place.config.free_min = Some(free);
        let logs: Vec<PathBuf> = (1..=8)
            .map(|n| place.log(&format!("1970-01-{n:02}/conn.00:00:00-01:00:00.log"), n * DAY, 100))
            .collect();
        let disk = Arc::new(Small { disk: disk::real(), logs: place.logs() });
        let archive = Archive::new(ArchiveOptions { disk, ..place.options() }, Ts(0));
        assert!(archive.is_disk_full());
        expire::expire(&archive, Ts(9 * DAY * NANOS)).unwrap();
        assert!(!archive.is_disk_full());
        let exist: Vec<bool> = logs.iter().map(|path| path.exists()).collect();
        let expected: Vec<bool> = (0..8).map(|n| n >= 8 - left).collect();
        assert_eq!(exist, expected);
        assert_eq!(archive.counts.report().expired_by_free_space, 8 - left);
    }
}
