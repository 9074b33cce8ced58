//! What must outlive the supervisor about a node: that the operator wants it, and what became
//! of its processes. Which process runs is not in here: the node's lock says it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One node's record, `run/nodes/NODE.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NodeRecord {
    /// An operator wants it running.
    pub(crate) desired: bool,
    /// Restarts by supervisors since the last start by an operator.
    pub(crate) restarts: u32,
    /// Of these restarts, those after the watchdog killed it.
    pub(crate) watchdog_kills: u32,
    /// How its last process ended, empty when none did yet.
    pub(crate) last_exit: String,
    /// Start (ns since the Unix epoch) of its last process that said it runs, so that one
    /// taken over counts as running before its next report.
    pub(crate) ran_ns: u64,
}

impl NodeRecord {
    /// The record at `path`, or that of a node nobody has asked for yet.
    ///
    /// # Errors
    /// When there is a record that cannot be read.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the record at `path`: after a crash, of the host too, there is the old one or
    /// the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn store(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("json.tmp");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        fs::rename(&draft, path)?;
        // A boot of the host must find the new one, not only a later life of ours.
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker-1.json");
        assert_eq!(NodeRecord::load(&path).unwrap(), NodeRecord::default());
        let record = NodeRecord {
            desired: true,
            restarts: 3,
            watchdog_kills: 1,
            last_exit: "exit code 1".to_owned(),
            ran_ns: 7,
        };
        record.store(&path).unwrap();
        assert_eq!(NodeRecord::load(&path).unwrap(), record);
    }

    #[test]
    fn a_broken_record_is_an_error_and_not_an_unwanted_node() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker-1.json");
        fs::write(&path, "{").unwrap();
        assert!(NodeRecord::load(&path).is_err());
    }
}
