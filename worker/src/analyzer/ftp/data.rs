//! FTP's data connections: announced by a control connection, each carries one file (or a
//! listing), which is handed to the file analysis. What it turned out to be goes back to the
//! session whose row names it.

use hashbrown::HashMap;
use tyto_core::net::Side;
use tyto_core::time::Ts;
use tyto_core::uid::Fuid;

use super::address::Endpoint;
use crate::analyzer::{Analyzer, Cx, Spec};
use crate::decode::addr::Addr;
use crate::file::{FileAbout, FileRef, magic};
use crate::flow::hash::KeyedHasher;

/// How long a data connection is waited for, seconds.
pub const DATA_TIMEOUT_S: u64 = 300;
/// Data connections that are waited for at a time (Zeek: `max_expected_data_channels`).
const EXPECTED_MAX: usize = 100_000;
/// Sessions that are told what their data connections carried.
const SESSIONS_MAX: usize = 100_000;
/// Bytes after which a session is told what its transfer looks like.
const IDENTIFY_LEN: usize = 1024;

/// The data connection of FTP.
pub static SPEC: Spec = Spec {
    name: "FTP_DATA",
    ports: &[],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(FtpData::default()),
};

/// What sessions and their data connections know of each other.
#[derive(Debug)]
pub struct Channels {
    expected: HashMap<(Addr, u16), Waiting, KeyedHasher>,
    seen: HashMap<u64, Seen, KeyedHasher>,
    /// When `expected` is looked through for what is over.
    next_sweep: Ts,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The control connection's serial number.
    session: u64,
    expires: Ts,
}

/// What a data connection carried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Type of the file by its content.
    pub mime_type: Option<&'static str>,
    /// Its id.
    pub fuid: Option<Fuid>,
}

impl Channels {
    /// None yet; endpoints are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            expected: HashMap::with_hasher(hasher.clone()),
            seen: HashMap::with_hasher(hasher),
            next_sweep: Ts::new(0, 0),
        }
    }

    /// The session that announced a connection to `to`. Asking keeps it alive.
    fn session_of(&mut self, to: (Addr, u16), now: Ts) -> Option<u64> {
        let waiting = self.expected.get_mut(&to).filter(|waiting| waiting.expires >= now)?;
        waiting.expires = now.plus_secs(DATA_TIMEOUT_S);
        Some(waiting.session)
    }

    fn sweep(&mut self, now: Ts) {
        if self.next_sweep <= now {
            self.expected.retain(|_, waiting| waiting.expires >= now);
            self.next_sweep = now.plus_secs(DATA_TIMEOUT_S);
        }
    }
}

/// The session of `cx` announced a data connection. False when too many are waited for.
pub(super) fn expect(to: Endpoint, cx: &mut Cx<'_>) -> bool {
    let (key, now) = ((Addr::from(to.addr), to.port), cx.now);
    let channels = &mut cx.shared.ftp_channels;
    channels.sweep(now);
    if channels.expected.len() >= EXPECTED_MAX && !channels.expected.contains_key(&key) {
        let waiting = channels.expected.len().to_string();
        cx.weird_with("FTP_too_many_expected_data_channels", &waiting);
        return false;
    }
    let session = cx.conn.serial;
    let expires = now.plus_secs(DATA_TIMEOUT_S);
    channels.expected.insert(key, Waiting { session, expires });
    true
}

/// What the data connections of the session of `cx` carried since it was asked last.
pub(super) fn take_seen(cx: &mut Cx<'_>) -> Seen {
    cx.shared.ftp_channels.seen.remove(&cx.conn.serial).unwrap_or_default()
}

/// The session of `cx` is over.
pub(super) fn forget_session(cx: &mut Cx<'_>) {
    cx.shared.ftp_channels.seen.remove(&cx.conn.serial);
}

#[derive(Debug, Default)]
struct FtpData {
    /// Files by the side that sends them.
    files: [Option<FileRef>; 2],
    /// The first bytes that came, of either side, until they are enough to tell a type.
    first: Vec<u8>,
    is_identified: bool,
}

impl FtpData {
    fn file(&mut self, side: Side, cx: &mut Cx<'_>) -> Option<FileRef> {
        let known = self.files.get_mut(side.index())?;
        if known.is_none() {
            let session = session(cx)?;
            let mut handle = b"FTP_DATA".to_vec();
            handle.extend_from_slice(&cx.conn.serial.to_be_bytes());
            handle.push(u8::from(side == Side::Orig));
            let file = cx.file_open(side, &handle, &FileAbout::default());
            tell(session, cx, |seen| seen.fuid = Some(file.fuid));
            *known = Some(file);
        }
        *known
    }

    /// Tells the session what the first bytes look like.
    fn identify(&mut self, cx: &mut Cx<'_>) {
        self.is_identified = true;
        let mime_type = magic::mime_type(&self.first).unwrap_or("<unknown>");
        self.first = Vec::new();
        is_of_type(mime_type, cx);
    }
}

impl Analyzer for FtpData {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if !self.is_identified {
            let room = IDENTIFY_LEN - self.first.len().min(IDENTIFY_LEN);
            self.first.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            if self.first.len() >= IDENTIFY_LEN {
                self.identify(cx);
            }
        }
        let Some(file) = self.file(side, cx) else { return };
        let was_known = cx.file_mime(file).is_some();
        cx.file_bytes(file, bytes);
        if !was_known && let Some(mime_type) = cx.file_mime(file) {
            is_of_type(mime_type, cx);
        }
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        if let Some(file) = self.file(side, cx) {
            cx.file_gap(file, missed_bytes);
        }
    }

    fn flipped(&mut self) {
        self.files.swap(0, 1);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if !self.is_identified && !self.first.is_empty() {
            self.identify(cx);
        }
        for file in self.files.into_iter().flatten() {
            if let Some(mime_type) = cx.file_end(file) {
                is_of_type(mime_type, cx);
            }
        }
        let key = (cx.conn.resp.addr, cx.conn.resp.port);
        cx.shared.ftp_channels.expected.remove(&key);
    }
}

/// Tells the session the type of what is transferred.
fn is_of_type(mime_type: &'static str, cx: &mut Cx<'_>) {
    if let Some(session) = session(cx) {
        tell(session, cx, |seen| seen.mime_type = Some(mime_type));
    }
}

fn session(cx: &mut Cx<'_>) -> Option<u64> {
    let key = (cx.conn.resp.addr, cx.conn.resp.port);
    cx.shared.ftp_channels.session_of(key, cx.now)
}

fn tell(session: u64, cx: &mut Cx<'_>, tell: impl FnOnce(&mut Seen)) {
    let seen = &mut cx.shared.ftp_channels.seen;
    if seen.len() < SESSIONS_MAX || seen.contains_key(&session) {
        tell(seen.entry(session).or_default());
    }
}
