//! What is done with the content of files of certain types: each kind of analysis is a
//! [`FileSpec`] in [`FILE_SPECS`]. It begins when the type of a file is known, gets all of its
//! bytes from the first on, in order, and writes what it found when the file is over.

use std::fmt;

use tyto_core::record::LogRecord;
use tyto_core::time::Ts;

use super::File;
use crate::analyzer::log::AnalyzerLog;
use crate::analyzer::state::Shared;
use crate::output::Output;

/// The analyses, in the order in which they are called.
pub static FILE_SPECS: &[&FileSpec] = &[
    // Programs:
    &super::pe::SPEC,
    // Certificates:
    &crate::x509::file::SPEC,
    &crate::x509::ocsp::SPEC,
];

/// The analysis of one file.
pub trait FileAnalyzer: Send {
    /// The next bytes. False when no more are wanted; [`FileAnalyzer::end`] still comes.
    fn deliver(&mut self, bytes: &[u8], cx: &mut FileCx<'_>) -> bool;

    /// `missed_bytes` will never come. False when what stands behind them is not wanted.
    fn gap(&mut self, _missed_bytes: u64, _cx: &mut FileCx<'_>) -> bool {
        false
    }

    /// The file is over.
    fn end(&mut self, cx: &mut FileCx<'_>);
}

/// A kind of analysis.
pub struct FileSpec {
    /// Its name in the `analyzers` column, such as `PE`.
    pub name: &'static str,
    /// Types of files that it is for.
    pub mime_types: &'static [&'static str],
    /// Files that it is for have no row in files.log.
    pub hides_file: bool,
    /// Begins the analysis of a file.
    pub begin: fn(&File) -> Box<dyn FileAnalyzer>,
}

/// The surroundings of a call.
#[derive(Debug)]
pub struct FileCx<'a> {
    /// Packet time.
    pub now: Ts,
    /// What is known of the file.
    pub file: &'a mut File,
    /// What all connections of the worker share.
    pub shared: &'a mut Shared,
    /// Where rows go.
    pub out: &'a mut Output,
}

impl FileCx<'_> {
    /// Writes a row.
    pub fn row<R: LogRecord>(&mut self, record: &R) {
        self.out.row(record);
    }

    /// The file is not what its type says, or broken (analyzer.log).
    pub fn violation(&mut self, spec: &FileSpec, reason: impl Into<String>) {
        let conn = match self.file.conns.as_slice() {
            [conn] => Some(conn),
            _ => None,
        };
        let row = AnalyzerLog {
            ts: self.now,
            analyzer_kind: "file",
            analyzer_name: spec.name,
            uid: conn.map(|conn| conn.uid),
            fuid: Some(self.file.fuid),
            id: conn.map(|conn| conn.id),
            proto: None,
            failure_reason: reason.into(),
            failure_data: None,
        };
        self.out.row(&row);
    }
}

impl fmt::Debug for FileSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
