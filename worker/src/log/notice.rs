//! `notice.log`: what a person should look at. A notice that says what it is about is not told
//! again for a while: by this worker, and in a cluster by any other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tyto_core::net::{ConnId, Port, Proto};
use tyto_core::record::LogRecord;
use tyto_core::record::value::EnumName;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::{Fuid, Uid};

use super::lately::Lately;
use crate::analyzer::Cx;
use crate::analyzer::state::Shared;
use crate::flow::hash::KeyedHasher;
use crate::output::{Claim, ClaimKey, Output};

/// A notice is not told again for this long, seconds (Zeek:
/// `Notice::default_suppression_interval`).
const SUPPRESSED_S: u64 = 3600;
/// Notices that are remembered. At the limit those are forgotten that are over, else all.
const REMEMBERED_MAX: usize = 1 << 16;

/// A notice.
#[derive(Debug, LogRecord)]
#[log(stream = "notice")]
pub struct NoticeLog {
    /// When it was raised.
    pub ts: Ts,
    /// The connection, where it is about one.
    pub uid: Option<Uid>,
    /// Who with whom.
    #[log(nested)]
    pub id: Option<ConnId>,
    /// The file, where it is about one.
    pub fuid: Option<Fuid>,
    /// Type of the file by its first bytes.
    pub file_mime_type: Option<String>,
    /// What the file is.
    pub file_desc: Option<String>,
    /// Transport of the connection.
    pub proto: Option<Proto>,
    /// What it is: `Weird::Activity`.
    pub note: EnumName,
    /// In a sentence.
    pub msg: Option<String>,
    /// A sentence more.
    pub sub: Option<String>,
    /// Who did it.
    pub src: Option<IpAddr>,
    /// To whom.
    pub dst: Option<IpAddr>,
    /// Port that was asked for.
    pub p: Option<Port>,
    /// How often, or a status.
    pub n: Option<u64>,
    /// The node that raised it.
    pub peer_descr: Option<String>,
    /// What is done with it.
    pub actions: BTreeSet<EnumName>,
    /// Whom it is sent to.
    pub email_dest: BTreeSet<String>,
    /// How long the same is not told again.
    pub suppress_for: Interval,
}

/// What is worth a notice.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Kind, by Zeek's name.
    pub note: &'static str,
    /// In a sentence.
    pub msg: String,
    /// A sentence more.
    pub sub: Option<String>,
    /// What it is about: the same is not told again for a while. Without, each is told.
    pub identifier: Option<String>,
    /// The connection.
    pub uid: Option<Uid>,
    /// Its four fields.
    pub id: Option<ConnId>,
    /// Its transport.
    pub proto: Option<Proto>,
    /// The file.
    pub fuid: Option<Fuid>,
    /// Type of the file.
    pub file_mime_type: Option<String>,
    /// What the file is.
    pub file_desc: Option<String>,
    /// Who did it; the originator where it is about a connection.
    pub src: Option<IpAddr>,
    /// To whom; the responder where it is about a connection.
    pub dst: Option<IpAddr>,
    /// How often, or a status.
    pub n: Option<u64>,
}

/// Knows which notices were told.
#[derive(Debug)]
pub struct Notices {
    told: Lately<(&'static str, String)>,
}

impl Notice {
    /// A notice of kind `note` that is about nothing yet.
    pub const fn new(note: &'static str, msg: String) -> Self {
        Self {
            note,
            msg,
            sub: None,
            identifier: None,
            uid: None,
            id: None,
            proto: None,
            fuid: None,
            file_mime_type: None,
            file_desc: None,
            src: None,
            dst: None,
            n: None,
        }
    }
}

impl Notices {
    /// None was told yet; they are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self { told: Lately::new(hasher, SUPPRESSED_S, REMEMBERED_MAX) }
    }

    /// Notices forgotten at the limit.
    pub const fn forgotten(&self) -> u64 {
        self.told.forgotten()
    }
}

impl Shared {
    /// Tells `notice`, unless the same was told lately.
    pub fn notice(&mut self, now: Ts, notice: Notice, out: &mut Output) {
        let about = notice.identifier.map(|identifier| (notice.note, identifier));
        let claim = about.as_ref().map(|(note, identifier)| Claim {
            table: NoticeLog::STREAM,
            key: ClaimKey::of_parts(&[note.as_bytes(), identifier.as_bytes()]),
            ts: now,
            expiry_s: SUPPRESSED_S,
        });
        if about.is_some_and(|about| !self.notices.told.is_new(about, now)) {
            return;
        }
        let (src, dst) = (notice.id.map(|id| id.orig_h), notice.id.map(|id| id.resp_h));
        let row = NoticeLog {
            ts: now,
            uid: notice.uid,
            id: notice.id,
            fuid: notice.fuid,
            file_mime_type: notice.file_mime_type,
            file_desc: notice.file_desc,
            proto: notice.proto,
            note: EnumName(notice.note),
            msg: Some(notice.msg),
            sub: notice.sub,
            src: notice.src.or(src),
            dst: notice.dst.or(dst),
            p: notice.id.map(|id| id.resp_p),
            n: notice.n,
            peer_descr: (!self.config.peer.is_empty()).then(|| self.config.peer.clone()),
            actions: BTreeSet::from([EnumName("Notice::ACTION_LOG")]),
            email_dest: BTreeSet::new(),
            suppress_for: Interval::from_secs(SUPPRESSED_S.cast_signed()),
        };
        match claim {
            Some(claim) => out.claim(claim, &row),
            None => out.row(&row),
        }
    }
}

impl Cx<'_> {
    /// Something on this connection is worth a person's look: `note` as Zeek names it
    /// (`FTP::Bounce`). Told each time it happens.
    pub fn notice(&mut self, note: &'static str, msg: &str, sub: &str) {
        let notice =
            Notice { sub: (!sub.is_empty()).then(|| sub.to_owned()), ..self.about(note, msg) };
        self.shared.notice(self.now, notice, self.out);
    }

    /// The same, not told again for an hour where `identifier` was told.
    pub fn notice_once(&mut self, note: &'static str, msg: &str, sub: &str, identifier: &str) {
        let notice = Notice {
            sub: (!sub.is_empty()).then(|| sub.to_owned()),
            identifier: Some(identifier.to_owned()),
            ..self.about(note, msg)
        };
        self.shared.notice(self.now, notice, self.out);
    }

    fn about(&self, note: &'static str, msg: &str) -> Notice {
        Notice {
            uid: Some(self.uid()),
            id: Some(self.id()),
            proto: Some(self.proto),
            ..Notice::new(note, msg.to_owned())
        }
    }
}
