//! Rows of transfers whose data connection another worker may see: they wait a moment for what
//! that one tells of the file.

use std::collections::VecDeque;

use tyto_core::time::{Interval, Ts};

use super::address::Endpoint;
use super::data;
use super::log::FtpLog;
use crate::analyzer::Cx;

/// How long a row waits: what it waits for is on its way already, for milliseconds as a rule.
const HOLD: Interval = Interval::from_secs(1);
/// Rows of a session that wait. Past it the oldest is written as it stands.
const HELD_MAX: usize = 16;

/// The rows of a session that wait.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<HeldRow>);

#[derive(Debug)]
struct HeldRow {
    row: FtpLog,
    /// Where the data connection was announced.
    to: Endpoint,
    until: Ts,
}

impl Held {
    /// `row` waits for what the data connection to `to` carries.
    pub(super) fn hold(&mut self, row: FtpLog, to: Endpoint, cx: &mut Cx<'_>) {
        if self.0.len() >= HELD_MAX {
            self.write_first(cx);
        }
        let until = cx.now + HOLD;
        cx.wake_at(until);
        self.0.push_back(HeldRow { row, to, until });
    }

    /// Writes what waited long enough.
    pub(super) fn wake(&mut self, cx: &mut Cx<'_>) {
        while let Some(first) = self.0.front() {
            if first.until > cx.now {
                cx.wake_at(first.until);
                return;
            }
            self.write_first(cx);
        }
    }

    /// Writes all.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        while !self.0.is_empty() {
            self.write_first(cx);
        }
    }

    fn write_first(&mut self, cx: &mut Cx<'_>) {
        let Some(HeldRow { mut row, to, .. }) = self.0.pop_front() else { return };
        let seen = data::take_seen_elsewhere(to, cx);
        row.fuid = row.fuid.or(seen.fuid);
        row.mime_type = row.mime_type.or(seen.mime_type.map(Into::into));
        cx.row(&row);
    }
}
