//! What the confined program may do and may not, each tried in a process of its own. Says so and
//! passes where the kernel has no Landlock.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tyto_core::config::runtime::{NodeConfig, Role};
use tyto_worker::confine;
use tyto_worker::x509::TrustStore;

/// Set in the confined copy of this program: the prefix of its node.
const PREFIX: &str = "TYTO_TEST_CONFINED";

fn config(prefix: &Path, role: Role) -> NodeConfig {
    NodeConfig::new("test", "worker-1", role, prefix)
}

/// Runs `test` again in a process of its own, below a prefix with one file in each folder.
/// There, gives the prefix.
fn in_own_process(test: &str) -> Option<PathBuf> {
    if let Some(prefix) = std::env::var_os(PREFIX) {
        return Some(prefix.into());
    }
    let prefix = tempfile::tempdir().unwrap();
    for folder in ["spool/worker-1", "spool/worker-2", "logs", "etc/tls", "ca", "releases/r1"] {
        fs::create_dir_all(prefix.path().join(folder)).unwrap();
        fs::write(prefix.path().join(folder).join("file"), "x").unwrap();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(PREFIX, prefix.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("does not confine") {
        eprintln!("skipped {test}: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    None
}

fn refused<T>(tried: std::io::Result<T>) -> bool {
    tried.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn worker_writes_its_own_folder_and_reads_what_it_needs() {
    let Some(prefix) = in_own_process("worker_writes_its_own_folder_and_reads_what_it_needs")
    else {
        return;
    };
    confine::enter(&config(&prefix, Role::Worker));
    let at = |path: &str| prefix.join(path);
    fs::create_dir_all(at("spool/worker-1/ship")).unwrap();
    fs::write(at("spool/worker-1/ship/batch"), "rows").unwrap();
    fs::rename(at("spool/worker-1/ship/batch"), at("spool/worker-1/sent")).unwrap();
    fs::remove_file(at("spool/worker-1/sent")).unwrap();
    assert_eq!(fs::read(at("etc/tls/file")).unwrap(), b"x");
    assert_eq!(fs::read(at("releases/r1/file")).unwrap(), b"x");
    fs::read("/proc/self/net/dev").unwrap();

    assert!(refused(fs::read(at("spool/worker-2/file"))));
    assert!(refused(fs::write(at("spool/worker-2/file"), "mine")));
    assert!(refused(fs::read(at("ca/file"))));
    assert!(refused(fs::write(at("etc/tls/file"), "mine")));
    assert!(refused(fs::write(at("releases/r1/file"), "mine")));
    assert!(refused(fs::write(at("logs/file"), "mine")));
    assert!(refused(fs::read("/etc/passwd")));
    assert!(refused(fs::read_dir("/")));
    assert!(refused(TcpListener::bind(("127.0.0.1", 0))));
    assert!(refused(Command::new("/bin/true").status()));
}

#[test]
fn standalone_node_writes_logs_too() {
    let Some(prefix) = in_own_process("standalone_node_writes_logs_too") else { return };
    confine::enter(&config(&prefix, Role::Standalone));
    fs::write(prefix.join("spool/worker-1/conn.log"), "rows").unwrap();
    fs::create_dir(prefix.join("logs/2026-11-22")).unwrap();
    fs::rename(prefix.join("spool/worker-1/conn.log"), prefix.join("logs/2026-11-22/conn.log"))
        .unwrap();
    assert!(refused(fs::read(prefix.join("ca/file"))));
}

#[test]
fn trusted_certificates_are_read_only_where_chains_are_validated() {
    let test = "trusted_certificates_are_read_only_where_chains_are_validated";
    let Some(prefix) = in_own_process(test) else { return };
    let named = prefix.join("ca/file");
    let mut config = config(&prefix, Role::Worker);
    config.analysis.validate_certificates = true;
    config.analysis.trusted_certificates = Some(named.clone());
    confine::enter(&config);
    assert_eq!(fs::read(named).unwrap(), b"x");
    assert!(refused(fs::read_dir("/etc/ssl")));
}

#[test]
fn the_hosts_own_store_is_read_by_a_confined_worker() {
    let Some(prefix) = in_own_process("the_hosts_own_store_is_read_by_a_confined_worker") else {
        return;
    };
    let has_store = TrustStore::load(None).is_ok();
    let mut config = config(&prefix, Role::Worker);
    config.analysis.validate_certificates = true;
    confine::enter(&config);
    assert_eq!(TrustStore::of(&config.analysis).is_ok(), has_store);
    assert!(refused(fs::read("/etc/passwd")));
}
