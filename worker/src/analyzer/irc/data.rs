//! Files that IRC clients send each other directly (DCC SEND): announced in a message, sent
//! over a connection of their own.

use hashbrown::HashMap;
use tyto_core::net::Side;
use tyto_core::time::Ts;

use super::log::IrcLog;
use crate::analyzer::state::Shared;
use crate::analyzer::{Analyzer, Cx, Spec};
use crate::decode::addr::Addr;
use crate::file::{FileAbout, FileRef};
use crate::flow::hash::KeyedHasher;

/// How long a transfer is waited for, seconds.
pub(super) const TRANSFER_TIMEOUT_S: u64 = 300;
/// Transfers that are waited for at a time (Zeek: `max_dcc_expected_transfers`).
const TRANSFERS_MAX: usize = 5000;
/// Bytes that the file analysis needs at most to tell a type.
const SNIFF_LEN: u64 = 4096;

/// A file that is sent directly.
pub static SPEC: Spec = Spec {
    name: "IRC_DATA",
    ports: &[],
    tcp_probe: None,
    udp_probe: None,
    begin: |cx| Box::new(IrcData::new(cx)),
};

/// Transfers that were announced.
#[derive(Debug)]
pub struct Transfers {
    expected: HashMap<(Addr, u16), (Ts, IrcLog), KeyedHasher>,
}

impl Transfers {
    /// None yet; endpoints are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self { expected: HashMap::with_hasher(hasher) }
    }
}

/// A transfer was announced; `row` is what the log says of it. False when there are too many.
pub(super) fn expect(to: (Addr, u16), row: IrcLog, cx: &mut Cx<'_>) -> bool {
    let (now, expected) = (cx.now, &mut cx.shared.irc_transfers.expected);
    if expected.len() >= TRANSFERS_MAX {
        expected.retain(|_, (expires, _)| *expires >= now);
    }
    if expected.len() >= TRANSFERS_MAX {
        return false;
    }
    expected.insert(to, (now.plus_secs(TRANSFER_TIMEOUT_S), row));
    true
}

/// Another worker saw that a transfer was announced. Too many are not waited for; that worker
/// says so.
pub fn hear(shared: &mut Shared, to: (Addr, u16), row: IrcLog, now: Ts) {
    let expected = &mut shared.irc_transfers.expected;
    if expected.len() >= TRANSFERS_MAX {
        expected.retain(|_, (expires, _)| *expires >= now);
    }
    if expected.len() < TRANSFERS_MAX {
        expected.insert(to, (now.plus_secs(TRANSFER_TIMEOUT_S), row));
    }
}

#[derive(Debug)]
struct IrcData {
    file: Option<FileRef>,
    row: Option<IrcLog>,
    sent: u64,
}

impl IrcData {
    fn new(cx: &mut Cx<'_>) -> Self {
        let to = (cx.conn.resp.addr, cx.conn.resp.port);
        let waiting = cx.shared.irc_transfers.expected.remove(&to);
        let row = waiting.filter(|(expires, _)| *expires >= cx.now).map(|(_, row)| row);
        Self { file: None, row, sent: 0 }
    }

    fn file(&mut self, cx: &mut Cx<'_>) -> FileRef {
        if let Some(file) = self.file {
            return file;
        }
        let mut handle = b"IRC_DATA".to_vec();
        handle.extend_from_slice(&cx.conn.serial.to_be_bytes());
        let name = self.row.as_ref().and_then(|row| row.dcc_file_name.as_deref());
        let filename = name.map(|name| String::from_utf8_lossy(name).into_owned());
        let file = cx.file_open(Side::Resp, &handle, &FileAbout { filename, ..Default::default() });
        if let Some(row) = &mut self.row {
            row.fuid = Some(file.fuid);
        }
        self.file = Some(file);
        file
    }

    /// Writes the row once the type of the file is known, or will not be.
    fn sniffed(&mut self, mime_type: Option<&'static str>, is_all: bool, cx: &mut Cx<'_>) {
        if (mime_type.is_some() || is_all)
            && let Some(mut row) = self.row.take()
        {
            row.command = Some("DCC");
            row.dcc_mime_type = mime_type.map(str::to_owned);
            cx.row(&row);
        }
    }
}

impl Analyzer for IrcData {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        /// The receiver tells how much it has, in four bytes each time.
        const ACK_LEN: usize = 4;
        if side == Side::Orig {
            if !bytes.len().is_multiple_of(ACK_LEN) {
                cx.weird("irc_invalid_dcc_send_ack");
            }
            return;
        }
        let file = self.file(cx);
        let mime_type = cx.file_bytes(file, bytes).and_then(|fed| fed.mime_type);
        self.sent += bytes.len() as u64;
        self.sniffed(mime_type, self.sent >= SNIFF_LEN, cx);
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        if side == Side::Resp {
            let file = self.file(cx);
            cx.file_gap(file, missed_bytes);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(file) = self.file {
            let mime_type = cx.file_end(file);
            self.sniffed(mime_type, true, cx);
        }
    }
}
