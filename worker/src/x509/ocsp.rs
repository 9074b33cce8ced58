//! OCSP responses (RFC 6960): whether certificates are still good. They are files, stapled to a
//! TLS handshake or fetched by HTTP; a row of `ocsp.log` for each certificate they speak of.

use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Fuid;

use super::certificate::algorithm;
use super::der::{Element, Elements, integer_text, tag};
use super::{oid, time};
use crate::file::{File, FileAnalyzer, FileCx, FileSpec};
use crate::log::weird::Weird;

/// The analysis of a response.
pub static SPEC: FileSpec = FileSpec {
    name: "OCSP_REPLY",
    mime_types: &["application/ocsp-response"],
    hides_file: false,
    begin: |_: &File| Box::<Response>::default(),
};

/// Bytes of a response that are kept. Real ones have some thousand; a longer one is not read.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;
/// Certificates that one response may speak of; further ones have no row.
const CERTIFICATES_MAX: usize = 1000;
/// `id-pkix-ocsp-basic`.
const BASIC: &str = "1.3.6.1.5.5.7.48.1.1";

/// What a response says of a certificate.
#[derive(Debug, LogRecord)]
#[log(stream = "ocsp")]
pub struct OcspLog {
    /// When the response was seen.
    pub ts: Ts,
    /// The file that it was.
    pub id: Fuid,
    /// Algorithm of the hashes.
    #[log(name = "hashAlgorithm")]
    pub hash_algorithm: String,
    /// Hash of the issuer's name.
    #[log(name = "issuerNameHash")]
    pub issuer_name_hash: String,
    /// Hash of the issuer's key.
    #[log(name = "issuerKeyHash")]
    pub issuer_key_hash: String,
    /// The certificate's serial number.
    #[log(name = "serialNumber")]
    pub serial_number: String,
    /// Whether it is good.
    #[log(name = "certStatus")]
    pub cert_status: &'static str,
    /// Since when it is not.
    pub revoketime: Option<Ts>,
    /// Why it is not.
    pub revokereason: Option<&'static str>,
    /// When that was known to be so.
    #[log(name = "thisUpdate")]
    pub this_update: Ts,
    /// When more will be known.
    #[log(name = "nextUpdate")]
    pub next_update: Option<Ts>,
}

#[derive(Debug, Default)]
struct Response {
    bytes: Vec<u8>,
}

impl FileAnalyzer for Response {
    fn deliver(&mut self, bytes: &[u8], _cx: &mut FileCx<'_>) -> bool {
        let room = RESPONSE_BYTES_MAX - self.bytes.len();
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        bytes.len() < room
    }

    fn end(&mut self, cx: &mut FileCx<'_>) {
        let (ts, fuid) = (cx.file.begun, cx.file.fuid);
        let mut weirds = Vec::new();
        match read(&self.bytes) {
            Some(singles) => {
                for single in singles.iter().take(CERTIFICATES_MAX) {
                    cx.row(&single.row(ts, fuid, &mut weirds));
                }
            }
            None => weirds.push("openssl_ocsp_response_parse_error"),
        }
        for name in weirds {
            cx.shared.weird_of_file(cx.now, fuid, &Weird::new(name), cx.out);
        }
    }
}

/// What is said of one certificate.
struct Single<'a> {
    hash_algorithm: String,
    name_hash: &'a [u8],
    key_hash: &'a [u8],
    serial: &'a [u8],
    status: Status<'a>,
    this_update: Element<'a>,
    next_update: Option<Element<'a>>,
}

enum Status<'a> {
    Good,
    Revoked { at: Element<'a>, reason: Option<u64> },
    Unknown,
}

/// The certificates that a response speaks of: none when it is not of the basic type or tells
/// an error. `None` when it cannot be read.
fn read(bytes: &[u8]) -> Option<Vec<Single<'_>>> {
    let mut parts = Elements(bytes).expect(tag::SEQUENCE)?.inside();
    parts.expect(tag::ENUMERATED)?;
    let Some(explicit) = parts.context(0) else { return Some(Vec::new()) };
    let mut body = explicit.inside().expect(tag::SEQUENCE)?.inside();
    let kind = oid::dotted(body.expect(tag::OID)?.content)?;
    let basic = body.expect(tag::OCTET_STRING)?;
    if kind != BASIC {
        return Some(Vec::new());
    }
    // What is wrong deeper inside leaves no row and, as in Zeek, no weird.
    Some(read_basic(basic.inside()).unwrap_or_default())
}

fn read_basic(mut basic: Elements<'_>) -> Option<Vec<Single<'_>>> {
    let mut parts = basic.expect(tag::SEQUENCE)?.inside();
    let mut tbs = parts.expect(tag::SEQUENCE)?.inside();
    parts.expect(tag::SEQUENCE)?;
    parts.expect(tag::BIT_STRING)?;
    let _version = tbs.context(0);
    tbs.next().filter(|responder| responder.is_context)?;
    tbs.expect(tag::GENERALIZED_TIME)?;
    let mut list = tbs.expect(tag::SEQUENCE)?.inside();
    let mut singles = Vec::new();
    while !list.is_empty() {
        singles.push(read_single(list.expect(tag::SEQUENCE)?.inside())?);
    }
    Some(singles)
}

fn read_single(mut single: Elements<'_>) -> Option<Single<'_>> {
    let mut id = single.expect(tag::SEQUENCE)?.inside();
    let hash = algorithm(id.expect(tag::SEQUENCE)?)?;
    let name_hash = id.expect(tag::OCTET_STRING)?.content;
    let key_hash = id.expect(tag::OCTET_STRING)?.content;
    let serial = id.expect(tag::INTEGER)?.content;
    let status = single.next().filter(|status| status.is_context)?;
    let status = match status.tag {
        0 => Status::Good,
        1 => {
            let mut revoked = status.inside();
            let at = revoked.expect(tag::GENERALIZED_TIME)?;
            let reason = match revoked.context(0) {
                Some(reason) => {
                    let number = reason.inside().expect(tag::ENUMERATED)?.content;
                    Some(number.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
                }
                None => None,
            };
            Status::Revoked { at, reason }
        }
        2 => Status::Unknown,
        _ => return None,
    };
    let this_update = single.expect(tag::GENERALIZED_TIME)?;
    let next_update = match single.context(0) {
        Some(next) => Some(next.inside().expect(tag::GENERALIZED_TIME)?),
        None => None,
    };
    let hash_algorithm = oid::long_name(&hash).map_or_else(|| hash.clone(), str::to_owned);
    Some(Single { hash_algorithm, name_hash, key_hash, serial, status, this_update, next_update })
}

impl Single<'_> {
    fn row(&self, ts: Ts, id: Fuid, weirds: &mut Vec<&'static str>) -> OcspLog {
        let mut time = |element: &Element<'_>| match time::seconds(element) {
            Ok(seconds) => time::ts(seconds),
            Err(weird) => {
                weirds.push(weird);
                Ts(0)
            }
        };
        let (cert_status, revoketime, revokereason) = match &self.status {
            Status::Good => ("good", None, None),
            Status::Revoked { at, reason } => ("revoked", Some(time(at)), reason.map(reason_name)),
            Status::Unknown => ("unknown", None, None),
        };
        OcspLog {
            ts,
            id,
            hash_algorithm: self.hash_algorithm.clone(),
            issuer_name_hash: octets_text(self.name_hash),
            issuer_key_hash: octets_text(self.key_hash),
            serial_number: integer_text(self.serial),
            cert_status,
            revoketime: revoketime.filter(|at| at.0 != 0),
            revokereason,
            this_update: time(&self.this_update),
            next_update: self.next_update.as_ref().map(time).filter(|at| at.0 != 0),
        }
    }
}

/// Bytes as OpenSSL's `i2a_ASN1_STRING` writes them.
fn octets_text(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "0".to_owned();
    }
    let lines: Vec<String> = bytes.chunks(35).map(super::der::hex_upper).collect();
    lines.join("\\\n")
}

/// Why a certificate is not good any more (RFC 5280 section 5.3.1).
fn reason_name(reason: u64) -> &'static str {
    match reason {
        0 => "unspecified",
        1 => "keyCompromise",
        2 => "cACompromise",
        3 => "affiliationChanged",
        4 => "superseded",
        5 => "cessationOfOperation",
        6 => "certificateHold",
        8 => "removeFromCRL",
        9 => "privilegeWithdrawn",
        10 => "aACompromise",
        _ => "(UNKNOWN)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_speaks_of_no_certificate_and_what_is_no_response_is_told() {
        assert_eq!(read(&[0x30, 3, 0x0A, 1, 1]).map(|singles| singles.len()), Some(0));
        assert!(read(&[0x30, 3, 0x02, 1, 1]).is_none());
        assert!(read(b"").is_none());
    }

    #[test]
    fn long_hashes_are_written_in_lines() {
        assert_eq!(octets_text(&[]), "0");
        assert_eq!(octets_text(&[0xAB; 36]), format!("{}\\\nAB", "AB".repeat(35)));
    }
}
