//! Certificates and what is said of their validity, wherever they come from: TLS, DTLS, HTTP.
//! Bytes in, rows of x509.log and ocsp.log out. Rows of chains are left out, as Zeek's
//! `log-hostcerts-only` does: what a server sends beside its own certificate is the same
//! everywhere.

use std::sync::Arc;

use aws_lc_rs::digest;
use hashbrown::HashMap;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Fuid;

mod certificate;
mod der;
pub mod file;
mod key;
mod log;
mod name;
pub mod ocsp;
mod oid;
mod time;
mod validate;

pub use certificate::{AltNames, BasicConstraints, Certificate};
pub use log::X509Log;
pub use validate::{TrustStore, TrustStoreError};

use crate::analyzer::Cx;
use crate::analyzer::state::Shared;
use crate::decode::addr::Addr;
use crate::file::handle::Handle;
use crate::flow::hash::KeyedHasher;
use crate::log::lately::Lately;
use crate::log::weird::Weird;
use crate::output::{Claim, ClaimKey, Output};
use validate::Validator;

/// A certificate is logged again after this, seconds (Zeek:
/// `X509::relog_known_certificates_after`).
const RELOG_S: u64 = 86_400;
/// A local host's certificate is logged again after this, seconds (Zeek:
/// `Known::cert_store_expiry`).
pub const KNOWN_CERT_EXPIRY_S: u64 = 86_400;
/// Certificates that were logged and are remembered (Zeek: `X509::known_log_certs_maximum_size`,
/// a million).
const LOGGED_MAX: usize = 100_000;
/// Certificates that are kept taken apart, so that a server's is not read at each connection.
/// At the limit all are dropped and read again when they come.
const PARSED_MAX: usize = 2048;

type Fingerprint = [u8; 32];

/// The certificates that this worker saw.
#[derive(Debug)]
pub struct Certificates {
    parsed: HashMap<Fingerprint, Arc<Certificate>, KeyedHasher>,
    logged: Lately<(Fingerprint, bool)>,
    known: Lately<(Addr, [u8; 20])>,
    /// Only where the operator wants it.
    validator: Option<Box<Validator>>,
}

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// It is a host's own, not one of a chain.
    pub is_host_cert: bool,
    /// A client shows it.
    pub by_client: bool,
}

impl Certificates {
    /// None yet; fingerprints are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            parsed: HashMap::with_hasher(hasher.clone()),
            logged: Lately::new(hasher.clone(), RELOG_S, LOGGED_MAX),
            known: Lately::new(hasher, KNOWN_CERT_EXPIRY_S, LOGGED_MAX),
            validator: None,
        }
    }

    fn read(&mut self, fingerprint: Fingerprint, bytes: &[u8]) -> Option<Arc<Certificate>> {
        if let Some(certificate) = self.parsed.get(&fingerprint) {
            return Some(Arc::clone(certificate));
        }
        let certificate = Arc::new(Certificate::read(bytes)?);
        if self.parsed.len() >= PARSED_MAX {
            self.parsed.clear();
        }
        self.parsed.insert(fingerprint, Arc::clone(&certificate));
        Some(certificate)
    }

    /// From now on servers' chains are validated: they are to lead into `store`.
    pub fn validate_against(&mut self, store: TrustStore) {
        let hasher = self.parsed.hasher().clone();
        self.validator = Some(Box::new(Validator::new(store, hasher)));
    }

    /// Whether a server's certificate, `own`, leads to one that is trusted, with `others` that it
    /// sent: `ok`, or what OpenSSL would say. None when that is not asked for.
    pub fn verdict(
        &mut self,
        own: &Certificate,
        others: &[&Arc<Certificate>],
        now: Ts,
    ) -> Option<&'static str> {
        self.validator.as_mut().map(|validator| validator.verdict(own, others, now))
    }

    /// Whether a certificate on `host` was not told of there within a day.
    pub fn is_new_on_host(&mut self, host: Addr, certificate: &Certificate, now: Ts) -> bool {
        self.known.is_new((host, certificate.sha1), now)
    }

    /// Entries forgotten at the limits.
    pub fn forgotten(&self) -> u64 {
        let intermediates = self.validator.as_ref().map_or(0, |validator| validator.forgotten);
        self.logged.forgotten() + self.known.forgotten() + intermediates
    }
}

impl Cx<'_> {
    /// A host showed a certificate: it is logged when it is a host's own and news, and given
    /// when it can be read.
    /// Zeek makes a file of it, by whose id what is odd is told: `handle` gives that file's.
    pub(crate) fn certificate(
        &mut self,
        bytes: &[u8],
        shown: Shown,
        handle: impl Fn() -> Handle,
    ) -> Option<Arc<Certificate>> {
        let fuid = |shared: &Shared| shared.files.fuid(handle().as_bytes());
        show(bytes, shown, fuid, self.now, self.shared, self.out)
    }
}

/// Takes a certificate apart that came as the file `fuid`, and logs it where it is to be.
fn show(
    bytes: &[u8],
    shown: Shown,
    fuid: impl Fn(&Shared) -> Fuid,
    now: Ts,
    shared: &mut Shared,
    out: &mut Output,
) -> Option<Arc<Certificate>> {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    let Some(certificate) = shared.certificates.read(fingerprint, bytes) else {
        let fuid = fuid(shared);
        shared.weird_of_file(now, fuid, &Weird::new("x509_cert_parse_error"), out);
        return None;
    };
    for (name, addl) in &certificate.weirds {
        let fuid = fuid(shared);
        shared.weird_of_file(now, fuid, &Weird::new(name).with(addl), out);
    }
    if shown.is_host_cert && shared.certificates.logged.is_new((fingerprint, shown.by_client), now)
    {
        let key = ClaimKey::of_parts(&[&fingerprint, &[shown.by_client.into()]]);
        let claim = Claim { table: X509Log::STREAM, key, ts: now, expiry_s: RELOG_S };
        out.claim(claim, &X509Log::of_host(now, &certificate, shown.by_client));
    }
    Some(certificate)
}
