//! `x509.log`: the certificates that hosts showed, each once a day.

use std::net::IpAddr;

use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::Ts;

use super::certificate::Certificate;

/// A certificate.
#[derive(Debug, LogRecord)]
#[log(stream = "x509")]
pub struct X509Log {
    /// When it was seen.
    pub ts: Ts,
    /// Its SHA-256.
    pub fingerprint: String,
    /// What it says.
    #[log(nested)]
    pub certificate: CertificateColumns,
    /// Other names of its subject.
    #[log(nested)]
    pub san: Option<SanColumns>,
    /// Whether it may sign others.
    #[log(nested)]
    pub basic_constraints: Option<BasicConstraintsColumns>,
    /// It was a host's own, not one of the chain.
    pub host_cert: bool,
    /// A client showed it.
    pub client_cert: bool,
}

/// What a certificate says.
#[derive(Debug, LogRecord)]
pub struct CertificateColumns {
    /// Version.
    pub version: u64,
    /// Serial number.
    pub serial: String,
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Begin of its life.
    pub not_valid_before: Ts,
    /// End of its life.
    pub not_valid_after: Ts,
    /// Name of the key's algorithm.
    pub key_alg: String,
    /// Name of the signature's algorithm.
    pub sig_alg: String,
    /// Kind of the key.
    pub key_type: Option<&'static str>,
    /// Length of the key, bits.
    pub key_length: Option<u64>,
    /// Exponent of an RSA key.
    pub exponent: Option<String>,
    /// Curve of an elliptic curve's key.
    pub curve: Option<&'static str>,
}

/// Other names of a subject.
#[derive(Debug, LogRecord)]
pub struct SanColumns {
    /// Host names.
    pub dns: Option<Vector<Vec<u8>>>,
    /// Locations.
    pub uri: Option<Vector<Vec<u8>>>,
    /// Mail addresses.
    pub email: Option<Vector<Vec<u8>>>,
    /// Addresses.
    pub ip: Option<Vector<IpAddr>>,
}

/// Whether a certificate may sign others.
#[derive(Debug, LogRecord)]
pub struct BasicConstraintsColumns {
    /// It may.
    pub ca: bool,
    /// How many may stand between.
    pub path_len: Option<u64>,
}

impl X509Log {
    /// The row of a host's own certificate, seen at `ts`.
    pub(super) fn of_host(ts: Ts, certificate: &Certificate, client_cert: bool) -> Self {
        let key = &certificate.key;
        Self {
            ts,
            fingerprint: certificate.fingerprint.clone(),
            certificate: CertificateColumns {
                version: certificate.version,
                serial: certificate.serial.clone(),
                subject: certificate.subject.clone(),
                issuer: certificate.issuer.clone(),
                not_valid_before: certificate.not_before,
                not_valid_after: certificate.not_after,
                key_alg: key.algorithm.clone(),
                sig_alg: certificate.sig_alg.clone(),
                key_type: key.kind,
                key_length: key.bits,
                exponent: key.exponent.clone(),
                curve: key.curve,
            },
            san: certificate.san.as_ref().map(|san| SanColumns {
                dns: san.dns.clone().map(Vector),
                uri: san.uri.clone().map(Vector),
                email: san.email.clone().map(Vector),
                ip: san.ip.clone().map(Vector),
            }),
            basic_constraints: certificate
                .basic_constraints
                .map(|it| BasicConstraintsColumns { ca: it.ca, path_len: it.path_len }),
            host_cert: true,
            client_cert,
        }
    }
}
