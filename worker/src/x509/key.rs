//! Public keys of certificates (RFC 5280 section 4.1.2.7): what kind, how long.

use super::der::{Element, Elements, bit_length, decimal, tag};
use super::oid;

/// What is known of a public key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PublicKey {
    /// Name of the algorithm.
    pub(super) algorithm: String,
    /// Kind, when the key can be read.
    pub(super) kind: Option<&'static str>,
    /// Its length, bits.
    pub(super) bits: Option<u64>,
    /// Of RSA: the exponent, decimal.
    pub(super) exponent: Option<String>,
    /// Of elliptic curves: the curve's name.
    pub(super) curve: Option<&'static str>,
}

const RSA: &str = "1.2.840.113549.1.1.1";
const RSA_PSS: &str = "1.2.840.113549.1.1.10";
/// Servers of RDP say that their RSA keys are signatures; Zeek reads them nevertheless.
const MD5_WITH_RSA: &str = "1.2.840.113549.1.1.4";
const EC: &str = "1.2.840.10045.2.1";
const DSA: [&str; 2] = ["1.2.840.10040.4.1", "1.3.14.3.2.12"];

/// Keys that are a string of bytes (RFC 8410): identifier, kind, bits, bytes.
const RAW_KEYS: [(&str, &str, u64, usize); 4] = [
    ("1.3.101.110", "X25519", 253, 32),
    ("1.3.101.111", "X448", 448, 56),
    ("1.3.101.112", "ED25519", 256, 32),
    ("1.3.101.113", "ED448", 456, 57),
];

/// Reads a `SubjectPublicKeyInfo`; `None` when it is none.
pub(super) fn read(mut info: Elements<'_>) -> Option<PublicKey> {
    let mut algorithm = info.expect(tag::SEQUENCE)?.inside();
    let oid = oid::dotted(algorithm.expect(tag::OID)?.content)?;
    let parameters = algorithm.next();
    let bits = info.expect(tag::BIT_STRING)?;
    let (_unused, key) = bits.content.split_first()?;
    let name = oid::long_name(&oid).map_or_else(|| oid.clone(), str::to_owned);
    let known = known(&oid, parameters, key).unwrap_or_default();
    Some(PublicKey { algorithm: name, ..known })
}

fn known(oid: &str, parameters: Option<Element<'_>>, key: &[u8]) -> Option<PublicKey> {
    if let Some(&(_, kind, bits, len)) = RAW_KEYS.iter().find(|raw| raw.0 == oid) {
        (key.len() == len).then_some(())?;
        return Some(PublicKey { kind: Some(kind), bits: Some(bits), ..PublicKey::default() });
    }
    match oid {
        RSA | MD5_WITH_RSA | RSA_PSS => {
            let mut numbers = Elements(key).expect(tag::SEQUENCE)?.inside();
            let modulus = numbers.expect(tag::INTEGER)?.content;
            let exponent = numbers.expect(tag::INTEGER)?.content;
            let is_pss = oid == RSA_PSS;
            Some(PublicKey {
                kind: Some(if is_pss { "RSA-PSS" } else { "rsa" }),
                bits: Some(bit_length(modulus)),
                exponent: if is_pss { None } else { decimal(exponent) },
                ..PublicKey::default()
            })
        }
        EC => {
            let curve = parameters.filter(|parameters| parameters.is(tag::OID))?;
            let oid = oid::dotted(curve.content)?;
            let bits = curve_bits(&oid)?;
            // A point begins with its form: compressed (2, 3), as it is (4), both (6, 7).
            key.first().filter(|form| matches!(form, 2 | 3 | 4 | 6 | 7))?;
            Some(PublicKey {
                kind: Some("ecdsa"),
                bits: Some(bits),
                curve: oid::short_name(&oid),
                ..PublicKey::default()
            })
        }
        _ if DSA.contains(&oid) => {
            Elements(key).expect(tag::INTEGER)?;
            let prime = parameters
                .filter(|parameters| parameters.is(tag::SEQUENCE))
                .and_then(|parameters| parameters.inside().expect(tag::INTEGER));
            Some(PublicKey {
                kind: Some("dsa"),
                bits: prime.map(|prime| bit_length(prime.content)),
                ..PublicKey::default()
            })
        }
        _ => None,
    }
}

/// Bits of the order of a curve's group (SEC 2, RFC 5639).
fn curve_bits(oid: &str) -> Option<u64> {
    let bits = match oid {
        "1.2.840.10045.3.1.1" | "1.2.840.10045.3.1.2" | "1.2.840.10045.3.1.3" | "1.3.132.0.31" => {
            192
        }
        "1.2.840.10045.3.1.4" | "1.2.840.10045.3.1.5" | "1.2.840.10045.3.1.6" => 239,
        "1.2.840.10045.3.1.7"
        | "1.3.132.0.10"
        | "1.3.36.3.3.2.8.1.1.7"
        | "1.3.36.3.3.2.8.1.1.8"
        | "1.2.156.10197.1.301" => 256,
        "1.3.132.0.6" | "1.3.132.0.28" => 112,
        "1.3.132.0.7" | "1.3.132.0.29" => 128,
        "1.3.132.0.8" | "1.3.132.0.9" | "1.3.132.0.30" => 161,
        "1.3.132.0.32" | "1.3.132.0.33" => {
            if oid.ends_with('2') {
                225
            } else {
                224
            }
        }
        "1.3.132.0.34" | "1.3.36.3.3.2.8.1.1.11" | "1.3.36.3.3.2.8.1.1.12" => 384,
        "1.3.132.0.35" => 521,
        "1.3.132.0.1" | "1.3.132.0.15" => 163,
        "1.3.132.0.2" => 162,
        "1.3.132.0.26" => 232,
        "1.3.132.0.27" => 233,
        "1.3.132.0.3" => 238,
        "1.3.132.0.16" => 281,
        "1.3.132.0.17" => 282,
        "1.3.132.0.36" => 407,
        "1.3.132.0.37" => 409,
        "1.3.132.0.38" | "1.3.132.0.39" => 570,
        "1.3.36.3.3.2.8.1.1.1" | "1.3.36.3.3.2.8.1.1.2" => 160,
        "1.3.36.3.3.2.8.1.1.3" | "1.3.36.3.3.2.8.1.1.4" => 192,
        "1.3.36.3.3.2.8.1.1.5" | "1.3.36.3.3.2.8.1.1.6" => 224,
        "1.3.36.3.3.2.8.1.1.9" | "1.3.36.3.3.2.8.1.1.10" => 320,
        "1.3.36.3.3.2.8.1.1.13" | "1.3.36.3.3.2.8.1.1.14" => 512,
        _ => return None,
    };
    Some(bits)
}
