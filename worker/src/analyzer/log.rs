//! `analyzer.log`: protocols that were recognised and turned out to be something else, or broke.

use tyto_core::net::{ConnId, Proto};
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::{Fuid, Uid};

use super::Spec;
use super::cx::{Cx, Violation};

/// An analysis that ended with a violation.
#[derive(Debug, LogRecord)]
#[log(stream = "analyzer")]
pub struct AnalyzerLog {
    /// When it ended.
    pub ts: Ts,
    /// `packet`, `file` or `protocol`.
    pub analyzer_kind: &'static str,
    /// Name of the analyzer: `HTTP`.
    pub analyzer_name: &'static str,
    /// The connection.
    pub uid: Option<Uid>,
    /// The file.
    pub fuid: Option<Fuid>,
    /// Who with whom.
    #[log(nested)]
    pub id: Option<ConnId>,
    /// Transport of the connection.
    pub proto: Option<Proto>,
    /// What was wrong.
    pub failure_reason: String,
    /// The bytes that were wrong, their begin.
    pub failure_data: Option<Vec<u8>>,
}

/// Writes the row of a confirmed analyzer that failed.
pub(super) fn failed(spec: &Spec, violation: &Violation, cx: &mut Cx<'_>) {
    let row = AnalyzerLog {
        ts: cx.now,
        analyzer_kind: "protocol",
        analyzer_name: spec.name,
        uid: Some(cx.uid()),
        fuid: None,
        id: Some(cx.id()),
        proto: Some(cx.proto),
        failure_reason: violation.reason.clone(),
        failure_data: (!violation.bytes.is_empty()).then(|| violation.bytes.clone()),
    };
    cx.row(&row);
}
