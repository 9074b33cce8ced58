//! What a handshake amounts to: the row of ssl.log grows with each event, as Zeek's
//! `base/protocols/ssl/main.zeek` lets it grow. The same for TLS and DTLS.

use std::net::IpAddr;
use std::sync::Arc;

use tyto_core::net::{ConnId, Port, Proto, Side};
use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::Ts;

use super::log::{
    HelloFingerprints, KnownCertsLog, SslLog, SslLogWithBoth, SslLogWithFingerprints,
    SslLogWithValidation, Validation,
};
use crate::analyzer::Cx;
use crate::analyzer::text::Text;
use crate::file::FileAbout;
use crate::file::handle::Handle;
use crate::log::notice::Notice;
use crate::log::weird::Weird;
use crate::output::{Claim, ClaimKey};
use crate::tls::fingerprint::{Carrier, Extensions};
use crate::tls::message::{Event, ServerHello, extension, kind, vector_text};
use crate::tls::{ciphers, names};
use crate::x509::{Certificate, KNOWN_CERT_EXPIRY_S, Shown};

/// Letters of `ssl_history` (Zeek: `SSL::max_ssl_history_length`).
const HISTORY_MAX: usize = 100;
/// Certificates of one side that are looked at. Chains have some; what is beyond is passed over.
const CHAIN_MAX: usize = 100;
/// Bytes of a session's name.
const SESSION_ID_LEN: usize = 32;
/// The random number by which a server asks to try again (RFC 8446 section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

type SessionId = [u8; SESSION_ID_LEN];

/// A handshake as far as it was seen.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Time of the first event; none came yet when it is not set.
    begun: Option<Ts>,
    version: Option<u16>,
    suite: Option<u32>,
    group: Option<u16>,
    server_name: Option<Vec<u8>>,
    session_id: Option<SessionId>,
    resumed: bool,
    /// The client brought a ticket and no name of a session.
    has_ticket_only: bool,
    client_key_exchange_seen: bool,
    client_psk_seen: bool,
    last_alert: Option<u16>,
    next_protocol: Option<Vec<u8>>,
    established: bool,
    is_logged: bool,
    /// The server's last hello asked to try again.
    is_retry: bool,
    history: String,
    /// The hello at hand, and what came of it; only when fingerprints are asked for.
    fingerprints: Option<Box<Fingerprints>>,
    /// Certificates of the client and the server; set with the first of either.
    chains: Option<[Vec<Option<Arc<Certificate>>>; 2]>,
}

/// Fingerprints of the first hello of each side.
#[derive(Debug, Default)]
struct Fingerprints {
    /// Extensions of the hello that is being read.
    extensions: Extensions,
    ja3: Option<String>,
    ja3s: Option<String>,
    ja4: Option<String>,
}

impl Session {
    /// Keeps of a hello what its fingerprints are made of.
    fn fingerprint(&mut self, event: &Event<'_>, cx: &Cx<'_>) {
        if !cx.shared.config.ssl_fingerprints {
            return;
        }
        let all = self.fingerprints.get_or_insert_default();
        match event {
            Event::Extension { code, bytes } => all.extensions.add(*code, bytes),
            Event::ClientHello(hello) => {
                let extensions = std::mem::take(&mut all.extensions);
                let carrier = match (cx.analyzer_name(), cx.proto) {
                    (Some("DTLS"), _) => Carrier::Dtls,
                    (_, Proto::Udp) => Carrier::Quic,
                    _ => Carrier::Tcp,
                };
                all.ja3.get_or_insert_with(|| extensions.ja3(hello));
                all.ja4.get_or_insert_with(|| extensions.ja4(hello, carrier));
            }
            Event::ServerHello(hello) => {
                let extensions = std::mem::take(&mut all.extensions);
                all.ja3s.get_or_insert_with(|| extensions.ja3s(hello));
            }
            _ => {}
        }
    }

    /// Something of the handshake was seen.
    fn begin(&mut self, cx: &Cx<'_>) {
        self.begun.get_or_insert(cx.now);
    }

    /// The protocol was recognised (Zeek begins the row then, too).
    pub(super) fn confirmed(&mut self, cx: &mut Cx<'_>) {
        cx.confirm();
        self.begin(cx);
    }

    /// Something in a message of the client (`is_client`) or the server.
    pub(super) fn event(&mut self, event: &Event<'_>, is_client: bool, cx: &mut Cx<'_>) {
        self.fingerprint(event, cx);
        match event {
            Event::Extension { code, bytes } => self.extension(*code, bytes, is_client, cx),
            Event::ServerNames(names) => {
                self.begin(cx);
                if let (true, Some(first)) = (is_client, names.first()) {
                    self.server_name = Some(first.to_vec());
                    if names.len() > 1 {
                        script_weird("SSL_many_server_names", &vector_text(names), cx);
                    }
                }
            }
            Event::UnknownNameType(name_type) => {
                cx.weird_with("ssl_ext_unknown_server_name_type", &name_type.to_string());
            }
            Event::Alpn(protocols) => {
                self.begin(cx);
                if let (false, Some(first)) = (is_client, protocols.first()) {
                    self.next_protocol = Some(first.to_vec());
                }
            }
            Event::SelectedVersion(version) => {
                self.begin(cx);
                self.version = Some(*version);
            }
            Event::Group(group) => {
                self.begin(cx);
                self.group = Some(*group);
            }
            Event::InnerClientHello => cx.weird("ssl_unexpected_inner_encrypted_client_hello"),
            Event::ClientHello(hello) => self.client_hello(hello.session_id, cx),
            Event::ServerHello(hello) => self.server_hello(hello, cx),
            Event::Certificates(certificates) => self.certificates(certificates, is_client, cx),
            Event::StapledOcsp(response) => staple(response, cx),
            Event::EmptyStaple => cx.weird("SSL_zero_length_stapled_OCSP_message"),
            Event::UnknownKind => {}
        }
    }

    pub(super) fn client_hello(&mut self, session_id: &[u8], cx: &Cx<'_>) {
        self.begin(cx);
        let id = padded(session_id);
        if id != SessionId::default() {
            self.session_id = Some(id);
            self.has_ticket_only = false;
        }
    }

    pub(super) fn server_hello(&mut self, hello: &ServerHello<'_>, cx: &Cx<'_>) {
        self.chose(hello.version, hello.suite.into(), cx);
        self.is_retry = self.is_retry || hello.random == RETRY_RANDOM;
        let version = self.version.unwrap_or_default();
        let may_resume = version != names::TLS_V13 && !names::is_tls13_draft(version);
        if may_resume && self.session_id == Some(padded(hello.session_id)) {
            self.resumed = true;
        }
    }

    /// The server chose `version` and `suite`.
    pub(super) fn chose(&mut self, version: u16, suite: u32, cx: &Cx<'_>) {
        self.begin(cx);
        self.version.get_or_insert(version);
        self.suite = Some(suite);
    }

    fn extension(&mut self, code: u16, bytes: &[u8], is_client: bool, cx: &Cx<'_>) {
        self.begin(cx);
        match (code, is_client) {
            (extension::SESSION_TICKET, true) if !bytes.is_empty() => self.has_ticket_only = true,
            (extension::PRE_SHARED_KEY, true) => self.client_psk_seen = true,
            (extension::PRE_SHARED_KEY, false) if self.client_psk_seen => self.resumed = true,
            _ => {}
        }
    }

    /// Client and server turned out to be the other way round.
    pub(super) fn flipped(&mut self, cx: &Cx<'_>) {
        self.begin(cx);
        self.history.push('^');
    }

    /// A handshake message came to its end.
    pub(super) fn message(&mut self, kind: u8, is_client: bool, cx: &mut Cx<'_>) {
        self.begin(cx);
        if is_client && kind == kind::CLIENT_KEY_EXCHANGE {
            self.client_key_exchange_seen = true;
        }
        let letter = match kind {
            kind::HELLO_REQUEST => b'h',
            kind::CLIENT_HELLO => b'c',
            kind::SERVER_HELLO if std::mem::take(&mut self.is_retry) => b'j',
            kind::SERVER_HELLO => b's',
            kind::HELLO_VERIFY_REQUEST => b'v',
            kind::SESSION_TICKET => b't',
            kind::CERTIFICATE => b'x',
            kind::SERVER_KEY_EXCHANGE => b'k',
            kind::CERTIFICATE_REQUEST => b'r',
            kind::SERVER_HELLO_DONE => b'n',
            kind::CERTIFICATE_VERIFY => b'y',
            kind::CLIENT_KEY_EXCHANGE => b'g',
            kind::FINISHED => b'f',
            kind::CERTIFICATE_URL => b'w',
            kind::CERTIFICATE_STATUS => b'u',
            5 => b'e',
            6 => b'j',
            8 => b'o',
            23 => b'a',
            24 => b'p',
            254 => b'm',
            _ => b'z',
        };
        self.letter(letter, is_client, cx);
    }

    /// A letter of the history.
    pub(super) fn letter(&mut self, letter: u8, is_client: bool, cx: &mut Cx<'_>) {
        if self.history.len() >= HISTORY_MAX {
            return;
        }
        let letter = if is_client { letter.to_ascii_uppercase() } else { letter };
        self.history.push(letter.into());
        if self.history.len() == HISTORY_MAX {
            let weird = Weird::new("SSL_max_ssl_history_length_reached");
            let addl = HISTORY_MAX.to_string();
            cx.shared.weird(cx.now, cx.conn, &weird.with(&addl).from("SSL"), cx.out);
        }
    }

    /// The sender begins to encrypt.
    pub(super) fn change_cipher_spec(&mut self, is_client: bool, cx: &mut Cx<'_>) {
        self.begin(cx);
        self.letter(b'i', is_client, cx);
        if is_client && self.has_ticket_only && !self.client_key_exchange_seen {
            self.resumed = true;
        }
    }

    pub(super) fn alert(&mut self, description: u16, is_client: bool, cx: &mut Cx<'_>) {
        self.begin(cx);
        self.letter(b'l', is_client, cx);
        self.last_alert = Some(description);
    }

    pub(super) fn heartbeat(&mut self, is_client: bool, cx: &mut Cx<'_>) {
        self.begin(cx);
        self.letter(b'b', is_client, cx);
    }

    /// A record was not encrypted; it was the application's data (`is_application`) or not.
    pub(super) fn plaintext(&mut self, is_application: bool, cx: &mut Cx<'_>) {
        self.begin(cx);
        if is_application && self.version.is_some() && !self.established {
            script_weird("ssl_early_application_data", "", cx);
        }
    }

    /// Both sides encrypt.
    pub(super) fn established(&mut self, cx: &mut Cx<'_>) {
        self.begin(cx);
        self.established = true;
        self.known_certificate(cx);
        self.finish(cx);
    }

    /// Keeps no more than that the row is written.
    pub(super) fn forget(&mut self) {
        *self = Self { is_logged: true, ..Self::default() };
    }

    /// Nothing more is to be learned: the row is written, once.
    pub(super) fn finish(&mut self, cx: &mut Cx<'_>) {
        let Some(ts) = self.begun.filter(|_| !self.is_logged) else { return };
        self.is_logged = true;
        let validation = Validation { validation_status: self.validate(cx).map(str::to_owned) };
        let ssl = self.row(ts, cx);
        let Fingerprints { ja3, ja3s, ja4, .. } = *self.fingerprints.take().unwrap_or_default();
        let hellos = HelloFingerprints { ja3, ja3s, ja4 };
        let config = &cx.shared.config;
        match (config.validate_certificates, config.ssl_fingerprints) {
            (false, false) => cx.row(&ssl),
            (true, false) => cx.row(&SslLogWithValidation { ssl, validation }),
            (false, true) => cx.row(&SslLogWithFingerprints { ssl, hellos }),
            (true, true) => cx.row(&SslLogWithBoth { ssl, validation, hellos }),
        }
    }

    /// Whether the server's certificates are trusted; a notice when they are not (Zeek:
    /// policy/protocols/ssl/validate-certs). None when there are none, or nobody asks.
    fn validate(&self, cx: &mut Cx<'_>) -> Option<&'static str> {
        let [_, server] = self.chains.as_ref()?;
        let (own, others) = server.split_first()?;
        let own = own.as_ref()?;
        let others: Vec<_> = others.iter().flatten().collect();
        let verdict = cx.shared.certificates.verdict(own, &others, cx.now)?;
        if verdict != "ok" {
            let id = cx.id();
            let handle = file_handle(false, cx.conn.start, &id).number(0);
            let notice = Notice {
                sub: Some(own.subject.clone()),
                identifier: Some(format!(
                    "{}{}{}{verdict}",
                    id.resp_h, id.resp_p.0, own.fingerprint
                )),
                uid: Some(cx.uid()),
                id: Some(id),
                proto: Some(cx.proto),
                fuid: Some(cx.shared.files.fuid(handle.as_bytes())),
                ..Notice::new(
                    "SSL::Invalid_Server_Cert",
                    format!("SSL certificate validation failed with ({verdict})"),
                )
            };
            cx.shared.notice(cx.now, notice, cx.out);
        }
        Some(verdict)
    }

    fn row(&self, ts: Ts, cx: &Cx<'_>) -> SslLog {
        let fingerprints = |side: usize| {
            let chain = self.chains.as_ref().and_then(|chains| chains.get(side))?;
            let all = chain.iter().flatten().map(|certificate| certificate.fingerprint.clone());
            Some(Vector(all.collect()))
        };
        let name = self.server_name.as_deref();
        let sni_matches_cert =
            name.zip(self.server_certificate()).map(|(name, own)| own.is_for_host(name));
        SslLog {
            ts,
            uid: cx.uid(),
            id: cx.id(),
            version: self.version.map(|version| Text(names::version(version))),
            cipher: self.suite.map(|suite| Text(ciphers::name(suite))),
            curve: self.group.map(|group| Text(names::curve(group))),
            server_name: self.server_name.clone(),
            resumed: self.resumed,
            last_alert: self.last_alert.map(|alert| Text(names::alert(alert))),
            next_protocol: self.next_protocol.clone(),
            established: self.established,
            ssl_history: self.history.clone(),
            cert_chain_fps: fingerprints(1),
            client_cert_chain_fps: fingerprints(0),
            sni_matches_cert,
        }
    }

    fn server_certificate(&self) -> Option<&Certificate> {
        let [_, server] = self.chains.as_ref()?;
        server.first()?.as_deref()
    }

    fn certificates(&mut self, certificates: &[&[u8]], by_client: bool, cx: &mut Cx<'_>) {
        for (index, bytes) in certificates.iter().enumerate().take(CHAIN_MAX) {
            if bytes.is_empty() {
                cx.weird("zero_length_certificate");
                continue;
            }
            let shown = Shown { is_host_cert: index == 0, by_client };
            let (begun, id) = (cx.conn.start, cx.id());
            let handle = || file_handle(by_client, begun, &id).number(index as u64);
            let certificate = cx.certificate(bytes, shown, handle);
            // A chain belongs to a handshake of which something was seen before.
            if self.begun.is_none() {
                continue;
            }
            let [client, server] = self.chains.get_or_insert_default();
            let chain = if by_client { client } else { server };
            if chain.len() < CHAIN_MAX {
                chain.push(certificate);
            }
        }
    }

    /// The one certificate that a server's hello of SSLv2 carries.
    pub(super) fn v2_certificate(&mut self, bytes: &[u8], by_client: bool, cx: &mut Cx<'_>) {
        self.certificates(&[bytes], by_client, cx);
    }

    /// A local server's certificate is told once a day (Zeek: `Known::certs`).
    fn known_certificate(&self, cx: &mut Cx<'_>) {
        let Some(certificate) = self.server_certificate() else { return };
        let host = cx.conn.resp.addr;
        if cx.shared.site.is_local(host) != Some(true) {
            return;
        }
        if !cx.shared.certificates.is_new_on_host(host, certificate, cx.now) {
            return;
        }
        let host = IpAddr::from(host);
        let key = ClaimKey::of_parts(&[host.to_string().as_bytes(), &certificate.sha1]);
        let claim =
            Claim { table: KnownCertsLog::STREAM, key, ts: cx.now, expiry_s: KNOWN_CERT_EXPIRY_S };
        let row = KnownCertsLog {
            ts: cx.now,
            host,
            port_num: Some(Port(cx.conn.resp.port)),
            subject: Some(certificate.subject.clone()),
            issuer_subject: Some(certificate.issuer.clone()),
            serial: Some(certificate.serial.clone()),
        };
        cx.out.claim(claim, &row);
    }
}

/// A stapled response is a file of its own.
fn staple(response: &[u8], cx: &mut Cx<'_>) {
    let handle = file_handle(false, cx.conn.start, &cx.id()).text(b"ocsp");
    let about = FileAbout { mime_type: Some("application/ocsp-response"), ..FileAbout::default() };
    let file = cx.file_open(Side::Resp, handle.as_bytes(), &about);
    cx.file_bytes(file, response);
    cx.file_end(file);
}

/// How the handles of a connection's files begin.
fn file_handle(by_client: bool, begun: Ts, id: &ConnId) -> Handle {
    Handle::of("SSL").time(begun).sender(by_client).id(id)
}

/// Something odd that Zeek's scripts tell, not its analyzer.
fn script_weird(name: &'static str, addl: &str, cx: &mut Cx<'_>) {
    cx.shared.weird(cx.now, cx.conn, &Weird::new(name).with(addl), cx.out);
}

/// A session's name with zeros behind; a longer one is none, as in Zeek.
fn padded(session_id: &[u8]) -> SessionId {
    let mut id = SessionId::default();
    if session_id.len() <= SESSION_ID_LEN {
        for (to, from) in id.iter_mut().zip(session_id) {
            *to = *from;
        }
    }
    id
}
