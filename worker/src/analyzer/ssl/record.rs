//! Records: their heads, how they come out of a byte stream, and what is in the small ones.

use std::borrow::Cow;

use super::session::Session;
use crate::analyzer::Cx;
use crate::analyzer::bytes::Cursor;

/// Alerts of one record that are told (Zeek: `SSL::max_alerts_per_record`); RFC 8446 section 5.1
/// allows one.
const ALERTS_MAX: usize = 10;

/// Bytes of a body whose memory is used again.
const RECYCLED_BYTES_MAX: usize = 256;

/// What a record carries. Messages of SSLv2 are numbered from 300 on, as in Zeek.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind(pub(super) u16);

impl Kind {
    pub(super) const CHANGE_CIPHER_SPEC: Self = Self(20);
    pub(super) const ALERT: Self = Self(21);
    pub(super) const HANDSHAKE: Self = Self(22);
    pub(super) const APPLICATION: Self = Self(23);
    pub(super) const HEARTBEAT: Self = Self(24);
    pub(super) const V2_ERROR: Self = Self(300);
    pub(super) const V2_CLIENT_HELLO: Self = Self(301);
    pub(super) const V2_CLIENT_MASTER_KEY: Self = Self(302);
    pub(super) const V2_SERVER_HELLO: Self = Self(304);
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// Bytes behind the head.
    pub(super) len: usize,
    /// Of SSLv2: the last two bytes of the head, which belong to the message.
    pub(super) v2_word: u16,
}

impl Head {
    /// Bytes of a head; of SSLv2, two of them belong to the message.
    pub(super) const LEN: usize = 5;

    pub(super) const fn of_v3([kind, _, _, high, low]: [u8; Self::LEN]) -> Self {
        let len = u16::from_be_bytes([high, low]) as usize;
        Self { kind: Kind(kind as u16), len, v2_word: 0 }
    }

    /// `None` when the message is shorter than what is read of it already.
    pub(super) fn of_v2([high, low, kind, a, b]: [u8; Self::LEN]) -> Option<Self> {
        let len = usize::from(u16::from_be_bytes([high & 0x7F, low])).checked_sub(3)?;
        let kind = Kind(Kind::V2_ERROR.0 + u16::from(kind));
        Some(Self { kind, len, v2_word: u16::from_be_bytes([a, b]) })
    }
}

/// Where one side's stream stands.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The record at hand.
    pub(super) head: Option<Head>,
    /// Its body is kept.
    pub(super) is_kept: bool,
    /// What came of the head, or of the body if it is kept.
    buffer: Vec<u8>,
    /// Bytes of a body that is not kept which have come.
    passed: usize,
}

impl Stream {
    /// Takes bytes of a head: the head when it is whole, and what stands behind it.
    pub(super) fn take_head<'a>(&mut self, bytes: &'a [u8]) -> (Option<[u8; Head::LEN]>, &'a [u8]) {
        // Nearly all heads and bodies come in one piece.
        if self.buffer.is_empty()
            && let Some((head, rest)) = bytes.split_first_chunk()
        {
            return (Some(*head), rest);
        }
        let missing = Head::LEN - self.buffer.len();
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.buffer.extend_from_slice(taken);
        let head = <[u8; Head::LEN]>::try_from(self.buffer.as_slice()).ok();
        if head.is_some() {
            self.buffer.clear();
        }
        (head, rest)
    }

    /// Takes bytes of a body: the body when it is whole, and what stands behind it.
    pub(super) fn take_body<'a>(
        &mut self,
        head: Head,
        bytes: &'a [u8],
    ) -> (Option<Cow<'a, [u8]>>, &'a [u8]) {
        if self.is_kept
            && self.buffer.is_empty()
            && let Some((body, rest)) = bytes.split_at_checked(head.len)
        {
            return (Some(Cow::Borrowed(body)), rest);
        }
        let have = if self.is_kept { self.buffer.len() } else { self.passed };
        let (taken, rest) = bytes.split_at((head.len - have).min(bytes.len()));
        if self.is_kept {
            self.buffer.extend_from_slice(taken);
        }
        self.passed = have + taken.len();
        if self.passed < head.len {
            return (None, rest);
        }
        self.passed = 0;
        (Some(Cow::Owned(std::mem::take(&mut self.buffer))), rest)
    }

    /// Gives the memory of a body back, for the next. That of a larger one, such as certificates
    /// are in, would only lie there: the next is none of these.
    pub(super) fn recycle(&mut self, body: Cow<'_, [u8]>) {
        if let Cow::Owned(mut body) = body
            && body.capacity() <= RECYCLED_BYTES_MAX
        {
            body.clear();
            self.buffer = body;
        }
    }
}

/// Reads a record of alerts.
pub(super) fn alerts(
    body: &[u8],
    is_tls13: bool,
    is_client: bool,
    session: &mut Session,
    cx: &mut Cx<'_>,
) -> Result<(), String> {
    let len_max = if is_tls13 { 2 } else { 2 * ALERTS_MAX };
    if body.len() > len_max {
        cx.weird_with("SSL_excessive_alerts_in_record", &(body.len() / 2).to_string());
    }
    let told = body.get(..len_max).unwrap_or(body);
    for alert in told.chunks(2) {
        let [_level, description] = alert else {
            return Err(format!("out_of_bound: Alert: 2 > {}", alert.len()));
        };
        session.alert((*description).into(), is_client, cx);
    }
    Ok(())
}

/// Reads a heartbeat (RFC 6520).
pub(super) fn heartbeat(
    body: &[u8],
    is_client: bool,
    session: &mut Session,
    cx: &mut Cx<'_>,
) -> Result<(), String> {
    if body.len() < 3 {
        return Err(format!("out_of_bound: Heartbeat:payload_length: 3 > {}", body.len()));
    }
    session.heartbeat(is_client, cx);
    Ok(())
}

/// A server's hello of SSLv2.
pub(super) struct V2ServerHello<'a> {
    pub(super) version: u16,
    pub(super) suite: u32,
    pub(super) certificate: &'a [u8],
}

/// Reads a client's hello behind its version: gives the session's name.
pub(super) fn v2_client_hello(body: &[u8]) -> Result<&[u8], String> {
    let mut cursor = Cursor::new(body);
    let cut = || format!("out_of_bound: V2ClientHello: {}", body.len());
    let mut len = || cursor.be16().map(usize::from).ok_or_else(cut);
    let (suites, session_id, challenge) = (len()?, len()?, len()?);
    cursor.skip(suites / 3 * 3).ok_or_else(cut)?;
    let session_id = cursor.take(session_id).ok_or_else(cut)?;
    cursor.skip(challenge).ok_or_else(cut)?;
    Ok(session_id)
}

/// Reads a server's hello.
pub(super) fn v2_server_hello(body: &[u8]) -> Result<V2ServerHello<'_>, String> {
    let mut cursor = Cursor::new(body);
    let cut = || format!("out_of_bound: V2ServerHello: {}", body.len());
    let mut word = || cursor.be16().ok_or_else(cut);
    let (version, certificate, suites) = (word()?, word()?, word()?);
    let conn_id = word()?;
    let certificate = cursor.take(certificate.into()).ok_or_else(cut)?;
    let mut suites = cursor.sub(usize::from(suites) / 3 * 3).ok_or_else(cut)?;
    cursor.skip(conn_id.into()).ok_or_else(cut)?;
    Ok(V2ServerHello { version, suite: suites.be24().unwrap_or_default(), certificate })
}

/// Reads a client's master key.
pub(super) fn v2_client_master_key(body: &[u8]) -> Result<(), String> {
    let mut cursor = Cursor::new(body);
    let cut = || format!("out_of_bound: V2ClientMasterKey: {}", body.len());
    cursor.skip(1).ok_or_else(cut)?;
    let mut len = || cursor.be16().map(usize::from).ok_or_else(cut);
    let total = len()? + len()? + len()?;
    cursor.skip(total).ok_or_else(cut)
}
