//! What processes write to stdout and stderr: appended to files that stay bounded while the
//! process lives, and whose ends say why it died.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use tyto_core::layout::Layout;

/// Size past which a file is cut.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What is kept of a file that is cut, in a second one (`stderr.log.1`).
const KEPT_BYTES: u64 = 1 << 20;

/// Lines of stderr.log that status shows.
const STDERR_LINES_MAX: usize = 10;

/// Bytes of stderr.log that are read for them.
const STDERR_BYTES_MAX: u64 = 8 << 10;

/// A file for the output of a process, opened to append.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    cut(path)?;
    OpenOptions::new().create(true).append(true).open(path)
}

/// Cuts a file that has grown too long. Its writers go on at its new end, because they
/// append; what they write during the cut may be lost.
///
/// # Errors
/// When it cannot be read or cut.
pub(crate) fn cut(path: &Path) -> io::Result<()> {
    if !fs::metadata(path).is_ok_and(|file| file.len() > FILE_BYTES_MAX) {
        return Ok(());
    }
    fs::write(path.with_extension("log.1"), tail(path, 0, KEPT_BYTES)?)?;
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

/// Cuts what nodes and supervisor have written.
pub(crate) fn cut_all<'a>(layout: &Layout, nodes: impl Iterator<Item = &'a str>) {
    let mut paths = vec![layout.supervisor_log()];
    for node in nodes {
        let spool = layout.node_spool(node);
        paths.extend(["stdout.log", "stderr.log"].map(|file| spool.join(file)));
    }
    for path in paths {
        if let Err(error) = cut(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot cut a file that has grown");
        }
    }
}

/// The last lines that a process wrote to its stderr.log, which had `from` bytes at its start.
pub(crate) fn last_stderr(layout: &Layout, node: &str, from: u64) -> Vec<String> {
    let path = layout.node_spool(node).join("stderr.log");
    let Ok(text) = tail(&path, from, STDERR_BYTES_MAX) else { return Vec::new() };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skip = lines.len().saturating_sub(STDERR_LINES_MAX);
    lines.iter().skip(skip).map(|line| (*line).to_owned()).collect()
}

/// The end of a file: what lies behind `from` (all, if it was cut since), at most
/// `bytes_max`. Bytes that are no UTF-8 are replaced.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn tail(path: &Path, from: u64, bytes_max: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let from = if from > len { 0 } else { from };
    file.seek(SeekFrom::Start(from.max(len.saturating_sub(bytes_max))))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What lies in a file from `from` to `to`, the last `bytes_max` of it; all up to its end when it
/// was cut since. Bytes that are no UTF-8 are replaced.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn between(path: &Path, from: u64, to: u64, bytes_max: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let (from, to) = if from > to || to > len { (0, len) } else { (from, to) };
    let from = from.max(to.saturating_sub(bytes_max));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(to - from).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_long_file_is_cut_under_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stderr.log");
        let mut writer = open(&path).unwrap();
        let line = [b'x'; 1 << 20];
        while fs::metadata(&path).unwrap().len() <= FILE_BYTES_MAX {
            writer.write_all(&line).unwrap();
        }
        writer.write_all(b"last words\n").unwrap();
        cut(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        let kept = fs::read_to_string(dir.path().join("stderr.log.1")).unwrap();
        assert_eq!(kept.len() as u64, KEPT_BYTES);
        assert!(kept.ends_with("last words\n"));
        writer.write_all(b"goes on\n").unwrap();
        assert_eq!(tail(&path, 17 << 20, 100).unwrap(), "goes on\n");
    }

    #[test]
    fn only_the_last_lines_of_this_life_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.node_spool("n")).unwrap();
        let numbers: String = (0..12).map(|number| format!("line {number}\n\n")).collect();
        let text = format!("earlier life\n{numbers}");
        fs::write(layout.node_spool("n").join("stderr.log"), text).unwrap();
        let lines = last_stderr(&layout, "n", 13);
        assert_eq!((lines.len(), lines[0].as_str(), lines[9].as_str()), (10, "line 2", "line 11"));
        assert_eq!(last_stderr(&layout, "n", 13 + numbers.len() as u64), [""; 0]);
    }
}
