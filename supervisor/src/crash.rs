//! What is kept of a node's unwanted death, for `ctl diag` and for whoever looks into it:
//! `spool/tmp/crash-NODE-TIME/{report.txt,stderr.log,stdout.log,config.yaml}`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;
use tyto_core::layout::Layout;

use crate::exec_node::NodeNote;
use crate::output;

/// Crashes kept on a host; the oldest go first.
const CRASH_DIRS_MAX: usize = 50;

/// Bytes kept of each output file of the node.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;

/// A death as the supervisor saw it.
#[derive(Debug)]
pub(crate) struct Crash {
    /// The node.
    pub(crate) node: String,
    /// What is known of the process.
    pub(crate) note: NodeNote,
    /// When its end was seen, ns since the Unix epoch.
    pub(crate) died_ns: u64,
    /// How it ended.
    pub(crate) exit: String,
    /// The last lines it wrote to stderr.
    pub(crate) last_stderr: Vec<String>,
}

/// Keeps the crash. A fault here must not keep the node down, so it is traced only. Blocks.
pub(crate) fn keep(layout: &Layout, crash: &Crash) {
    let kept = write(layout, crash).and_then(|dir| {
        expire(&layout.crashes())?;
        Ok(dir)
    });
    match kept {
        Ok(dir) => {
            tracing::info!(node = %crash.node, dir = %dir.display(), "kept what is left of a crash")
        }
        Err(error) => warn!(node = %crash.node, %error, "cannot keep what is left of a crash"),
    }
}

fn write(layout: &Layout, crash: &Crash) -> io::Result<PathBuf> {
    let name = format!(
        "crash-{}-{}-{}",
        crash.node,
        utc(crash.died_ns, "%Y-%m-%d-%H-%M-%S"),
        crash.note.pid
    );
    let dir = layout.crashes().join(name);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("report.txt"), report(crash))?;
    let spool = layout.node_spool(&crash.node);
    for file in ["stderr.log", "stdout.log"] {
        if let Ok(text) = output::tail(&spool.join(file), 0, OUTPUT_BYTES_MAX) {
            fs::write(dir.join(file), text)?;
        }
    }
    let release = layout.release(&crash.note.release);
    let config = release.join("etc/nodes").join(format!("{}.yaml", crash.node));
    match fs::copy(config, dir.join("config.yaml")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(dir),
    }
}

fn report(crash: &Crash) -> String {
    let note = &crash.note;
    let mut text = String::new();
    let lines = [
        ("node", crash.node.clone()),
        ("role", note.role.clone()),
        ("exit", crash.exit.clone()),
        ("pid", note.pid.to_string()),
        ("started", utc(note.started_ns, "%Y-%m-%dT%H:%M:%SZ")),
        ("died", utc(crash.died_ns, "%Y-%m-%dT%H:%M:%SZ")),
        ("release", note.release.clone()),
        ("supervisor", env!("CARGO_PKG_VERSION").to_owned()),
        ("kernel", rustix::system::uname().release().to_string_lossy().into_owned()),
    ];
    for (key, value) in lines {
        text.push_str(&format!("{key}: {value}\n"));
    }
    text.push_str("stderr:\n");
    for line in &crash.last_stderr {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

fn expire(dir: &Path) -> io::Result<()> {
    let mut crashes = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("crash-") {
            crashes.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    crashes.sort();
    let surplus = crashes.len().saturating_sub(CRASH_DIRS_MAX);
    for (_, path) in crashes.drain(..surplus) {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

fn utc(unix_ns: u64, format: &str) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(time) => time.strftime(format).to_string(),
        Err(_) => unix_ns.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(pid: u32) -> Crash {
        Crash {
            node: "worker-1".to_owned(),
            note: NodeNote {
                pid,
                started_ns: 1_700_000_000_000_000_000,
                release: "r1".to_owned(),
                role: "worker".to_owned(),
                stderr_from: 0,
            },
            died_ns: 1_700_000_001_000_000_000,
            exit: "signal 9 (SIGKILL)".to_owned(),
            last_stderr: vec!["last words".to_owned()],
        }
    }

    fn layout_with_release() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let nodes = layout.release("r1").join("etc/nodes");
        fs::create_dir_all(&nodes).unwrap();
        fs::write(nodes.join("worker-1.yaml"), "node: worker-1\n").unwrap();
        fs::create_dir_all(layout.node_spool("worker-1")).unwrap();
        fs::write(layout.node_spool("worker-1").join("stderr.log"), "last words\n").unwrap();
        (dir, layout)
    }

    #[test]
    fn a_crash_leaves_exit_last_words_and_configuration() {
        let (_dir, layout) = layout_with_release();
        keep(&layout, &crash(7));
        let dir = layout.crashes().join("crash-worker-1-2023-11-14-22-13-21-7");
        let report = fs::read_to_string(dir.join("report.txt")).unwrap();
        assert!(report.contains("exit: signal 9 (SIGKILL)\n"), "{report}");
        assert!(report.contains("started: 2023-11-14T22:13:20Z\n"), "{report}");
        assert!(report.ends_with("stderr:\n  last words\n"), "{report}");
        assert_eq!(fs::read_to_string(dir.join("stderr.log")).unwrap(), "last words\n");
        assert_eq!(fs::read_to_string(dir.join("config.yaml")).unwrap(), "node: worker-1\n");
    }

    #[test]
    fn the_oldest_crashes_make_way() {
        let (_dir, layout) = layout_with_release();
        let count = u32::try_from(CRASH_DIRS_MAX).unwrap() + 3;
        for pid in 1..=count {
            keep(&layout, &crash(pid));
        }
        let left = fs::read_dir(layout.crashes()).unwrap().count();
        assert_eq!(left, CRASH_DIRS_MAX);
        assert!(
            layout.crashes().join(format!("crash-worker-1-2023-11-14-22-13-21-{count}")).exists()
        );
    }
}
