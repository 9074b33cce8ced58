//! Reads certificates, to see whether a node's is still good. No trust is decided here: that is
//! done by rustls in the daemons; here is only seen what deploy has to renew.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::ca::{Subject, split_pem};
use crate::deploy::bundle::sha256_hex;

/// The share of its time after which a certificate is renewed: so a CA that cannot be reached
/// is felt only after the other half.
const RENEWED_AT: f64 = 0.5;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// First moment it is good for.
    pub not_before: SystemTime,
    /// Last moment it is good for.
    pub not_after: SystemTime,
    /// It may sign others.
    pub is_ca: bool,
    /// Good for the end that dials.
    pub client_auth: bool,
    /// Good for the end that listens.
    pub server_auth: bool,
    /// Serial number.
    pub serial: Vec<u8>,
    /// SHA-256 of its DER, lower-case hex.
    pub sha256: String,
    /// Identifier of its key, if it says one.
    pub key_id: Option<Vec<u8>>,
    /// Identifier of the key that signed it, if it says one.
    pub issuer_key_id: Option<Vec<u8>>,
}

/// Why a node needs another certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It has none, or an unreadable one.
    Missing,
    /// It is for another node, role or cluster.
    OtherName,
    /// Another CA signed it.
    OtherCa,
    /// Half of its time is over.
    Old,
    /// All of its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
}

impl Renewal {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no certificate",
            Self::OtherName => "certificate of another name",
            Self::OtherCa => "certificate of another CA",
            Self::Old => "certificate past half its time",
            Self::Expired => "certificate has expired",
            Self::NotYetValid => "certificate is not yet valid",
        }
    }
}

impl Certificate {
    /// Reads the first certificate of a PEM text; none when there is no readable one.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, cert) = X509Certificate::from_der(&der).ok()?;
        let mut read = Self {
            uris: Vec::new(),
            dns_names: Vec::new(),
            not_before: moment(cert.validity.not_before.timestamp())?,
            not_after: moment(cert.validity.not_after.timestamp())?,
            is_ca: cert.is_ca(),
            client_auth: false,
            server_auth: false,
            serial: cert.raw_serial().to_vec(),
            sha256: sha256_hex(&der),
            key_id: None,
            issuer_key_id: None,
        };
        for extension in cert.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::URI(uri) => read.uris.push((*uri).to_owned()),
                            GeneralName::DNSName(name) => read.dns_names.push((*name).to_owned()),
                            _ => {}
                        }
                    }
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    read.client_auth = usage.client_auth;
                    read.server_auth = usage.server_auth;
                }
                ParsedExtension::SubjectKeyIdentifier(id) => read.key_id = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    read.issuer_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                _ => {}
            }
        }
        Some(read)
    }

    /// The share of its time that is over at `now`: 0 at its beginning, 1 at its end.
    pub fn life_used(&self, now: SystemTime) -> f64 {
        let life = self.not_after.duration_since(self.not_before).unwrap_or(Duration::ZERO);
        let used = now.duration_since(self.not_before).unwrap_or(Duration::ZERO);
        if life.is_zero() { 1.0 } else { used.as_secs_f64() / life.as_secs_f64() }
    }
}

/// Whether the certificate in `pem` is to be made anew for `subject` of `cluster` under `ca`.
pub fn renewal(
    pem: &str,
    cluster: &str,
    subject: &Subject,
    ca: Option<&Certificate>,
    now: SystemTime,
) -> Option<Renewal> {
    let Some(cert) = Certificate::from_pem(pem) else { return Some(Renewal::Missing) };
    let uri = format!("spiffe://{cluster}/{}/{}", subject.role, subject.node);
    if cert.uris != [uri] || cert.dns_names != [subject.node.clone()] {
        return Some(Renewal::OtherName);
    }
    let same_ca = ca.is_some_and(|ca| ca.key_id.is_some() && ca.key_id == cert.issuer_key_id);
    if !same_ca {
        return Some(Renewal::OtherCa);
    }
    if now > cert.not_after {
        return Some(Renewal::Expired);
    }
    if now < cert.not_before {
        return Some(Renewal::NotYetValid);
    }
    (cert.life_used(now) > RENEWED_AT).then_some(Renewal::Old)
}

/// The certificates of a PEM text.
pub fn bundle(pem: &str) -> Vec<Certificate> {
    split_pem(pem).iter().filter_map(|pem| Certificate::from_pem(pem)).collect()
}

fn moment(seconds: i64) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::identity::ca::Ca;

    #[test]
    fn a_certificate_is_renewed_for_each_reason_and_for_no_other() {
        let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let day = Duration::from_secs(86400);
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(&dir.path().join("a"), "lab", start).unwrap();
        let other = Ca::init(&dir.path().join("b"), "lab", start).unwrap();
        let subject: Subject = "proxy/proxy-1".parse().unwrap();
        let request = CertificateParams::default()
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        let pem = ca.sign(&request, &subject, start).unwrap();
        let of = |ca: &Ca| Certificate::from_pem(ca.cert_pem());

        let check = |pem: &str, cluster: &str, subject: &Subject, ca: &Ca, at| {
            renewal(pem, cluster, subject, of(ca).as_ref(), at)
        };
        assert_eq!(check(&pem, "lab", &subject, &ca, start + day * 14), None);
        assert_eq!(check(&pem, "lab", &subject, &ca, start + day * 16), Some(Renewal::Old));
        assert_eq!(check(&pem, "lab", &subject, &ca, start + day * 31), Some(Renewal::Expired));
        let early = start - day;
        assert_eq!(check(&pem, "lab", &subject, &ca, early), Some(Renewal::NotYetValid));
        assert_eq!(check(&pem, "lab", &subject, &other, start), Some(Renewal::OtherCa));
        assert_eq!(check(&pem, "field", &subject, &ca, start), Some(Renewal::OtherName));
        let worker = "worker/proxy-1".parse().unwrap();
        assert_eq!(check(&pem, "lab", &worker, &ca, start), Some(Renewal::OtherName));
        assert_eq!(check("nonsense", "lab", &subject, &ca, start), Some(Renewal::Missing));
        assert_eq!(renewal(&pem, "lab", &subject, None, start), Some(Renewal::OtherCa));
    }
}
