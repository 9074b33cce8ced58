//! `ssl.log`: a handshake, written when the session is established, given up or over.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

use crate::analyzer::text::Text;

/// A handshake of SSL, TLS or DTLS.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "ssl")]
pub struct SslLog {
    /// When the handshake was first seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Version that the server chose.
    pub version: Option<Text>,
    /// Cipher suite that the server chose.
    pub cipher: Option<Text>,
    /// Group of the key exchange that the server chose.
    pub curve: Option<Text>,
    /// Host name that the client asked for.
    pub server_name: Option<Vec<u8>>,
    /// The session goes on with keys of an earlier one.
    pub resumed: bool,
    /// The last alert.
    pub last_alert: Option<Text>,
    /// Application protocol that the server chose.
    pub next_protocol: Option<Vec<u8>>,
    /// The handshake came to its end.
    pub established: bool,
    /// What was sent, a letter each; upper case from the client.
    pub ssl_history: String,
    /// SHA-256 of the server's certificates.
    pub cert_chain_fps: Option<Vector<String>>,
    /// SHA-256 of the client's certificates.
    pub client_cert_chain_fps: Option<Vector<String>>,
    /// The server's certificate is for the name that was asked for.
    pub sni_matches_cert: Option<bool>,
}

/// What became of a server's certificates.
#[derive(Clone, Debug, Default, LogRecord)]
pub struct Validation {
    /// `ok` when they lead to one that is trusted; otherwise why not, in OpenSSL's words.
    pub validation_status: Option<String>,
}

/// A handshake and what became of the server's certificates.
#[derive(Debug, LogRecord)]
#[log(stream = "ssl")]
pub struct SslLogWithValidation {
    /// What is always told.
    #[log(flatten)]
    pub ssl: SslLog,
    /// Whether the certificates are trusted.
    #[log(flatten)]
    pub validation: Validation,
}

/// A handshake with the fingerprints of its hellos.
#[derive(Debug, LogRecord)]
#[log(stream = "ssl")]
pub struct SslLogWithFingerprints {
    /// What is always told.
    #[log(flatten)]
    pub ssl: SslLog,
    /// The fingerprints.
    #[log(flatten)]
    pub hellos: HelloFingerprints,
}

/// A handshake with all that can be asked for.
#[derive(Debug, LogRecord)]
#[log(stream = "ssl")]
pub struct SslLogWithBoth {
    /// What is always told.
    #[log(flatten)]
    pub ssl: SslLog,
    /// Whether the certificates are trusted.
    #[log(flatten)]
    pub validation: Validation,
    /// The fingerprints.
    #[log(flatten)]
    pub hellos: HelloFingerprints,
}

/// Fingerprints of hellos.
#[derive(Clone, Debug, Default, LogRecord)]
pub struct HelloFingerprints {
    /// MD5 over what the client's hello offers (JA3).
    pub ja3: Option<String>,
    /// MD5 over what the server's hello chose (JA3S).
    pub ja3s: Option<String>,
    /// What the client's hello offers, sorted (JA4).
    pub ja4: Option<String>,
}

/// A certificate of a local host.
#[derive(Debug, LogRecord)]
#[log(stream = "known_certs")]
pub struct KnownCertsLog {
    /// When it was seen.
    pub ts: Ts,
    /// Who showed it.
    pub host: std::net::IpAddr,
    /// The port it was shown on.
    pub port_num: Option<tyto_core::net::Port>,
    /// Whose it is.
    pub subject: Option<String>,
    /// Who signed it.
    pub issuer_subject: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
}
