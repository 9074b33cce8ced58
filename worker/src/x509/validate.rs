//! Whether a server's certificates lead to one that is trusted: a chain and packet time in,
//! OpenSSL's words out, as Zeek's policy/protocols/ssl/validate-certs logs them. Signatures, times
//! and constraints are judged by webpki; which certificate is missing is told by names, before
//! that, as OpenSSL does. Never asks the wall clock, and never the network.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use hashbrown::{HashMap, HashSet};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::time::Ts;
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use super::Certificate;
use super::der::{Elements, tag};
use crate::analyzer::text::hex;
use crate::flow::hash::KeyedHasher;

/// Verdicts that are remembered. At the limit all are forgotten and found again.
const VERDICTS_MAX: usize = 4096;
/// A verdict is found again after this, seconds (Zeek: `recently_validated_certs`, five minutes).
const VERDICT_LIFE_S: u64 = 300;
/// Certificates of others' chains that are remembered (Zeek: `intermediate_cache`, without a
/// limit). At the limit all are forgotten.
const INTERMEDIATES_MAX: usize = 1024;
/// Certificates of one chain (OpenSSL's default depth).
const CHAIN_MAX: usize = 100;

/// The words of OpenSSL 3 (`X509_verify_cert_error_string`).
mod words {
    pub(super) const OK: &str = "ok";
    pub(super) const UNSPECIFIED: &str = "unspecified certificate verification error";
    pub(super) const BAD_SIGNATURE: &str = "certificate signature failure";
    pub(super) const NOT_YET_VALID: &str = "certificate is not yet valid";
    pub(super) const EXPIRED: &str = "certificate has expired";
    pub(super) const SELF_SIGNED: &str = "self-signed certificate";
    pub(super) const SELF_SIGNED_IN_CHAIN: &str = "self-signed certificate in certificate chain";
    pub(super) const NO_LOCAL_ISSUER: &str = "unable to get local issuer certificate";
    pub(super) const TOO_LONG: &str = "certificate chain too long";
    pub(super) const INVALID_CA: &str = "invalid CA certificate";
    pub(super) const PATH_LEN_EXCEEDED: &str = "path length constraint exceeded";
    pub(super) const UNSUITABLE: &str = "unsuitable certificate purpose";
    pub(super) const UNKNOWN_CRITICAL: &str = "unhandled critical extension";
    pub(super) const INVALID_EXTENSION: &str = "invalid or inconsistent certificate extension";
    pub(super) const NAME_NOT_PERMITTED: &str = "permitted subtree violation";
    pub(super) const WEAK_DIGEST: &str = "CA signature digest algorithm too weak";
}

/// The certificates that are trusted.
#[derive(Debug)]
pub struct TrustStore {
    anchors: Vec<TrustAnchor<'static>>,
    /// SHA-256 of each, hexadecimal.
    fingerprints: HashSet<String>,
    /// Entries of the store that could not be read.
    pub skipped: usize,
}

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustStoreError {
    /// The file that was named cannot be read.
    #[error("cannot read the trusted certificates in `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// The file that was named has none.
    #[error("`{}`: found no certificate; expected PEM, `-----BEGIN CERTIFICATE-----`", .0.display())]
    Empty(PathBuf),
    /// The host has no store.
    #[error(
        "this host has no store of trusted certificates; install one (`ca-certificates`), or name \
         a file of PEM as `trusted_certificates`"
    )]
    NoStore,
}

/// Finds verdicts, and remembers them.
#[derive(Debug)]
pub(super) struct Validator {
    store: TrustStore,
    verdicts: HashMap<[u8; 32], (&'static str, Ts), KeyedHasher>,
    /// By their subject, what stood between a server's certificate and a trusted one in chains
    /// that are good: servers that leave it out are good too (Zeek: `ssl_cache_intermediate_ca`).
    intermediates: HashMap<Vec<u8>, CertificateDer<'static>, KeyedHasher>,
    /// Of the latter, those forgotten at the limit.
    pub(super) forgotten: u64,
}

impl TrustStore {
    /// The store that `config` asks for; none when it does not.
    ///
    /// # Errors
    /// As [`TrustStore::load`].
    pub fn of(config: &AnalysisConfig) -> Result<Option<Self>, TrustStoreError> {
        let file = config.trusted_certificates.as_deref();
        config.validate_certificates.then(|| Self::load(file)).transpose()
    }

    /// The certificates in `file`, or those of this host.
    ///
    /// # Errors
    /// When the file cannot be read, or nothing is trusted.
    pub fn load(file: Option<&Path>) -> Result<Self, TrustStoreError> {
        let (certificates, unread) = match file {
            Some(path) => (from_file(path)?, 0),
            None => {
                let found = rustls_native_certs::load_native_certs();
                (found.certs, found.errors.len())
            }
        };
        let store = Self::new(&certificates, unread);
        match file {
            _ if !store.anchors.is_empty() => Ok(store),
            Some(path) => Err(TrustStoreError::Empty(path.to_owned())),
            None => Err(TrustStoreError::NoStore),
        }
    }

    fn new(certificates: &[CertificateDer<'_>], unread: usize) -> Self {
        let mut store = Self { anchors: Vec::new(), fingerprints: HashSet::new(), skipped: unread };
        for certificate in certificates {
            match webpki::anchor_from_trusted_cert(certificate) {
                Ok(anchor) => {
                    store.anchors.push(anchor.to_owned());
                    let digest = digest::digest(&digest::SHA256, certificate);
                    store.fingerprints.insert(hex(digest.as_ref()));
                }
                Err(_) => store.skipped += 1,
            }
        }
        store
    }

    fn has_subject(&self, name: &[u8]) -> bool {
        self.anchors.iter().any(|anchor| anchor.subject.as_ref() == name)
    }
}

fn from_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustStoreError> {
    let read = |source| TrustStoreError::Read { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)
}

impl Validator {
    /// Trusts `store`; what is remembered is hashed with `hasher`.
    pub(super) fn new(store: TrustStore, hasher: KeyedHasher) -> Self {
        Self {
            store,
            verdicts: HashMap::with_hasher(hasher.clone()),
            intermediates: HashMap::with_hasher(hasher),
            forgotten: 0,
        }
    }

    /// The verdict on a server's certificate and what it sent with it, at `now`.
    pub(super) fn verdict(
        &mut self,
        own: &Certificate,
        others: &[&Arc<Certificate>],
        now: Ts,
    ) -> &'static str {
        let mut all = digest::Context::new(&digest::SHA256);
        all.update(own.fingerprint.as_bytes());
        others.iter().for_each(|other| all.update(other.fingerprint.as_bytes()));
        let mut key = [0; 32];
        key.copy_from_slice(all.finish().as_ref());
        if let Some((verdict, found)) = self.verdicts.get(&key)
            && now < found.plus_secs(VERDICT_LIFE_S)
        {
            return verdict;
        }
        let verdict = self.judge(own, others, now);
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts.clear();
        }
        self.verdicts.insert(key, (verdict, now));
        verdict
    }

    fn judge(&mut self, own: &Certificate, others: &[&Arc<Certificate>], now: Ts) -> &'static str {
        let in_time = if now < own.not_before {
            words::NOT_YET_VALID
        } else if now > own.not_after {
            words::EXPIRED
        } else {
            words::OK
        };
        if self.store.fingerprints.contains(&own.fingerprint) {
            return in_time;
        }
        let own = CertificateDer::from(&own.der[..]);
        let sent: Vec<_> =
            others.iter().take(CHAIN_MAX).map(|one| CertificateDer::from(&one.der[..])).collect();
        let known = self.known_issuers(&own, &sent);
        if !known.is_empty() {
            let with_known: Vec<_> = known.into_iter().chain(sent.iter().cloned()).collect();
            if self.store.verify(&own, &with_known, now).is_ok() {
                return words::OK;
            }
        }
        match self.store.verify(&own, &sent, now) {
            Ok(between) => {
                self.remember(between);
                words::OK
            }
            // What webpki does not read, such as certificates of version 1, may be over all the same.
            Err(words::UNSPECIFIED) if in_time != words::OK => in_time,
            Err(verdict) => verdict,
        }
    }

    /// Certificates that are remembered and that the chain lacks.
    fn known_issuers(
        &self,
        own: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
    ) -> Vec<CertificateDer<'static>> {
        let mut known = Vec::new();
        for certificate in std::iter::once(own).chain(sent) {
            let mut issuer = names(certificate).map(|names| names.issuer.to_vec());
            while let Some(found) = issuer.and_then(|issuer| self.intermediates.get(&issuer))
                && !known.contains(found)
            {
                known.push(found.clone());
                issuer = names(found).map(|names| names.issuer.to_vec());
            }
        }
        known
    }

    fn remember(&mut self, between: Vec<CertificateDer<'static>>) {
        for certificate in between {
            let Some(names) = names(&certificate) else { continue };
            if self.intermediates.contains_key(names.subject) {
                continue;
            }
            if self.intermediates.len() >= INTERMEDIATES_MAX {
                self.forgotten += self.intermediates.len() as u64;
                self.intermediates.clear();
            }
            let subject = names.subject.to_vec();
            self.intermediates.insert(subject, certificate);
            // What was not good for want of this one may be so now.
            self.verdicts.retain(|_, (verdict, _)| *verdict == words::OK);
        }
    }
}

impl TrustStore {
    /// What stands between `own` and a trusted certificate; the verdict, when nothing leads there.
    fn verify(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: Ts,
    ) -> Result<Vec<CertificateDer<'static>>, &'static str> {
        self.ends_at_anchor(own, others)?;
        let time = UnixTime::since_unix_epoch(Duration::from_nanos(now.0));
        let own = EndEntityCert::try_from(own).map_err(|error| word(&error))?;
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let path = own
            .verify_for_usage(algorithms, &self.anchors, others, time, AnyUsage, None, None)
            .map_err(|error| word(&error))?;
        Ok(path.intermediate_certificates().map(|one| one.der().into_owned()).collect())
    }

    /// Follows names from `own` to one that is trusted. OpenSSL, too, looks for all certificates
    /// before it looks at any closely.
    fn ends_at_anchor(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), &'static str> {
        let mut current = own;
        for depth in 0..CHAIN_MAX {
            let Names { issuer, subject } = names(current).ok_or(words::UNSPECIFIED)?;
            if self.has_subject(issuer) {
                return Ok(());
            }
            if issuer == subject {
                let is_own = depth == 0;
                return Err(if is_own { words::SELF_SIGNED } else { words::SELF_SIGNED_IN_CHAIN });
            }
            let is_issuer = |other: &&CertificateDer<'_>| {
                names(other).is_some_and(|names| names.subject == issuer)
            };
            current = others.iter().find(is_issuer).ok_or(words::NO_LOCAL_ISSUER)?;
        }
        Err(words::TOO_LONG)
    }
}

/// Zeek asks OpenSSL for no purpose, so that certificates are good for any.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        Ok(())
    }
}

/// Who signed a certificate and whose it is, as bytes.
struct Names<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
}

fn names<'a>(certificate: &'a CertificateDer<'_>) -> Option<Names<'a>> {
    let mut parts = Elements(certificate).expect(tag::SEQUENCE)?.inside();
    let mut tbs = parts.expect(tag::SEQUENCE)?.inside();
    let _version = tbs.context(0);
    tbs.expect(tag::INTEGER)?;
    tbs.expect(tag::SEQUENCE)?;
    let issuer = tbs.expect(tag::SEQUENCE)?.content;
    tbs.expect(tag::SEQUENCE)?;
    Some(Names { issuer, subject: tbs.expect(tag::SEQUENCE)?.content })
}

/// What OpenSSL would call it.
const fn word(error: &Error) -> &'static str {
    match error {
        Error::CertExpired { .. } => words::EXPIRED,
        Error::CertNotValidYet { .. } => words::NOT_YET_VALID,
        Error::UnknownIssuer => words::NO_LOCAL_ISSUER,
        Error::InvalidSignatureForPublicKey | Error::SignatureAlgorithmMismatch => {
            words::BAD_SIGNATURE
        }
        Error::EndEntityUsedAsCa => words::INVALID_CA,
        Error::CaUsedAsEndEntity | Error::EmptyEkuExtension => words::UNSUITABLE,
        Error::PathLenConstraintViolated => words::PATH_LEN_EXCEEDED,
        Error::NameConstraintViolation => words::NAME_NOT_PERMITTED,
        Error::UnsupportedCriticalExtension => words::UNKNOWN_CRITICAL,
        Error::MalformedExtensions | Error::ExtensionValueInvalid => words::INVALID_EXTENSION,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => words::WEAK_DIGEST,
        Error::MaximumPathDepthExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumSignatureChecksExceeded => words::TOO_LONG,
        _ => words::UNSPECIFIED,
    }
}
