//! `files.log`: one row per file and connection that carried it, written when the file is over.

use std::collections::BTreeSet;

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::{Fuid, Uid};

/// A file.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "files")]
pub struct FilesLog {
    /// When it was first seen.
    pub ts: Ts,
    /// Id of the file.
    pub fuid: Fuid,
    /// The connection that carried it.
    pub uid: Option<Uid>,
    /// Who with whom.
    #[log(nested)]
    pub id: Option<ConnId>,
    /// The protocol that it came from.
    pub source: Option<&'static str>,
    /// How deep in its source: of HTTP the number of the request, of mail that of the part.
    pub depth: u64,
    /// What was done with it.
    pub analyzers: BTreeSet<&'static str>,
    /// Type by its first bytes, or by what its protocol says where that leaves no choice.
    pub mime_type: Option<&'static str>,
    /// Its name, where the protocol has one.
    pub filename: Option<String>,
    /// First to last byte.
    pub duration: Interval,
    /// It came from a local host; unset when no network is local.
    pub local_orig: Option<bool>,
    /// The originator of the connection sent it.
    pub is_orig: Option<bool>,
    /// Bytes that were analysed.
    pub seen_bytes: u64,
    /// Bytes that it should have.
    pub total_bytes: Option<u64>,
    /// Bytes that were not captured.
    pub missing_bytes: u64,
    /// Bytes that came out of order, too far apart to be put together.
    pub overflow_bytes: u64,
    /// Nothing came for so long that its end was not waited for.
    pub timedout: bool,
    /// The file that it is part of.
    pub parent_fuid: Option<Fuid>,
    /// MD5 of a file without gaps, hexadecimal.
    pub md5: Option<String>,
    /// SHA-1.
    pub sha1: Option<String>,
    /// SHA-256.
    pub sha256: Option<String>,
    /// Name of the file into which it was extracted.
    pub extracted: Option<String>,
    /// It was longer than what is extracted at most.
    pub extracted_cutoff: Option<bool>,
    /// Bytes extracted, where it was cut off.
    pub extracted_size: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_zeeks_in_zeeks_order() {
        let names: Vec<_> =
            FilesLog::schema().fields.iter().map(|field| field.name.to_string()).collect();
        assert_eq!(
            names.join(" "),
            "ts fuid uid id.orig_h id.orig_p id.resp_h id.resp_p source depth analyzers \
             mime_type filename duration local_orig is_orig seen_bytes total_bytes missing_bytes \
             overflow_bytes timedout parent_fuid md5 sha1 sha256 extracted extracted_cutoff \
             extracted_size"
        );
    }
}
