//! Requests and the replies to them, matched in order (RFC 9112 section 9.3.2), as rows of
//! `http.log`. The counterpart of Zeek's scripts: events of the parser in, rows and files out.

use std::collections::{BTreeMap, BTreeSet};

use tyto_core::net::Side;
use tyto_core::record::value::Vector;
use tyto_core::uid::Fuid;

use super::super::Cx;
use super::super::mime::decode::Base64;
use super::super::mime::filename;
use super::super::mime::header::{Header, skip_blanks};
use super::handshake::Handshake;
use super::log::HttpLog;
use crate::file::handle::Handle;
use crate::file::{FileAbout, FileRef};
use crate::log::software::SoftwareSeen;

/// Requests without a reply that are kept (Zeek: `max_pending_requests`). One more, and all are
/// written as they are.
const PENDING_MAX: usize = 100;
/// Files of one side that a row names (Zeek: `max_files_orig`, `max_files_resp`).
const FILES_MAX: usize = 15;
/// Files of range requests of which it is kept that they were seen on this connection.
const RANGE_FILES_MAX: usize = 64;

/// Methods that are no weird (Zeek: `HTTP::http_methods`).
const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"HEAD",
    b"OPTIONS",
    b"PUT",
    b"DELETE",
    b"TRACE",
    b"CONNECT",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"POLL",
    b"REPORT",
    b"SUBSCRIBE",
    b"BMOVE",
    b"SEARCH",
];

/// Headers that proxies set, upper case as the row shows them (Zeek: `HTTP::proxy_headers`).
const PROXY_HEADERS: &[&str] = &[
    "FORWARDED",
    "X-FORWARDED-FOR",
    "X-FORWARDED-FROM",
    "CLIENT-IP",
    "VIA",
    "XROXY-CONNECTION",
    "PROXY-CONNECTION",
];

/// What is pending on one connection.
#[derive(Debug, Default)]
pub struct Transactions {
    /// Mostly one: each in a place of its own, for a node of the tree has room for eleven.
    pending: BTreeMap<u64, Box<Transaction>>,
    /// The one that was written last: what comes late still belongs to it.
    written: Option<(u64, Box<Transaction>)>,
    /// The one that was spoken of last, whichever side spoke (Zeek: `c$http`).
    current: Option<u64>,
    request: u64,
    reply: u64,
    depth: u64,
    /// Files of which ranges came, each with the transaction that brought the first.
    range_files: Vec<(Fuid, u64)>,
    websocket: Option<Box<Handshake>>,
}

/// One request and its reply.
#[derive(Debug)]
struct Transaction {
    row: HttpLog,
    is_range_request: bool,
    /// Entities so far, by [`Side::index`].
    entities: [u64; 2],
    entity: Option<EntityNotes>,
}

/// What the headers of the entity say that is being read.
#[derive(Debug, Default)]
struct EntityNotes {
    filename: Option<Vec<u8>>,
}

/// A file of a body, and the row that names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyFile {
    pub(super) file: FileRef,
    transaction: u64,
    side: Side,
    has_type: bool,
}

impl Transactions {
    /// Calls `call` with those of the connection. HTTP inside of HTTP (CONNECT, Upgrade) goes on
    /// counting where the outer one stopped, as in Zeek, whose scripts see one connection.
    pub(super) fn with<T>(cx: &mut Cx<'_>, call: impl FnOnce(&mut Self, &mut Cx<'_>) -> T) -> T {
        let mut own = cx.conn.http.take().unwrap_or_default();
        let told = call(&mut own, cx);
        cx.conn.http = Some(own);
        told
    }

    /// A request line came.
    pub(super) fn request(&mut self, method: &[u8], uri: Vec<u8>, cx: &mut Cx<'_>) {
        if self.request < self.reply {
            cx.weird_without_source("HTTP_response_before_request", "");
            self.request = self.reply;
        }
        if self.pending.len() > PENDING_MAX {
            self.write_excess(cx);
        }
        // Another handshake may follow, inside of the first.
        self.websocket = None;
        self.request += 1;
        let transaction = self.of_side(Side::Orig, cx);
        transaction.row.method = Some(method.to_vec());
        transaction.row.uri = Some(uri);
        if !METHODS.contains(&method) {
            cx.weird_without_source("unknown_HTTP_method", &String::from_utf8_lossy(method));
        }
    }

    /// A status line came.
    pub(super) fn reply(&mut self, version: String, code: u64, reason: &[u8], cx: &mut Cx<'_>) {
        let goes_on = self.pending.get(&self.reply).is_some_and(|transaction| {
            transaction.row.status_code.is_none_or(|code| (100..200).contains(&code))
        });
        if !goes_on {
            self.reply += 1;
        }
        let row = &mut self.of_side(Side::Resp, cx).row;
        row.status_code = Some(code);
        row.status_msg = Some(reason.to_vec());
        row.version = Some(version);
        if (100..200).contains(&code) {
            row.info_code = Some(code);
            row.info_msg = Some(reason.to_vec());
        }
        if code == 200 && row.method.as_deref() == Some(b"CONNECT".as_slice()) {
            cx.tunnel("Tunnel::HTTP");
        }
    }

    /// A header came.
    pub(super) fn header(&mut self, side: Side, header: &Header<'_>, cx: &mut Cx<'_>) {
        Handshake::header(&mut self.websocket, side, header, cx);
        let transaction = self.of_side(side, cx);
        if side == Side::Orig {
            request_header(&mut transaction.row, &mut transaction.is_range_request, header, cx);
        }
        let Some(entity) = &mut transaction.entity else {
            cx.weird("missing_HTTP_entity");
            return software(side, header, cx);
        };
        let name = filename::of_header(header);
        if name.is_some() {
            entity.filename = name;
        }
        software(side, header, cx);
    }

    /// A body, or a part of one, begins with its headers.
    pub(super) fn begin_entity(&mut self, side: Side, cx: &mut Cx<'_>) {
        let transaction = self.of_side(side, cx);
        if let Some(count) = transaction.entities.get_mut(side.index()) {
            *count += 1;
        }
        transaction.entity = Some(EntityNotes::default());
    }

    /// It is over.
    pub(super) fn end_entity(&mut self) {
        if let Some(transaction) = self.current_mut() {
            transaction.entity = None;
        }
    }

    /// The message of `side` is over; with the reply's, the row is written.
    pub(super) fn message_done(&mut self, side: Side, body_bytes: u64, cx: &mut Cx<'_>) {
        let row = &mut self.of_side(side, cx).row;
        match side {
            Side::Orig => row.request_body_len = body_bytes,
            Side::Resp => {
                row.response_body_len = body_bytes;
                if row.status_code.is_none_or(|code| !(100..200).contains(&code)) {
                    self.write(self.reply, cx);
                }
            }
        }
    }

    /// The file that the entity of `side` is, which is being read; begun if it is new. The entity
    /// keeps `handle`.
    pub(super) fn open_file(
        &mut self,
        side: Side,
        handle: &mut Option<Handle>,
        cx: &mut Cx<'_>,
    ) -> Option<BodyFile> {
        let transaction = self.current?;
        let current = self.current()?;
        let is_range = current.is_range_request && side == Side::Resp;
        let handle =
            handle.get_or_insert_with(|| current.file_handle(side, is_range, cx)).as_bytes();
        let filename = current.entity.as_ref().and_then(|entity| entity.filename.clone());
        let about = FileAbout {
            filename: filename.as_deref().map(|name| String::from_utf8_lossy(name).into_owned()),
            ..FileAbout::default()
        };
        let fuid = cx.shared.files.fuid(handle);
        let was_open = cx.file_is_open(FileRef { fuid });
        // The row of a range names the type only if it brought the first bytes.
        let has_type = was_open && cx.file_mime(FileRef { fuid }).is_some();
        let file = cx.file_open(side, handle, &about);
        let first = self.range_files.iter().find(|(fuid, _)| is_range && *fuid == file.fuid);
        let first = first.map(|(_, first)| *first);
        if !was_open || first.is_none() {
            self.name_file(side, file.fuid, filename);
        }
        if is_range && first.is_none() && self.range_files.len() < RANGE_FILES_MAX {
            self.range_files.push((file.fuid, transaction));
        }
        // Where a connection brings several ranges, the row of the first names the type.
        Some(BodyFile { file, transaction: first.unwrap_or(transaction), side, has_type })
    }

    /// The type of `file` is `mime_type`, once that is known.
    pub(super) fn set_type(&mut self, file: &mut BodyFile, mime_type: Option<&str>) {
        let (Some(mime_type), false) = (mime_type, file.has_type) else { return };
        file.has_type = true;
        let transaction = file.transaction;
        let Some(transaction) = self.find_mut(transaction) else { return };
        let types = match file.side {
            Side::Orig => &mut transaction.row.orig_mime_types,
            Side::Resp => &mut transaction.row.resp_mime_types,
        };
        push_within_limit(types, mime_type.to_owned());
    }

    /// The connection was upgraded to WebSocket.
    pub(super) fn websocket(&mut self, cx: &mut Cx<'_>) {
        let mut row = Handshake::established(self.websocket.take(), cx);
        if let Some(transaction) = self.current() {
            let http = &transaction.row;
            row.host.clone_from(&http.host);
            row.uri.clone_from(&http.uri);
            row.user_agent.clone_from(&http.user_agent);
        }
        cx.row(&row);
    }

    /// Writes what is still pending: the connection is over.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        for (number, transaction) in std::mem::take(&mut self.pending) {
            // Zeek keeps what belongs to no message under 0 and never writes it.
            if number != 0 {
                cx.row(&transaction.row);
            }
        }
    }

    fn name_file(&mut self, side: Side, fuid: Fuid, filename: Option<Vec<u8>>) {
        let Some(transaction) = self.current_mut() else { return };
        let row = &mut transaction.row;
        let (fuids, filenames) = match side {
            Side::Orig => (&mut row.orig_fuids, &mut row.orig_filenames),
            Side::Resp => (&mut row.resp_fuids, &mut row.resp_filenames),
        };
        if push_within_limit(fuids, fuid)
            && let Some(filename) = filename
        {
            push_within_limit(filenames, filename);
        }
    }

    /// The transaction that `side` speaks of; begun if it is new (Zeek: `set_state`).
    fn of_side(&mut self, side: Side, cx: &Cx<'_>) -> &mut Transaction {
        let number = if side == Side::Orig { self.request } else { self.reply };
        self.current = Some(number);
        let depth = &mut self.depth;
        self.pending.entry(number).or_insert_with(|| {
            *depth += 1;
            Box::new(Transaction {
                row: HttpLog::new(cx.now, cx.uid(), cx.id(), *depth),
                is_range_request: false,
                entities: [0; 2],
                entity: None,
            })
        })
    }

    fn current(&self) -> Option<&Transaction> {
        let number = self.current?;
        let written = self.written.as_ref().filter(|written| written.0 == number);
        self.pending
            .get(&number)
            .or_else(|| written.map(|written| &written.1))
            .map(|found| &**found)
    }

    fn current_mut(&mut self) -> Option<&mut Transaction> {
        self.find_mut(self.current?)
    }

    fn find_mut(&mut self, number: u64) -> Option<&mut Transaction> {
        let written = self.written.as_mut().filter(|written| written.0 == number);
        let found = self.pending.get_mut(&number).or_else(|| written.map(|written| &mut written.1));
        found.map(|found| &mut **found)
    }

    fn write(&mut self, number: u64, cx: &mut Cx<'_>) {
        if let Some(transaction) = self.pending.remove(&number) {
            cx.row(&transaction.row);
            self.written = Some((number, transaction));
        }
    }

    fn write_excess(&mut self, cx: &mut Cx<'_>) {
        let limit = format!("{} > {PENDING_MAX}", self.pending.len());
        cx.weird_with("HTTP_excessive_pipelining", &limit);
        self.reply = self.reply.max(1);
        while self.reply < self.request {
            self.write(self.reply, cx);
            self.reply += 1;
        }
    }
}

impl Transaction {
    /// What tells the file from others (Zeek: `HTTP::get_file_handle`). Pieces that were asked
    /// for by range are one file, on however many connections they come.
    fn file_handle(&self, side: Side, is_range: bool, cx: &Cx<'_>) -> Handle {
        let (handle, is_orig, id) = (Handle::of("HTTP"), side == Side::Orig, cx.id());
        if is_range {
            return handle.sender(is_orig).addr(id.orig_h).text(&self.url());
        }
        let entities = self.entities.get(side.index()).copied().unwrap_or_default();
        let handle = handle.time(cx.conn.start).sender(is_orig);
        handle.number(self.row.trans_depth).number(entities).id(&id)
    }

    /// What was asked for, without the scheme (Zeek: `HTTP::build_url`).
    fn url(&self) -> Vec<u8> {
        let uri = self.row.uri.as_deref().unwrap_or(b"/<missed_request>");
        if memchr::memmem::find(uri, b"://").is_some() {
            return uri.to_vec();
        }
        let id = &self.row.id;
        let mut url = match &self.row.host {
            Some(host) => host.clone(),
            None => id.resp_h.to_string().into_bytes(),
        };
        if id.resp_p.0 != 80 {
            url.extend_from_slice(format!(":{}", id.resp_p.0).as_bytes());
        }
        url.extend_from_slice(uri);
        url
    }
}

fn push_within_limit<T>(list: &mut Option<Vector<T>>, value: T) -> bool {
    let list = &mut list.get_or_insert_with(|| Vector(Vec::new())).0;
    if list.len() >= FILES_MAX {
        return false;
    }
    list.push(value);
    true
}

fn request_header(
    row: &mut HttpLog,
    is_range_request: &mut bool,
    header: &Header<'_>,
    cx: &mut Cx<'_>,
) {
    let value = || Some(header.value.to_vec());
    if header.is(b"host") {
        row.host = value();
    } else if header.is(b"user-agent") {
        row.user_agent = value();
    } else if header.is(b"referer") {
        row.referrer = value();
    } else if header.is(b"range") {
        *is_range_request = true;
    } else if header.is(b"origin") {
        row.origin = value();
    } else if header.is(b"authorization") || header.is(b"proxy-authorization") {
        authorization(row, header.value, cx);
    } else if let Some(name) = PROXY_HEADERS.iter().find(|name| header.is(name.as_bytes())) {
        let shown = [name.as_bytes(), b" -> ", header.value].concat();
        row.proxied.get_or_insert_with(BTreeSet::new).insert(shown);
    }
}

/// Basic authentication (RFC 7617).
fn authorization(row: &mut HttpLog, value: &[u8], cx: &mut Cx<'_>) {
    let Some((scheme, encoded)) = value.split_at_checked(6) else { return };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return;
    }
    let encoded = skip_blanks(encoded);
    let mut base64 = Base64::default();
    let mut decoded = Vec::with_capacity(encoded.len());
    base64.decode(encoded, &mut decoded, cx);
    if base64.has_erred() {
        decoded.clear();
    } else {
        base64.finish(&mut decoded, cx);
    }
    let shows_password = cx.shared.config.log_passwords;
    match memchr::memchr(b':', &decoded) {
        Some(colon) => {
            row.username = decoded.get(..colon).map(<[u8]>::to_vec);
            if shows_password {
                row.password = decoded.get(colon + 1..).map(<[u8]>::to_vec);
            }
        }
        None => {
            row.username = Some([b"<problem-decoding> (", value, b")"].concat());
            if shows_password {
                row.password = Some(decoded);
            }
        }
    }
}

/// Programs that name themselves (Zeek: `protocols/http/software`).
fn software(side: Side, header: &Header<'_>, cx: &mut Cx<'_>) {
    let id = cx.id();
    let server = |software_type, unparsed_version| SoftwareSeen {
        software_type,
        host: id.resp_h,
        host_p: Some(id.resp_p.0),
        unparsed_version,
    };
    match side {
        Side::Orig if header.is(b"user-agent") => cx.software(&SoftwareSeen {
            software_type: "HTTP::BROWSER",
            host: id.orig_h,
            host_p: None,
            unparsed_version: header.value,
        }),
        Side::Resp if header.is(b"server") => cx.software(&server("HTTP::SERVER", header.value)),
        Side::Resp if header.is(b"x-powered-by") => {
            cx.software(&server("HTTP::APPSERVER", header.value));
        }
        Side::Resp if header.is(b"microsoftsharepointteamservices") => {
            let version = [b"SharePoint/", header.value].concat();
            cx.software(&server("HTTP::APPSERVER", &version));
        }
        _ => {}
    }
}
