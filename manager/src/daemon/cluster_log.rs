//! cluster.log, as Zeek's cluster framework has it (`Cluster::Info`): what became of which
//! node and when. Written by the manager itself, because loggers may be what it tells about.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use jiff::Zoned;
use tyto_core::record::{LogRecord, tsv};
use tyto_core::time::Ts;

/// Size at which the file makes way for a new one; one older file is kept.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A row of cluster.log.
#[derive(Debug, LogRecord)]
#[log(stream = "cluster")]
struct ClusterRow {
    /// When the manager saw it, by its wall clock.
    ts: Ts,
    /// The node that writes this row.
    node: String,
    /// What happened.
    message: String,
}

/// The file; opened with the first row.
#[derive(Debug)]
pub(crate) struct ClusterLog {
    path: PathBuf,
    node: String,
    file: Option<File>,
}

impl ClusterLog {
    /// A log at `path` of what `node` sees.
    pub(crate) fn new(path: PathBuf, node: &str) -> Self {
        Self { path, node: node.to_owned(), file: None }
    }

    /// Appends a row.
    ///
    /// # Errors
    /// When it cannot be written; the row is lost then, the next one is tried again.
    pub(crate) fn append(&mut self, ts: Ts, message: &str) -> io::Result<()> {
        let row = ClusterRow { ts, node: self.node.clone(), message: message.to_owned() };
        let mut line = Vec::new();
        let mut columns = tsv::TsvRow::new(&mut line);
        row.write(&mut columns);
        columns.end_row();

        let mut file = match self.file.take() {
            Some(file) if file.metadata()?.len() < FILE_BYTES_MAX => file,
            _ => self.open()?,
        };
        // In one write, so that a crash leaves the whole row or none of it.
        file.write_all(&line)?;
        self.file = Some(file);
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() >= FILE_BYTES_MAX) {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        if file.metadata()?.len() == 0 {
            let open = Zoned::now().strftime("%Y-%m-%d-%H-%M-%S").to_string();
            file.write_all(tsv::header(&ClusterRow::schema(), &open).as_bytes())?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_one_header_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.log");
        for message in ["node up: worker-1", "node down: worker-1"] {
            let mut log = ClusterLog::new(path.clone(), "manager");
            log.append(Ts::new(1_700_000_000, 500_000_000), message).unwrap();
        }
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[4], "#path\tcluster");
        assert_eq!(
            lines[6..],
            [
                "#fields\tts\tnode\tmessage",
                "#types\ttime\tstring\tstring",
                "1700000000.500000\tmanager\tnode up: worker-1",
                "1700000000.500000\tmanager\tnode down: worker-1",
            ]
        );
    }
}
