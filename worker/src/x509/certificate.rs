//! A certificate (RFC 5280) taken apart into what is logged of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_lc_rs::digest;
use tyto_core::time::Ts;

use super::der::{Element, Elements, integer_text, tag};
use super::key::PublicKey;
use super::name::Name;
use super::{key, oid, time};
use crate::analyzer::text::hex;

const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";
/// Names of one certificate that are kept; the others are not told (Zeek's logs hold 500 values
/// in one field of x509.log).
const NAMES_MAX: usize = 500;

/// A certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// SHA-1 of it.
    pub sha1: [u8; 20],
    /// Version, from 1.
    pub version: u64,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Begin of its life.
    pub not_before: Ts,
    /// End of its life.
    pub not_after: Ts,
    /// Name of the signature's algorithm.
    pub sig_alg: String,
    /// The key.
    pub(super) key: PublicKey,
    /// Other names of the subject.
    pub san: Option<AltNames>,
    /// Whether it may sign others.
    pub basic_constraints: Option<BasicConstraints>,
    /// What was odd: name and a word more.
    pub weirds: Vec<(&'static str, String)>,
    /// All of it.
    pub der: Vec<u8>,
    last_common_name: Option<Vec<u8>>,
}

/// Other names of a subject (RFC 5280 section 4.2.1.6). A kind that is not there is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AltNames {
    /// Host names.
    pub dns: Option<Vec<Vec<u8>>>,
    /// Locations.
    pub uri: Option<Vec<Vec<u8>>>,
    /// Mail addresses.
    pub email: Option<Vec<Vec<u8>>>,
    /// Addresses.
    pub ip: Option<Vec<IpAddr>>,
}

/// Whether a certificate may sign others (RFC 5280 section 4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicConstraints {
    /// It may.
    pub ca: bool,
    /// Certificates between it and the last one at most.
    pub path_len: Option<u64>,
}

impl Certificate {
    /// Takes `bytes` apart; `None` when they do not begin with a certificate.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let whole = Elements(bytes).expect(tag::SEQUENCE)?;
        let mut parts = whole.inside();
        let mut tbs = parts.expect(tag::SEQUENCE)?.inside();
        let sig_alg = algorithm(parts.expect(tag::SEQUENCE)?)?;
        parts.expect(tag::BIT_STRING)?;

        let version = match tbs.context(0) {
            Some(version) => small_number(&version.inside().expect(tag::INTEGER)?),
            None => 0,
        };
        let serial = integer_text(tbs.expect(tag::INTEGER)?.content);
        tbs.expect(tag::SEQUENCE)?;
        let issuer = Name::read(tbs.expect(tag::SEQUENCE)?.inside())?;
        let mut validity = tbs.expect(tag::SEQUENCE)?.inside();
        let times = [validity.next()?, validity.next()?];
        let subject = Name::read(tbs.expect(tag::SEQUENCE)?.inside())?;
        let key = key::read(tbs.expect(tag::SEQUENCE)?.inside())?;

        let mut weirds = Vec::new();
        let [not_before, not_after] = times.map(|element| match time::seconds(&element) {
            Ok(seconds) => time::ts(seconds),
            Err(weird) => {
                weirds.push((weird, String::new()));
                Ts(0)
            }
        });
        let mut certificate = Self {
            fingerprint: hex(digest::digest(&digest::SHA256, whole.raw).as_ref()),
            sha1: digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, whole.raw)
                .as_ref()
                .try_into()
                .ok()?,
            version: version.wrapping_add(1),
            serial,
            subject: subject.text(),
            issuer: issuer.text(),
            not_before,
            not_after,
            // A signature without a name in OpenSSL's tables prints as nothing.
            sig_alg: oid::long_name(&sig_alg).unwrap_or_default().to_owned(),
            key,
            san: None,
            basic_constraints: None,
            weirds,
            der: whole.raw.to_vec(),
            last_common_name: subject.last_common_name(),
        };
        let _ = (tbs.context(1), tbs.context(2));
        if let Some(extensions) = tbs.context(3) {
            certificate.read_extensions(extensions.inside().expect(tag::SEQUENCE)?.inside())?;
        }
        Some(certificate)
    }

    /// The host name `host` is one of those that the certificate is for (Zeek:
    /// `x509_check_cert_hostname`): those among its other names, the last common name where it
    /// has none.
    pub fn is_for_host(&self, host: &[u8]) -> bool {
        match &self.san {
            Some(san) => san.dns.iter().flatten().any(|name| matches_host(host, name)),
            None => self.last_common_name.as_ref().is_some_and(|name| matches_host(host, name)),
        }
    }

    fn read_extensions(&mut self, mut extensions: Elements<'_>) -> Option<()> {
        while !extensions.is_empty() {
            let mut extension = extensions.expect(tag::SEQUENCE)?.inside();
            let oid = oid::dotted(extension.expect(tag::OID)?.content)?;
            let _critical = extension.optional(tag::BOOLEAN);
            let value = extension.expect(tag::OCTET_STRING)?.content;
            match oid.as_str() {
                BASIC_CONSTRAINTS => match basic_constraints(value) {
                    Some(constraints) => self.basic_constraints = Some(constraints),
                    None => self.weirds.push(("x509_invalid_basic_constraint", String::new())),
                },
                SUBJECT_ALT_NAME => match AltNames::read(value, &mut self.weirds) {
                    Some(names) => self.san = Some(names),
                    None => self.weirds.push(("x509_san_parse_error", String::new())),
                },
                _ => {}
            }
        }
        Some(())
    }
}

impl AltNames {
    fn read(value: &[u8], weirds: &mut Vec<(&'static str, String)>) -> Option<Self> {
        let mut names = Elements(value).expect(tag::SEQUENCE)?.inside();
        let mut all = Self::default();
        while !names.is_empty() {
            let name = names.next().filter(|name| name.is_context)?;
            let kind = match name.tag {
                1 => &mut all.email,
                2 => &mut all.dns,
                6 => &mut all.uri,
                7 => {
                    let addresses = all.ip.get_or_insert_default();
                    match address(name.content) {
                        Some(address) if addresses.len() < NAMES_MAX => addresses.push(address),
                        Some(_) => {}
                        None => weirds.push(("x509_san_ip_length", name.content.len().to_string())),
                    }
                    continue;
                }
                _ => continue,
            };
            let kind = kind.get_or_insert_default();
            if kind.len() < NAMES_MAX {
                kind.push(name.content.to_vec());
            }
        }
        Some(all)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

fn basic_constraints(value: &[u8]) -> Option<BasicConstraints> {
    let mut parts = Elements(value).expect(tag::SEQUENCE)?.inside();
    let ca = parts.optional(tag::BOOLEAN).is_some_and(|flag| flag.content.iter().any(|b| *b != 0));
    let path_len = parts.optional(tag::INTEGER).map(|number| small_number(&number));
    parts.is_empty().then_some(BasicConstraints { ca, path_len })
}

/// The algorithm that an `AlgorithmIdentifier` names.
pub(super) fn algorithm(identifier: Element<'_>) -> Option<String> {
    oid::dotted(identifier.inside().expect(tag::OID)?.content)
}

/// A number of which only the low 64 bits count.
fn small_number(element: &Element<'_>) -> u64 {
    element.content.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Whether `name`, which may begin with a star, is `host` (RFC 6125 section 6.4, as Zeek
/// follows it: the star stands at the end of the first of at least three labels).
fn matches_host(host: &[u8], name: &[u8]) -> bool {
    if host == name {
        return true;
    }
    let position = |bytes: &[u8], wanted| bytes.iter().position(|byte| *byte == wanted);
    let (Some(star), Some(dot), Some(host_dot)) =
        (position(name, b'*'), position(name, b'.'), position(host, b'.'))
    else {
        return false;
    };
    let (label, parents) = name.split_at(dot);
    star + 1 == dot
        && parents.iter().filter(|byte| **byte == b'.').count() >= 2
        && host.get(host_dot..) == Some(parents)
        && label.get(..star).is_some_and(|begin| host.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_the_rest_of_the_first_label() {
        assert!(matches_host(b"a.b.org", b"a.b.org"));
        assert!(matches_host(b"a.b.org", b"*.b.org"));
        assert!(matches_host(b"ab.b.org", b"a*.b.org"));
        assert!(!matches_host(b"bb.b.org", b"a*.b.org"));
        assert!(!matches_host(b"b.org", b"*.org"));
        assert!(!matches_host(b"a.b.b.org", b"*.b.org"));
        assert!(!matches_host(b"a.b.org", b"*a.b.org"));
        assert!(!matches_host(b"A.b.org", b"a.b.org"));
    }

    #[test]
    fn constraints_are_read() {
        let ca = BasicConstraints { ca: true, path_len: Some(0) };
        assert_eq!(basic_constraints(&[0x30, 6, 1, 1, 0xFF, 2, 1, 0]), Some(ca));
        let none = BasicConstraints { ca: false, path_len: None };
        assert_eq!(basic_constraints(&[0x30, 0]), Some(none));
        assert_eq!(basic_constraints(&[0x30, 1, 5]), None);
    }

    #[test]
    fn names_of_each_kind_are_kept_apart() {
        let mut weirds = Vec::new();
        let value = [0x30, 15, 0x82, 1, b'a', 0x87, 4, 1, 2, 3, 4, 0x87, 1, 9, 0x81, 1, b'm'];
        let mut value = value.to_vec();
        value[1] = u8::try_from(value.len() - 2).unwrap_or_default();
        let names = AltNames::read(&value, &mut weirds).unwrap_or_default();
        assert_eq!(names.dns, Some(vec![b"a".to_vec()]));
        assert_eq!(names.email, Some(vec![b"m".to_vec()]));
        assert_eq!(names.ip, Some(vec![IpAddr::from([1, 2, 3, 4])]));
        assert_eq!(names.uri, None);
        assert_eq!(weirds, [("x509_san_ip_length", "1".to_owned())]);
    }
}
