//! Files on disk: with `--extract-files`, what files.log tells of a file is what lies in the
//! folder, under Zeek's names, for its owner and group only, and no more than was allowed.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use sha2::{Digest, Sha256};
use tyto_worker::args::Args;
use tyto_worker::read;

/// A row of files.log: values by column.
type Row = BTreeMap<String, String>;

/// Reads the golden capture `case`, and gives the rows of files.log and the folder of files.
fn extract(case: &str, folder: &Path, options: &[&str]) -> (Vec<Row>, PathBuf) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let capture = golden.join(case).join("in.pcap").display().to_string();
    let (logs, files) = (folder.join("logs"), folder.join("files"));
    let (log_dir, to) = (logs.display().to_string(), files.display().to_string());
    let words =
        ["worker", "--read", &capture, "--log-dir", &log_dir, "--json", "--extract-files", &to];
    read::run(&Args::parse_from(words.iter().chain(options))).unwrap();
    let text = fs::read_to_string(logs.join("files.log")).unwrap();
    (text.lines().map(row).collect(), files)
}

fn row(line: &str) -> Row {
    let row: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
    let text =
        |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    row.into_iter().map(|(name, value)| (name, text(value))).collect()
}

#[test]
fn extracted_files_are_those_that_files_log_names() {
    for case in ["files", "http", "ftp", "mail", "smb"] {
        let folder = tempfile::tempdir().unwrap();
        let (rows, files) = extract(case, folder.path(), &[]);
        let mut whole = 0;
        // The parts of a message that POP3 brings in one packet are one file, as for Zeek.
        let name_of = |row: &Row| row.get("extracted").cloned();
        let is_alone =
            |row: &&Row| rows.iter().filter(|other| name_of(other) == name_of(row)).count() == 1;
        for row in rows.iter().filter(is_alone) {
            let name = row.get("extracted").unwrap_or_else(|| panic!("{case}: {row:?}"));
            let (source, fuid) = (&row["source"], &row["fuid"]);
            let parts: Vec<_> = name.splitn(4, '-').collect();
            assert_eq!([parts[0], parts[2], parts[3]], ["extract", source, fuid], "{case}");
            assert_eq!(row["extracted_cutoff"], "false", "{case}");
            assert_eq!(row.get("extracted_size"), None, "{case}");
            if row["seen_bytes"] == "0" || row["missing_bytes"] != "0" {
                continue;
            }
            let content = fs::read(files.join(name)).unwrap();
            assert_eq!(content.len().to_string(), row["seen_bytes"], "{case}");
            if let Some(hash) = row.get("sha256") {
                let digest: String =
                    Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(&digest, hash, "{case}");
                whole += 1;
            }
            let mode = fs::metadata(files.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o137, 0, "{case}: {mode:o}");
        }
        assert!(whole > 0, "{case}: none of {} files is whole", rows.len());
    }
}

#[test]
fn a_file_is_cut_off_where_it_is_told_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, files) = extract("files", folder.path(), &["--extract-bytes-max", "100"]);
    let mut cut = 0;
    for row in rows {
        let size: u64 = row["seen_bytes"].parse().unwrap();
        let is_cut = size > 100;
        assert_eq!(row["extracted_cutoff"], is_cut.to_string());
        assert_eq!(row.get("extracted_size").map(String::as_str), is_cut.then_some("100"));
        let on_disk = fs::metadata(files.join(&row["extracted"])).map_or(0, |file| file.len());
        assert_eq!(on_disk, size.min(100));
        cut += u32::from(is_cut);
    }
    assert!(cut > 1, "{cut}");
}

#[test]
fn all_files_together_take_no_more_than_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, files) = extract("files", folder.path(), &["--extract-total-bytes-max", "2000"]);
    let seen: u64 = rows.iter().map(|row| row["seen_bytes"].parse::<u64>().unwrap()).sum();
    let entries = fs::read_dir(files).unwrap();
    let on_disk: u64 = entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(seen > 2000 && on_disk > 0 && on_disk <= 2000, "{seen} {on_disk}");
}
