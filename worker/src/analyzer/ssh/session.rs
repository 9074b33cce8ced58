//! The row of a connection, gathered.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tyto_core::net::Side;
use tyto_core::record::value::EnumName;

use super::hassh::{Hassh, SshLogWithHassh};
use super::kex::{Agreed, Offer};
use super::log::SshLog;
use crate::analyzer::Cx;
use crate::log::software::SoftwareSeen;

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    row: Option<SshLog>,
    is_logged: bool,
    is_confirmed: bool,
    is_done: bool,
    /// Only where the operator wants it.
    hassh: Option<Box<Hassh>>,
}

impl Session {
    /// The login succeeded: nothing more is to be found out.
    pub(super) const fn is_done(&self) -> bool {
        self.is_done
    }

    /// A side told its version.
    pub(super) fn version(&mut self, side: Side, line: &[u8], cx: &mut Cx<'_>) {
        let row = self.row(cx);
        match side {
            Side::Orig => row.client = Some(line.to_vec()),
            Side::Resp => row.server = Some(line.to_vec()),
        }
        set_version(row, cx);
        let (software_type, end, host_p) = match side {
            Side::Orig => ("SSH::CLIENT", cx.conn.orig, None),
            Side::Resp => ("SSH::SERVER", cx.conn.resp, Some(cx.conn.resp.port)),
        };
        let unparsed_version = without_protocol(side, line);
        let host = IpAddr::from(end.addr);
        let unparsed_version = &unparsed_version[..];
        cx.software(&SoftwareSeen { software_type, host, host_p, unparsed_version });
    }

    /// A side told what it offers.
    pub(super) fn offered(&mut self, side: Side, offer: &Offer, cx: &Cx<'_>) {
        if cx.shared.config.ssh_hassh && self.row.is_some() {
            self.hassh.get_or_insert_default().offered(side, offer);
        }
    }

    /// Both sides told what they offer.
    pub(super) fn agreed(&mut self, client: &Offer, server: &Offer) {
        let Some(row) = &mut self.row else { return };
        let agreed = Agreed::of(client, server);
        row.cipher_alg = Some(agreed.cipher);
        row.mac_alg = Some(agreed.mac);
        row.compression_alg = Some(agreed.compression);
        row.kex_alg = Some(agreed.kex);
        row.host_key_alg = Some(agreed.host_key);
    }

    /// The server showed its key.
    pub(super) fn host_key(&mut self, key: &[u8]) {
        /// Characters of the digest that are shown, as Zeek does.
        const SHOWN: usize = 32;
        let Some(row) = &mut self.row else { return };
        let mut encoded = STANDARD.encode(Sha256::digest(key));
        encoded.truncate(SHOWN);
        row.host_key_fingerprint = Some(format!("SHA256:{encoded}"));
    }

    /// It is SSH for sure.
    pub(super) fn confirmed(&mut self, cx: &Cx<'_>) {
        self.row(cx);
        self.is_confirmed = true;
    }

    /// A login was tried.
    pub(super) fn attempted(&mut self, success: bool, cx: &mut Cx<'_>) {
        let Some(row) = &mut self.row else { return };
        // Compressed, lengths tell nothing.
        let is_compressed =
            matches!(row.compression_alg.as_deref(), Some("zlib" | "zlib@openssh.com"));
        if row.auth_success != Some(true) && !is_compressed {
            row.auth_success = Some(success);
            row.auth_attempts += 1;
            self.is_done = success && self.is_confirmed;
        }
        if success {
            self.write(cx);
        }
    }

    /// The connection is over.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        self.write(cx);
    }

    fn write(&mut self, cx: &mut Cx<'_>) {
        if self.is_logged {
            return;
        }
        let Some(ssh) = &self.row else { return };
        self.is_logged = true;
        if cx.shared.config.ssh_hassh {
            let hassh = self.hassh.take().unwrap_or_default();
            cx.row(&SshLogWithHassh { ssh: ssh.clone(), hassh: *hassh });
        } else {
            cx.row(ssh);
        }
    }

    fn row(&mut self, cx: &Cx<'_>) -> &mut SshLog {
        self.row.get_or_insert_with(|| {
            let site = &cx.shared.site;
            let is_local = [cx.conn.orig, cx.conn.resp].map(|end| site.is_local(end.addr));
            let direction = match is_local {
                [Some(true), Some(false)] => Some(EnumName("OUTBOUND")),
                [Some(false), Some(true)] => Some(EnumName("INBOUND")),
                _ => None,
            };
            SshLog {
                ts: cx.now,
                uid: cx.uid(),
                id: cx.id(),
                version: None,
                auth_success: None,
                auth_attempts: 0,
                direction,
                client: None,
                server: None,
                cipher_alg: None,
                mac_alg: None,
                compression_alg: None,
                kex_alg: None,
                host_key_alg: None,
                host_key_fingerprint: None,
            }
        })
    }
}

/// Sets the version that both sides can speak (RFC 4253 section 5: 1.99 is both).
fn set_version(row: &mut SshLog, cx: &mut Cx<'_>) {
    row.version = None;
    let (Some(client), Some(server)) = (&row.client, &row.server) else { return };
    let is_both = |line: &[u8]| line.get(6..8) == Some(b"99");
    let weird = match (client.get(4), server.get(4)) {
        (Some(b'1'), Some(b'2')) if !is_both(client) => "SSH_version_mismatch",
        (Some(b'2'), Some(b'1')) if !is_both(server) => "SSH_version_mismatch",
        (Some(b'1'), Some(b'1')) => {
            row.version = Some(if is_both(client) && is_both(server) { 2 } else { 1 });
            return;
        }
        (Some(b'1' | b'2'), Some(b'1' | b'2')) => {
            row.version = Some(2);
            return;
        }
        (Some(_), Some(_)) => return,
        _ => "SSH_cannot_determine_version",
    };
    let addl =
        format!("{} vs {}", String::from_utf8_lossy(server), String::from_utf8_lossy(client));
    cx.weird_with(weird, &addl);
}

/// The version line without `SSH-2.0-`.
fn without_protocol(side: Side, line: &[u8]) -> Vec<u8> {
    let protocol_len = |text: &[u8]| {
        let rest = text.strip_prefix(b"SSH")?;
        let len = rest.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'.' | b'-')).count();
        Some(3 + len)
    };
    let (start, least) = match side {
        Side::Orig => (0, 4),
        Side::Resp => (line.windows(3).position(|word| word == b"SSH").unwrap_or(0), 5),
    };
    let Some((head, tail)) = line.split_at_checked(start) else { return line.to_vec() };
    match protocol_len(tail).filter(|len| *len >= least).and_then(|len| tail.get(len..)) {
        Some(rest) => [head, rest].concat(),
        None => line.to_vec(),
    }
}
