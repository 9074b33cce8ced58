//! FTP's data connections: announced by a control connection, each carries one file (or a
//! listing), which is handed to the file analysis. What it turned out to be goes back to the
//! session whose row names it.

use std::borrow::Cow;

use hashbrown::HashMap;
use tyto_core::net::Side;
use tyto_core::time::Ts;
use tyto_core::uid::Fuid;

use super::address::Endpoint;
use crate::analyzer::state::Shared;
use crate::analyzer::{Analyzer, Cx, Spec};
use crate::decode::addr::Addr;
use crate::file::{FileAbout, FileRef, magic};
use crate::flow::hash::KeyedHasher;
use crate::neighbours::{Note, SessionAt, Transferred};

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
    /// What other workers saw, by session and endpoint, until when it waits to be asked for.
    elsewhere: HashMap<(u64, Addr, u16), (Ts, Seen), KeyedHasher>,
    /// When `expected` and `elsewhere` are looked through for what is over.
    next_sweep: Ts,
}

#[derive(Clone, Debug)]
struct Waiting {
    session: Control,
    expires: Ts,
}

/// The control connection that announced a data connection.
#[derive(Clone, Debug)]
enum Control {
    /// Its serial number.
    Here(u64),
    /// Another worker sees it.
    Elsewhere(SessionAt),
}

/// What a data connection carried.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Type of the file by its content.
    pub mime_type: Option<Cow<'static, str>>,
    /// Its id.
    pub fuid: Option<Fuid>,
}

impl Channels {
    /// None yet; endpoints are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            expected: HashMap::with_hasher(hasher.clone()),
            seen: HashMap::with_hasher(hasher.clone()),
            elsewhere: HashMap::with_hasher(hasher),
            next_sweep: Ts::new(0, 0),
        }
    }

    /// The session that announced a connection to `to`. Asking keeps it alive.
    fn session_of(&mut self, to: (Addr, u16), now: Ts) -> Option<Control> {
        let waiting = self.expected.get_mut(&to).filter(|waiting| waiting.expires >= now)?;
        waiting.expires = now.plus_secs(DATA_TIMEOUT_S);
        Some(waiting.session.clone())
    }

    fn sweep(&mut self, now: Ts) {
        if self.next_sweep <= now {
            self.expected.retain(|_, waiting| waiting.expires >= now);
            self.elsewhere.retain(|_, (until, _)| *until >= now);
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
    let session = Control::Here(cx.conn.serial);
    let expires = now.plus_secs(DATA_TIMEOUT_S);
    channels.expected.insert(key, Waiting { session, expires });
    true
}

/// A session that another worker sees announced a data connection. Too many are not waited for;
/// the worker that sees the session says so.
pub fn hear(shared: &mut Shared, to: (Addr, u16), session: SessionAt, now: Ts) {
    let channels = &mut shared.ftp_channels;
    channels.sweep(now);
    if channels.expected.len() < EXPECTED_MAX || channels.expected.contains_key(&to) {
        let expires = now.plus_secs(DATA_TIMEOUT_S);
        channels.expected.insert(to, Waiting { session: Control::Elsewhere(session), expires });
    }
}

/// Another worker tells what a data connection carried.
pub fn hear_transferred(shared: &mut Shared, transferred: Transferred, now: Ts) {
    let channels = &mut shared.ftp_channels;
    channels.sweep(now);
    let Transferred { session, resp, resp_port, fuid, mime_type } = transferred;
    let key = (session.serial, Addr::from(resp), resp_port);
    if channels.elsewhere.len() >= SESSIONS_MAX && !channels.elsewhere.contains_key(&key) {
        return;
    }
    let (until, seen) = channels.elsewhere.entry(key).or_default();
    *until = now.plus_secs(DATA_TIMEOUT_S);
    seen.fuid = fuid.or(seen.fuid);
    seen.mime_type = mime_type.map(Cow::Owned).or(seen.mime_type.take());
}

/// What another worker saw of the data connection to `to` of the session of `cx`.
pub(super) fn take_seen_elsewhere(to: Endpoint, cx: &mut Cx<'_>) -> Seen {
    let key = (cx.conn.serial, Addr::from(to.addr), to.port);
    let taken = cx.shared.ftp_channels.elsewhere.remove(&key);
    taken.map(|(_, seen)| seen).unwrap_or_default()
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
            tell(session, cx, &Seen { fuid: Some(file.fuid), mime_type: None });
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
        if let Some(fed) = cx.file_bytes(file, bytes).filter(|fed| fed.is_type_new)
            && let Some(mime_type) = fed.mime_type
        {
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
            // Told once: by now the session may be at its next file.
            let was_known = cx.file_mime(file).is_some();
            if let Some(mime_type) = cx.file_end(file).filter(|_| !was_known) {
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
        tell(session, cx, &Seen { fuid: None, mime_type: Some(Cow::Borrowed(mime_type)) });
    }
}

fn session(cx: &mut Cx<'_>) -> Option<Control> {
    let key = (cx.conn.resp.addr, cx.conn.resp.port);
    cx.shared.ftp_channels.session_of(key, cx.now)
}

fn tell(session: Control, cx: &mut Cx<'_>, news: &Seen) {
    let Seen { fuid, mime_type } = news;
    match session {
        Control::Here(session) => {
            let seen = &mut cx.shared.ftp_channels.seen;
            if seen.len() < SESSIONS_MAX || seen.contains_key(&session) {
                let seen = seen.entry(session).or_default();
                seen.fuid = fuid.or(seen.fuid);
                seen.mime_type = mime_type.clone().or(seen.mime_type.take());
            }
        }
        Control::Elsewhere(session) => {
            let (resp, resp_port) = (cx.conn.resp.addr.into(), cx.conn.resp.port);
            let mime_type = mime_type.as_deref().map(str::to_owned);
            let transferred = Transferred { session, resp, resp_port, fuid: *fuid, mime_type };
            // What does not fit is counted.
            drop(cx.shared.neighbours.tell(Note::Transferred(transferred)));
        }
    }
}
