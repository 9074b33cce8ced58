//! Files and shares of a connection, and what is done to them.

use tyto_core::time::{NANOS, Ts};
use tyto_core::uid::Fuid;

use super::log::TimesLog;
use crate::analyzer::windows::text;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Read,
    Write,
    Open,
    Close,
    Delete,
    Rename,
    SetAttribute,
    PrintOpen,
    PrintClose,
    /// Reading and writing of pipes and printers, which is never logged.
    Other,
}

impl Action {
    /// How the log spells it; `None` when it is not logged.
    pub(super) const fn logged(self) -> Option<&'static str> {
        match self {
            Self::Open => Some("SMB::FILE_OPEN"),
            Self::Delete => Some("SMB::FILE_DELETE"),
            Self::Rename => Some("SMB::FILE_RENAME"),
            Self::PrintOpen => Some("SMB::PRINT_OPEN"),
            Self::PrintClose => Some("SMB::PRINT_CLOSE"),
            Self::Read | Self::Write | Self::Close | Self::SetAttribute | Self::Other => None,
        }
    }
}

/// Windows times of a file, in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) modified: u64,
    pub(super) accessed: u64,
    pub(super) created: u64,
    pub(super) changed: u64,
}

impl Times {
    /// Zeek leaves times out that are not of this age: pipes have none.
    pub(super) fn is_known(self) -> bool {
        text::filetime(self.modified) > 0.0
    }

    pub(super) fn row(self) -> TimesLog {
        TimesLog {
            modified: when(self.modified),
            accessed: when(self.accessed),
            created: when(self.created),
            changed: when(self.changed),
        }
    }
}

/// Rounded from the part below the second: with the seconds in front, the product would be
/// rounded once more. Times before 1677 do not fit, and are shown as then.
fn when(ticks: u64) -> Ts {
    let seconds = text::filetime(ticks);
    #[expect(clippy::cast_possible_truncation, reason = "casts saturate")]
    let [whole, micros] = [seconds as i64, (seconds.fract() * 1e6).round_ties_even() as i64];
    Ts::signed(whole.saturating_mul(NANOS.cast_signed()).saturating_add(micros * 1000))
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) ts: Ts,
    pub(super) fuid: Option<Fuid>,
    pub(super) action: Option<Action>,
    pub(super) path: Option<Vec<u8>>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: u64,
    pub(super) prev_name: Option<Vec<u8>>,
    pub(super) times: Option<Times>,
}

impl File {
    pub(super) const fn new(ts: Ts) -> Self {
        Self {
            ts,
            fuid: None,
            action: None,
            path: None,
            name: None,
            size: 0,
            prev_name: None,
            times: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) ts: Ts,
    pub(super) path: Option<Vec<u8>>,
    pub(super) service: Option<Vec<u8>>,
    pub(super) native_file_system: Option<Vec<u8>>,
    pub(super) share_type: String,
}

impl Tree {
    pub(super) fn new(ts: Ts) -> Self {
        let share_type = "DISK".to_owned();
        Self { ts, path: None, service: None, native_file_system: None, share_type }
    }
}
