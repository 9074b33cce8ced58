//! The last reports of this host's nodes on disk, `run/nodes/NODE.report`: what a node said last
//! outlives it, the supervisor and the host, so that the ledger of a cluster is whole while nodes
//! are stopped, and after they left. In: reports. Out: files of one report each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use prost::Message;
use tracing::{debug, warn};
use tyto_core::layout::Layout;
use tyto_proto::v1::NodeHealth;

/// End of the name of such a file.
const SUFFIX: &str = ".report";

/// Longest report that is read, bytes; the largest have some hundred kilobytes.
const REPORT_BYTES_MAX: u64 = 16 << 20;

/// Reports kept of nodes that are no more of this host; the oldest go first.
const DEPARTED_MAX: usize = 256;

/// What is on disk, by node: when that was reported.
#[derive(Debug)]
pub(crate) struct LastReports {
    layout: Layout,
    /// Held while a file is written: two writers of one node would meet in the draft.
    kept: Mutex<BTreeMap<String, u64>>,
}

impl LastReports {
    /// Those of a host.
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, kept: Mutex::default() }
    }

    /// What a node said last, as far as it is on disk.
    pub(crate) fn load(&self, node: &str) -> Option<NodeHealth> {
        let path = self.layout.run_nodes().join(format!("{node}{SUFFIX}"));
        let read = |path| -> io::Result<Option<NodeHealth>> {
            if fs::metadata(path)?.len() > REPORT_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            // A host that crashed may have left it empty or torn.
            let report = NodeHealth::decode(fs::read(path)?.as_slice()).ok();
            Ok(report.filter(|report| report.node == node))
        };
        match read(&path) {
            Ok(report) => {
                if report.is_none() {
                    warn!(node, "the node's last report is damaged; its counts are not known");
                }
                report
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(node, %error, "cannot read the node's last report");
                None
            }
        }
    }

    /// Puts a report in place of the one before, when it is another. `is_last`: none may follow,
    /// so it is written through to the disk.
    pub(crate) fn keep(&self, report: &NodeHealth, is_last: bool) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.get(&report.node) == Some(&report.reported_ns) && !is_last {
            return;
        }
        match self.store(report, is_last) {
            Ok(()) => {
                kept.insert(report.node.clone(), report.reported_ns);
            }
            Err(error) => warn!(node = report.node, %error, "cannot keep the node's last report"),
        }
    }

    fn store(&self, report: &NodeHealth, is_last: bool) -> io::Result<()> {
        let folder = self.layout.run_nodes();
        let draft = folder.join(format!("{}{SUFFIX}.tmp", report.node));
        let mut file = File::create(&draft)?;
        file.write_all(&report.encode_to_vec())?;
        if is_last {
            file.sync_data()?;
        }
        fs::rename(&draft, folder.join(format!("{}{SUFFIX}", report.node)))
    }

    /// Last reports of nodes for which `is_member` does not hold: they were of this host once.
    pub(crate) fn departed(&self, is_member: impl Fn(&str) -> bool) -> Vec<NodeHealth> {
        let Ok(entries) = fs::read_dir(self.layout.run_nodes()) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let nodes = names.filter_map(|name| name.strip_suffix(SUFFIX).map(str::to_owned));
        let gone = nodes.filter(|node| !is_member(node));
        let mut reports: Vec<NodeHealth> = gone.filter_map(|node| self.load(&node)).collect();
        reports.sort_by_key(|report| std::cmp::Reverse(report.reported_ns));
        for forgotten in reports.iter().skip(DEPARTED_MAX) {
            let path = self.layout.run_nodes().join(format!("{}{SUFFIX}", forgotten.node));
            if let Err(error) = fs::remove_file(path) {
                debug!(node = forgotten.node, %error, "cannot remove an old report");
            }
        }
        reports.truncate(DEPARTED_MAX);
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(node: &str, reported_ns: u64) -> NodeHealth {
        NodeHealth { node: node.to_owned(), reported_ns, pid: 7, ..NodeHealth::default() }
    }

    fn host() -> (tempfile::TempDir, LastReports) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.run_nodes()).unwrap();
        (dir, LastReports::new(layout))
    }

    #[test]
    fn what_a_node_said_last_outlives_the_supervisor() {
        let (dir, reports) = host();
        assert_eq!(reports.load("worker-1"), None);
        reports.keep(&report("worker-1", 1), false);
        reports.keep(&report("worker-1", 2), true);
        let later = LastReports::new(Layout::new(dir.path()));
        assert_eq!(later.load("worker-1"), Some(report("worker-1", 2)));
    }

    #[test]
    fn a_torn_or_foreign_file_is_no_report() {
        let (dir, reports) = host();
        let path = dir.path().join("run/nodes/worker-1.report");
        for bytes in [Vec::new(), vec![0xff; 9], report("worker-2", 1).encode_to_vec()] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(reports.load("worker-1"), None);
        }
    }

    #[test]
    fn nodes_that_left_the_host_are_told_and_the_oldest_forgotten() {
        let (dir, reports) = host();
        for n in 0..DEPARTED_MAX as u64 + 3 {
            reports.keep(&report(&format!("worker-{n}"), 100 + n), false);
        }
        let departed = reports.departed(|node| node == "worker-0");
        assert_eq!(departed.len(), DEPARTED_MAX);
        assert!(departed.iter().all(|gone| gone.reported_ns >= 103));
        let left = fs::read_dir(dir.path().join("run/nodes")).unwrap().count();
        assert_eq!(left, DEPARTED_MAX + 1, "a member's report stays");
    }
}
