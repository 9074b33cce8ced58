//! `smb_files.log` and `smb_mapping.log`.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::record::value::EnumName;
use tyto_core::time::Ts;
use tyto_core::uid::{Fuid, Uid};

/// Something done to a file.
#[derive(Debug, LogRecord)]
#[log(stream = "smb_files")]
pub struct SmbFilesLog {
    /// When the file was first seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Id of the file in files.log, once its content was seen.
    pub fuid: Option<Fuid>,
    /// What was done.
    pub action: Option<EnumName>,
    /// Share that it is on.
    pub path: Option<Vec<u8>>,
    /// Its name.
    pub name: Option<Vec<u8>>,
    /// Its size in bytes.
    pub size: u64,
    /// Its name before, if it was renamed.
    pub prev_name: Option<Vec<u8>>,
    /// When it was last modified and so on.
    #[log(nested)]
    pub times: Option<TimesLog>,
}

/// Times of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, LogRecord)]
pub struct TimesLog {
    /// Content last changed.
    pub modified: Ts,
    /// Last read.
    pub accessed: Ts,
    /// Made.
    pub created: Ts,
    /// Attributes last changed.
    pub changed: Ts,
}

/// A share that was mapped.
#[derive(Debug, LogRecord)]
#[log(stream = "smb_mapping")]
pub struct SmbMappingLog {
    /// When it was asked for.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Its name.
    pub path: Option<Vec<u8>>,
    /// What it is by the name of SMB 1: `A:`, `IPC`, `LPT1:`.
    pub service: Option<Vec<u8>>,
    /// Its file system.
    pub native_file_system: Option<Vec<u8>>,
    /// `DISK`, `PIPE`, or `PRINT`.
    pub share_type: String,
}
