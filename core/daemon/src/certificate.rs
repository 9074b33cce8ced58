//! What a certificate says, for messages and for the question who its holder is. Whether it is
//! to be trusted is decided in `trust.rs`.

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::tls::PeerIdentity;

/// Bytes of a fingerprint or key identifier that messages show: enough to tell two apart.
const SHORT_BYTES: usize = 6;

/// What one certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of its DER, lower-case hex.
    pub sha256: String,
    /// Common name.
    pub subject: String,
    /// Common name of its issuer.
    pub issuer: String,
    /// Identifier of its own key, hex; empty when it says none.
    pub key_id: String,
    /// Identifier of the key that signed it, hex; empty when it says none.
    pub issuer_key_id: String,
    /// First second it is good for, since the Unix epoch.
    pub not_before_s: i64,
    /// Last second it is good for, since the Unix epoch.
    pub not_after_s: i64,
    /// Whom it names as `spiffe://CLUSTER/ROLE/NODE`.
    pub holder: Option<PeerIdentity>,
}

impl Facts {
    /// Reads a certificate in DER; none when it is not one.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let common_name = |name: &x509_parser::x509::X509Name<'_>| {
            let mut names = name.iter_common_name();
            names.next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
        };
        let mut facts = Self {
            sha256: hex(&Sha256::digest(der)),
            subject: common_name(cert.subject()),
            issuer: common_name(cert.issuer()),
            not_before_s: cert.validity.not_before.timestamp(),
            not_after_s: cert.validity.not_after.timestamp(),
            ..Self::default()
        };
        for extension in cert.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    facts.holder = names.general_names.iter().find_map(|name| match name {
                        GeneralName::URI(uri) => PeerIdentity::from_uri(uri),
                        _ => None,
                    });
                }
                ParsedExtension::SubjectKeyIdentifier(id) => facts.key_id = hex(id.0),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    let id = id.key_identifier.as_ref();
                    facts.issuer_key_id = id.map(|id| hex(id.0)).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(facts)
    }

    /// Its holder in words.
    pub fn who(&self) -> String {
        match &self.holder {
            Some(holder) => format!("{} `{}`", holder.role, holder.node),
            None => format!("`{}`", self.subject),
        }
    }
}

/// The beginning of a fingerprint or key identifier.
pub fn short(hex: &str) -> &str {
    hex.get(..2 * SHORT_BYTES).unwrap_or(hex)
}

/// A moment as messages tell it, UTC.
pub fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("second {seconds}"), |moment| moment.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
