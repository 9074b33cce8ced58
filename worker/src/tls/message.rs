//! Handshake messages (RFC 8446 section 4, RFC 5246 section 7.4). One message without its head
//! in, [`Event`]s out, in the order in which they stand in it. What stands before a fault is
//! told, the fault ends the message.

use crate::analyzer::bytes::Cursor;

use super::ciphers::{self, KeyExchange};
use super::names::{DTLS_V10, DTLS_V12, TLS_V11, TLS_V13};

/// Kinds of messages.
pub mod kind {
    #![allow(missing_docs)]
    pub const HELLO_REQUEST: u8 = 0;
    pub const CLIENT_HELLO: u8 = 1;
    pub const SERVER_HELLO: u8 = 2;
    pub const HELLO_VERIFY_REQUEST: u8 = 3;
    pub const SESSION_TICKET: u8 = 4;
    pub const CERTIFICATE: u8 = 11;
    pub const SERVER_KEY_EXCHANGE: u8 = 12;
    pub const CERTIFICATE_REQUEST: u8 = 13;
    pub const SERVER_HELLO_DONE: u8 = 14;
    pub const CERTIFICATE_VERIFY: u8 = 15;
    pub const CLIENT_KEY_EXCHANGE: u8 = 16;
    pub const FINISHED: u8 = 20;
    pub const CERTIFICATE_URL: u8 = 21;
    pub const CERTIFICATE_STATUS: u8 = 22;
}

/// Numbers of extensions.
pub mod extension {
    #![allow(missing_docs)]
    pub const SERVER_NAME: u16 = 0;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const EC_POINT_FORMATS: u16 = 11;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const SIGNED_CERTIFICATE_TIMESTAMP: u16 = 18;
    pub const SESSION_TICKET: u16 = 35;
    pub const KEY_SHARE_OLD: u16 = 40;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const PSK_KEY_EXCHANGE_MODES: u16 = 45;
    pub const SIGNATURE_ALGORITHMS_CERT: u16 = 50;
    pub const KEY_SHARE: u16 = 51;
    pub const CONNECTION_ID: u16 = 54;
    pub const ENCRYPTED_CLIENT_HELLO: u16 = 65037;
}

/// The curve type of a named curve (RFC 8422 section 5.4).
const NAMED_CURVE: u8 = 3;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// An extension of a hello, after what it says itself.
    Extension {
        /// Its number.
        code: u16,
        /// What it holds.
        bytes: &'a [u8],
    },
    /// Host names that the client or server tells.
    ServerNames(Vec<&'a [u8]>),
    /// A name that is not of a host.
    UnknownNameType(u8),
    /// Application protocols, by preference.
    Alpn(Vec<&'a [u8]>),
    /// The version that a server chose by the extension.
    SelectedVersion(u16),
    /// The group that a server chose.
    Group(u16),
    /// An inner hello that should be encrypted.
    InnerClientHello,
    /// All of a client's hello.
    ClientHello(ClientHello<'a>),
    /// All of a server's hello.
    ServerHello(ServerHello<'a>),
    /// Certificates, the sender's own first.
    Certificates(Vec<&'a [u8]>),
    /// An OCSP response that the server has at hand (RFC 6066 section 8).
    StapledOcsp(&'a [u8]),
    /// An empty one.
    EmptyStaple,
    /// A message of a kind that cannot be read.
    UnknownKind,
}

/// A client's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// Version, of TLS 1.3 that of TLS 1.2.
    pub version: u16,
    /// Name of the session that it wants to go on with; empty when there is none.
    pub session_id: &'a [u8],
    /// Suites, two bytes each.
    pub suites: &'a [u8],
}

/// A server's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHello<'a> {
    /// Version, of TLS 1.3 that of TLS 1.2.
    pub version: u16,
    /// 32 bytes.
    pub random: &'a [u8],
    /// Name of the session; of drafts of TLS 1.3 empty.
    pub session_id: &'a [u8],
    /// The suite it chose.
    pub suite: u16,
}

/// What was agreed upon, by which later messages are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen {
    /// The first version that a server told.
    pub version: Option<u16>,
    /// The last suite that a server told.
    pub suite: Option<u16>,
}

/// Why a message cannot be read, in Zeek's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

/// Who sends messages of `kind`, where only one side does: `true` is the client.
pub const fn sender(kind: u8) -> Option<bool> {
    match kind {
        kind::CLIENT_HELLO => Some(true),
        kind::HELLO_REQUEST | kind::SERVER_HELLO => Some(false),
        _ => None,
    }
}

/// A vector of strings as Zeek's `cat` writes it.
pub fn vector_text(values: &[&[u8]]) -> String {
    let values: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value)).collect();
    format!("[{}]", values.join(", "))
}

impl Chosen {
    /// Whether TLS 1.3 or a draft of it was agreed upon.
    pub fn is_tls13(&self) -> bool {
        self.version.is_some_and(|v| v == TLS_V13 || super::names::is_tls13_draft(v))
    }

    /// Reads the `body` of a message of `kind`.
    ///
    /// # Errors
    /// When it is cut or its lengths do not fit.
    pub fn read<'a>(
        &mut self,
        kind: u8,
        body: &'a [u8],
        tell: &mut dyn FnMut(Event<'a>),
    ) -> Result<(), Fault> {
        let mut reader = Reader { cursor: Cursor::new(body), chosen: self, tell };
        match kind {
            kind::CLIENT_HELLO => reader.client_hello(),
            kind::SERVER_HELLO => reader.server_hello(),
            kind::HELLO_VERIFY_REQUEST => {
                reader.be16("HelloVerifyRequest:version")?;
                reader.short_string("HelloVerifyRequest:cookie").map(|_| ())
            }
            kind::SESSION_TICKET => {
                reader.take(6, "SessionTicketHandshake:ticket_lifetime_hint")?;
                let len = u16::from_be_bytes([at(body, 4), at(body, 5)]);
                reader.take(len.into(), "SessionTicketHandshake:data").map(|_| ())
            }
            kind::CERTIFICATE => reader.certificates(),
            kind::SERVER_KEY_EXCHANGE => reader.server_key_exchange(),
            kind::CERTIFICATE_REQUEST => reader.certificate_request(),
            kind::CERTIFICATE_STATUS => reader.certificate_status(),
            kind::HELLO_REQUEST
            | kind::SERVER_HELLO_DONE
            | kind::CERTIFICATE_VERIFY
            | kind::CLIENT_KEY_EXCHANGE
            | kind::FINISHED
            | kind::CERTIFICATE_URL => Ok(()),
            _ => {
                (reader.tell)(Event::UnknownKind);
                Ok(())
            }
        }
    }

    fn uses_signature_algorithms(&self) -> bool {
        self.version.is_some_and(|version| version > TLS_V11 && version != DTLS_V10)
    }
}

struct Reader<'a, 'c> {
    cursor: Cursor<'a>,
    chosen: &'c mut Chosen,
    tell: &'c mut dyn FnMut(Event<'a>),
}

/// Reads of a piece of a message; `what` names it in the fault.
fn take<'a>(cursor: &mut Cursor<'a>, len: usize, what: &str) -> Result<&'a [u8], Fault> {
    let left = cursor.len();
    cursor.take(len).ok_or_else(|| Fault(format!("out_of_bound: {what}: {len} > {left}")))
}

fn be8(cursor: &mut Cursor<'_>, what: &str) -> Result<u8, Fault> {
    take(cursor, 1, what).map(|bytes| at(bytes, 0))
}

fn be16(cursor: &mut Cursor<'_>, what: &str) -> Result<u16, Fault> {
    take(cursor, 2, what).map(|bytes| u16::from_be_bytes([at(bytes, 0), at(bytes, 1)]))
}

fn be24(cursor: &mut Cursor<'_>, what: &str) -> Result<usize, Fault> {
    let bytes = take(cursor, 3, what)?;
    Ok(u32::from_be_bytes([0, at(bytes, 0), at(bytes, 1), at(bytes, 2)]) as usize)
}

fn at(bytes: &[u8], index: usize) -> u8 {
    bytes.get(index).copied().unwrap_or_default()
}

/// A piece that begins with its length in two bytes.
fn list16<'a>(cursor: &mut Cursor<'a>, what: &str) -> Result<Cursor<'a>, Fault> {
    let len = be16(cursor, what)?;
    take(cursor, len.into(), what).map(Cursor::new)
}

/// A piece that begins with its length in one byte.
fn list8<'a>(cursor: &mut Cursor<'a>, what: &str) -> Result<Cursor<'a>, Fault> {
    let len = be8(cursor, what)?;
    take(cursor, len.into(), what).map(Cursor::new)
}

impl<'a> Reader<'a, '_> {
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], Fault> {
        take(&mut self.cursor, len, what)
    }

    fn be16(&mut self, what: &str) -> Result<u16, Fault> {
        be16(&mut self.cursor, what)
    }

    /// Bytes behind their length in one byte.
    fn short_string(&mut self, what: &str) -> Result<&'a [u8], Fault> {
        let len = be8(&mut self.cursor, what)?;
        self.take(len.into(), what)
    }

    fn client_hello(&mut self) -> Result<(), Fault> {
        let version = self.be16("ClientHello:client_version")?;
        self.take(4 + 28, "ClientHello:random_bytes")?;
        let session_id = self.short_string("ClientHello:session_id")?;
        if matches!(version, DTLS_V10 | DTLS_V12) {
            self.short_string("ClientHelloCookie:cookie")?;
        }
        let len = usize::from(self.be16("ClientHello:csuit_len")?);
        // An odd byte at the end is left to what follows, as Zeek leaves it.
        let suites = self.take(len / 2 * 2, "ClientHello:csuits")?;
        self.short_string("ClientHello:cmeths")?;
        self.extensions(true)?;
        (self.tell)(Event::ClientHello(ClientHello { version, session_id, suites }));
        Ok(())
    }

    fn server_hello(&mut self) -> Result<(), Fault> {
        let version = self.be16("ServerHelloChoice:server_version0")?;
        let random = self.take(32, "ServerHello:random_bytes")?;
        let is_short = version == TLS_V13 || version >> 8 == 0x7F;
        let session_id =
            if is_short { &[][..] } else { self.short_string("ServerHello:session_id")? };
        let suite = self.be16("ServerHello:cipher_suite")?;
        if !is_short {
            self.take(1, "ServerHello:compression_method")?;
        }
        self.extensions(false)?;
        self.chosen.suite = Some(suite);
        (self.tell)(Event::ServerHello(ServerHello { version, random, session_id, suite }));
        self.chosen.version.get_or_insert(version);
        Ok(())
    }

    /// All to the end of the message; their total length is not believed.
    fn extensions(&mut self, is_client: bool) -> Result<(), Fault> {
        if self.cursor.is_empty() {
            return Ok(());
        }
        self.be16("ClientHello:ext_len")?;
        while !self.cursor.is_empty() {
            let code = self.be16("SSLExtension:type")?;
            let len = self.be16("SSLExtension:data_len")?;
            let bytes = self.take(len.into(), "SSLExtension")?;
            if !bytes.is_empty() {
                self.extension(code, bytes, is_client)?;
            }
            (self.tell)(Event::Extension { code, bytes });
        }
        Ok(())
    }

    fn extension(&mut self, code: u16, bytes: &'a [u8], is_client: bool) -> Result<(), Fault> {
        let mut cursor = Cursor::new(bytes);
        match code {
            extension::SERVER_NAME => self.server_names(&mut cursor)?,
            extension::ALPN => {
                let mut list = list16(&mut cursor, "ProtocolNameList")?;
                let mut names = Vec::new();
                while !list.is_empty() {
                    names.push(list8(&mut list, "ProtocolName:name")?.whole());
                }
                (self.tell)(Event::Alpn(names));
            }
            extension::SUPPORTED_VERSIONS if is_client => {
                even(list8(&mut cursor, "SupportedVersions")?, "SupportedVersions:versions")?;
            }
            extension::SUPPORTED_VERSIONS => {
                let version = be16(&mut cursor, "OneSupportedVersion")?;
                self.chosen.version.get_or_insert(version);
                (self.tell)(Event::SelectedVersion(version));
            }
            extension::KEY_SHARE | extension::KEY_SHARE_OLD if is_client => {
                let mut list = list16(&mut cursor, "ClientHelloKeyShare")?;
                while !list.is_empty() {
                    be16(&mut list, "KeyShareEntry:namedgroup")?;
                    list16(&mut list, "KeyShareEntry:key_exchange")?;
                }
            }
            extension::KEY_SHARE | extension::KEY_SHARE_OLD => {
                let group = be16(&mut cursor, "KeyShareEntry:namedgroup")?;
                // A request to try again names the group only.
                if bytes.len() != 2 {
                    list16(&mut cursor, "KeyShareEntry:key_exchange")?;
                }
                (self.tell)(Event::Group(group));
            }
            extension::ENCRYPTED_CLIENT_HELLO => self.encrypted_hello(&mut cursor)?,
            _ => unread_extension(code, &mut cursor, is_client)?,
        }
        Ok(())
    }

    fn server_names(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        let mut list = list16(cursor, "ServerNameExt")?;
        let mut names = Vec::new();
        while !list.is_empty() {
            match be8(&mut list, "ServerName:name_type")? {
                0 => names.push(list16(&mut list, "ServerNameHostName:host_name")?.whole()),
                other => {
                    list.take_rest();
                    (self.tell)(Event::UnknownNameType(other));
                }
            }
        }
        (self.tell)(Event::ServerNames(names));
        Ok(())
    }

    fn encrypted_hello(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        if be8(cursor, "EncryptedClientHelloSwitch:tpe")? == 0 {
            take(cursor, 5, "EncryptedClientHello")?;
            list16(cursor, "EncryptedClientHello:enc")?;
            list16(cursor, "EncryptedClientHello:payload")?;
        } else {
            (self.tell)(Event::InnerClientHello);
        }
        Ok(())
    }

    fn certificates(&mut self) -> Result<(), Fault> {
        let total = self.cursor.len();
        let len = be24(&mut self.cursor, "Certificate:length")?;
        if len > self.cursor.len() {
            return Err(Fault(format!("out_of_bound: Certificate: {} > {total}", len + 3)));
        }
        let mut list = Cursor::new(self.take(len, "Certificate")?);
        let mut certificates = Vec::new();
        while !list.is_empty() {
            let len = be24(&mut list, "X509Certificate:length")?;
            certificates.push(take(&mut list, len, "X509Certificate:certificate")?);
        }
        (self.tell)(Event::Certificates(certificates));
        Ok(())
    }

    fn server_key_exchange(&mut self) -> Result<(), Fault> {
        let suite = self.chosen.suite.map_or(u32::MAX, u32::from);
        let exchange = ciphers::key_exchange(suite);
        let group = match exchange {
            KeyExchange::Other => return Ok(()),
            KeyExchange::Ecdhe | KeyExchange::EcdhAnon => {
                if be8(&mut self.cursor, "EcdheServerKeyExchange:curve_type")? != NAMED_CURVE {
                    return Ok(());
                }
                let group = self.be16("ServerECDHParamsAndSignature:curve")?;
                self.short_string("ServerECDHParamsAndSignature:point")?;
                Some(group)
            }
            KeyExchange::Dhe | KeyExchange::DhAnon => {
                for what in ["dh_p", "dh_g", "dh_Ys"] {
                    list16(&mut self.cursor, &format!("DheServerKeyExchange:{what}"))?;
                }
                None
            }
        };
        if matches!(exchange, KeyExchange::Ecdhe | KeyExchange::Dhe) {
            if self.chosen.uses_signature_algorithms() {
                self.take(2, "SignatureAndHashAlgorithm")?;
            }
            list16(&mut self.cursor, "ServerKeyExchangeSignature:signature")?;
        }
        if let Some(group) = group {
            (self.tell)(Event::Group(group));
        }
        Ok(())
    }

    fn certificate_request(&mut self) -> Result<(), Fault> {
        self.short_string("CertificateRequest:certificate_types")?;
        if self.chosen.uses_signature_algorithms() {
            even(list16(&mut self.cursor, "SignatureAlgorithm")?, "SignatureAlgorithm")?;
        }
        let mut names = list16(&mut self.cursor, "CertificateRequest:certificate_authorities")?;
        while !names.is_empty() {
            list16(&mut names, "CertificateAuthorities:certificate_authority")?;
        }
        Ok(())
    }

    fn certificate_status(&mut self) -> Result<(), Fault> {
        let status_type = be8(&mut self.cursor, "CertificateStatus:status_type")?;
        be24(&mut self.cursor, "CertificateStatus:length")?;
        let response = self.cursor.take_rest();
        if response.is_empty() {
            (self.tell)(Event::EmptyStaple);
        } else if status_type == 1 {
            (self.tell)(Event::StapledOcsp(response));
        }
        Ok(())
    }
}

/// Extensions of which only the form is looked at.
fn unread_extension(code: u16, cursor: &mut Cursor<'_>, is_client: bool) -> Result<(), Fault> {
    match code {
        extension::SUPPORTED_GROUPS => {
            let len = usize::from(be16(cursor, "EllipticCurves:length")?);
            take(cursor, len / 2 * 2, "EllipticCurves:elliptic_curve_list")?;
        }
        extension::EC_POINT_FORMATS => {
            list8(cursor, "EcPointFormats:point_format_list")?;
        }
        extension::SIGNATURE_ALGORITHMS | extension::SIGNATURE_ALGORITHMS_CERT => {
            even(list16(cursor, "SignatureAlgorithm")?, "SignatureAlgorithm")?;
        }
        extension::SIGNED_CERTIFICATE_TIMESTAMP => {
            let mut list = list16(cursor, "SignedCertificateTimestampList")?;
            while !list.is_empty() {
                list16(&mut list, "SignedCertificateTimestamp")?;
            }
        }
        extension::PSK_KEY_EXCHANGE_MODES => {
            list8(cursor, "PSKKeyExchangeModes")?;
        }
        extension::PRE_SHARED_KEY if is_client => {
            let mut identities = list16(cursor, "PSKIdentitiesList")?;
            while !identities.is_empty() {
                list16(&mut identities, "PSKIdentity:identity")?;
                take(&mut identities, 4, "PSKIdentity:obfuscated_ticket_age")?;
            }
            let mut binders = list16(cursor, "PSKBindersList")?;
            while !binders.is_empty() {
                list8(&mut binders, "PSKBinder:binder")?;
            }
        }
        extension::PRE_SHARED_KEY => {
            be16(cursor, "SelectedPreSharedKeyIdentity")?;
        }
        extension::CONNECTION_ID => {
            list8(cursor, "ConnectionId:cid")?;
        }
        _ => {}
    }
    Ok(())
}

/// A list of numbers of two bytes.
fn even(mut list: Cursor<'_>, what: &str) -> Result<(), Fault> {
    while !list.is_empty() {
        be16(&mut list, what)?;
    }
    Ok(())
}
