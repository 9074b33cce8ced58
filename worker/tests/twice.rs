//! A capture file gives the same bytes of log each time it is read: seeds and clocks are inputs,
//! and nothing depends on addresses of memory, order of threads, or the wall clock.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use tyto_worker::args::Args;
use tyto_worker::read;

/// All that can be asked for besides the defaults.
const OPTIONS: [&str; 9] = [
    "--community-id",
    "--ssl-fingerprints",
    "--ssh-hassh",
    "--log-passwords",
    "--traceroute",
    "--unknown-protocols",
    "--software-version-change=OpenSSH",
    "--validate-certificates",
    "--ignore-checksums",
];

#[test]
fn each_golden_capture_gives_the_same_bytes_twice() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let trusted = golden.join("certificates/trusted.pem").display().to_string();
    let mut captures: Vec<_> = fs::read_dir(&golden)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("in.pcap"))
        .filter(|path| path.is_file() && !path.is_symlink())
        .collect();
    captures.sort();
    assert!(captures.len() > 30, "{}", captures.len());
    for capture in captures {
        let first = logs(&capture, &trusted);
        let second = logs(&capture, &trusted);
        assert!(first.keys().any(|path| path.ends_with("conn.log")), "{capture:?}");
        let names = |logs: &Logs| logs.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&first), names(&second), "{capture:?}");
        for (name, bytes) in &first {
            assert!(bytes == &second[name], "{}: {name:?} differs", capture.display());
        }
    }
}

/// Content of each file that was written, by its path below the folder.
type Logs = BTreeMap<PathBuf, Vec<u8>>;

fn logs(capture: &Path, trusted: &str) -> Logs {
    let folder = tempfile::tempdir().unwrap();
    let (logs, files) = (folder.path().join("logs"), folder.path().join("files"));
    let mut words: Vec<String> = vec!["worker".to_owned()];
    let mut pair = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    pair("--read", capture.display().to_string());
    pair("--log-dir", logs.display().to_string());
    pair("--extract-files", files.display().to_string());
    pair("--trusted-certificates", trusted.to_owned());
    words.extend(OPTIONS.map(str::to_owned));
    read::run(&Args::parse_from(words)).unwrap();
    let written = [&logs, &files].into_iter().filter(|folder| folder.is_dir());
    let entries = written.flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            let content = fs::read(&path).unwrap();
            (path.strip_prefix(folder.path()).unwrap().to_owned(), content)
        })
        .collect()
}
