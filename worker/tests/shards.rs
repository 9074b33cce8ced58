//! One file, cut by the hosts' addresses over 1, 2 and 4 workers: together they log what one
//! alone logs. Ids of connections and files differ from worker to worker; what is said once per
//! cluster (known_*, software, certificates) is said by each and counts once, as the cluster's claims have it.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use tyto_worker::args::Args;
use tyto_worker::read;

/// Logs whose rows are claimed, and the columns that name what is claimed.
const CLAIMED: [(&str, &[&str]); 5] = [
    ("known_hosts", &["host"]),
    ("known_services", &["host", "port_num", "port_proto"]),
    ("known_certs", &["host", "port_num", "subject"]),
    ("x509", &["fingerprint", "host_cert", "client_cert"]),
    ("software", &["host", "software_type", "name", "unparsed_version"]),
];

/// Rows of each log, sorted, each as often as it stands there.
type Logs = BTreeMap<String, Vec<String>>;

/// A lease is asked for by broadcast and given to an address: two connections, and two processes
/// may see one of them each. In a cluster workers tell each other over the proxies, and have one
/// row (`tests/tests/neighbours.rs`); these here are alone.
const OVER_CONNECTIONS: &str = "dhcp";

#[test]
fn two_and_four_workers_log_what_one_does() {
    for capture in captures() {
        let whole = logs(&capture, 1);
        assert!(whole.contains_key("conn"), "{}", capture.display());
        for shards in [2, 4] {
            let parts = logs(&capture, shards);
            let names = |logs: &Logs| logs.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&whole), names(&parts), "{} by {shards}", capture.display());
            for (name, rows) in whole.iter().filter(|(name, _)| *name != OVER_CONNECTIONS) {
                assert_same(
                    rows,
                    &parts[name],
                    &format!("{} by {shards}: {name}", capture.display()),
                );
            }
        }
    }
}

#[test]
fn the_shares_of_a_file_have_each_packet_once() {
    let capture = lab_capture();
    let packets = |shards: u32| {
        let folder = tempfile::tempdir().unwrap();
        (1..=shards).map(|shard| run(&capture, shard, shards, folder.path())).sum::<u64>()
    };
    assert_eq!(packets(1), packets(3));
}

/// The recorded captures of the tree.
fn captures() -> Vec<PathBuf> {
    let folders = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        folders.map(|folder| folder.join("in.pcap")).filter(|path| path.is_file()).collect();
    found.sort();
    found
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn lab_capture() -> PathBuf {
    golden().join("lab-traffic/in.pcap")
}

/// Reads one share; gives its number of packets.
fn run(capture: &Path, shard: u32, shards: u32, folder: &Path) -> u64 {
    let (capture, folder) = (capture.display().to_string(), folder.display().to_string());
    let share = format!("{shard}/{shards}");
    let args = ["worker", "--read", &capture, "--log-dir", &folder, "--shard", &share];
    let reading = read::run(&Args::parse_from(args)).unwrap();
    reading.stats.packets + reading.stats.empty
}

fn logs(capture: &Path, shards: u32) -> Logs {
    let mut rows: BTreeMap<String, Vec<BTreeMap<String, String>>> = BTreeMap::new();
    for shard in 1..=shards {
        let folder = tempfile::tempdir().unwrap();
        run(capture, shard, shards, folder.path());
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if path.extension().is_some_and(|extension| extension == "log") {
                rows.entry(name).or_default().extend(table(&path));
            }
        }
    }
    rows.into_iter().map(|(name, rows)| (name.clone(), counted_once(&name, rows))).collect()
}

/// The rows of a log by columns, ids masked.
fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).unwrap();
    let fields = text.lines().find_map(|line| line.strip_prefix("#fields\t")).unwrap();
    let names: Vec<&str> = fields.split('\t').collect();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let values = names.iter().zip(row.split('\t'));
        values.map(|(name, value)| ((*name).to_owned(), masked(name, value))).collect()
    })
    .collect()
}

/// Ids depend on the order in which one worker meets connections and files: in their columns
/// only how many they are is compared.
fn masked(column: &str, value: &str) -> String {
    let is_id = column == "tunnel_parents" || column.contains("uid");
    match value {
        "-" | "(empty)" => value.to_owned(),
        ids if is_id => ids.split(',').map(|_| "ID").collect::<Vec<_>>().join(","),
        other => other.to_owned(),
    }
}

/// Rows as text; of those that are claimed, the first of each claim.
fn counted_once(name: &str, mut rows: Vec<BTreeMap<String, String>>) -> Vec<String> {
    rows.sort_by(|a, b| a.get("ts").cmp(&b.get("ts")));
    if let Some((_, columns)) = CLAIMED.iter().find(|(claimed, _)| *claimed == name) {
        let mut seen = BTreeSet::new();
        rows.retain(|row| {
            seen.insert(columns.iter().map(|column| row.get(*column).cloned()).collect::<Vec<_>>())
        });
    }
    let mut lines: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    lines.sort();
    lines
}

fn assert_same(whole: &[String], parts: &[String], what: &str) {
    let only = |a: &[String], b: &[String]| {
        a.iter().find(|row| !b.contains(row)).cloned().unwrap_or_default()
    };
    assert!(
        whole == parts,
        "{what}: {} rows, {} in parts\n- {}\n+ {}",
        whole.len(),
        parts.len(),
        only(whole, parts),
        only(parts, whole)
    );
}
