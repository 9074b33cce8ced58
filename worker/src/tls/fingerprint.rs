//! Fingerprints of hellos: JA3 and JA3S (MD5 over what is offered and chosen, in order), JA4
//! (what is offered, sorted). Numbers that are there to be skipped (RFC 8701) do not count.

use sha2::{Digest, Sha256};

use super::message::{ClientHello, ServerHello, extension};
use super::names::{self, is_grease};
use crate::analyzer::bytes::Cursor;
use crate::analyzer::text::hex;

/// What carries the handshake: the first letter of JA4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TCP.
    Tcp,
    /// Datagrams of DTLS.
    Dtls,
    /// QUIC.
    Quic,
}

/// Extensions of a hello, collected until all of it was read.
#[derive(Clone, Debug, Default)]
pub struct Extensions {
    codes: Vec<u16>,
    groups: Vec<u16>,
    point_formats: Vec<u8>,
    signature_algorithms: Vec<u16>,
    versions: Vec<u16>,
    alpn: Vec<u8>,
}

impl Extensions {
    /// The next extension.
    pub fn add(&mut self, code: u16, bytes: &[u8]) {
        self.codes.push(code);
        let behind = |len: usize| bytes.get(len..).unwrap_or_default();
        match code {
            extension::SUPPORTED_GROUPS => self.groups = words(behind(2)),
            extension::EC_POINT_FORMATS => self.point_formats = behind(1).to_vec(),
            extension::SIGNATURE_ALGORITHMS => self.signature_algorithms = words(behind(2)),
            extension::SUPPORTED_VERSIONS => self.versions = words(behind(1)),
            extension::ALPN => {
                let mut list = Cursor::new(behind(2));
                let first = list.u8().and_then(|len| list.take(len.into()));
                self.alpn = first.unwrap_or_default().to_vec();
            }
            _ => {}
        }
    }

    /// JA3 of the client's hello that has these extensions.
    pub fn ja3(&self, hello: &ClientHello<'_>) -> String {
        let points: Vec<u16> = self.point_formats.iter().map(|point| (*point).into()).collect();
        let text = format!(
            "{},{},{},{},{}",
            hello.version,
            decimals(&words(hello.suites)),
            decimals(&self.codes),
            decimals(&self.groups),
            decimals(&points)
        );
        hex(&fast_md5::digest(text.as_bytes()))
    }

    /// JA3S of the server's hello that has these extensions.
    pub fn ja3s(&self, hello: &ServerHello<'_>) -> String {
        let text = format!("{},{},{}", hello.version, hello.suite, decimals(&self.codes));
        hex(&fast_md5::digest(text.as_bytes()))
    }

    /// JA4 of the client's hello that has these extensions.
    pub fn ja4(&self, hello: &ClientHello<'_>, carrier: Carrier) -> String {
        let carrier = match carrier {
            Carrier::Tcp => 't',
            Carrier::Dtls => 'd',
            Carrier::Quic => 'q',
        };
        let offered = without_grease(&self.versions).max().unwrap_or(hello.version);
        let mut suites: Vec<u16> = without_grease(&words(hello.suites)).collect();
        let mut codes: Vec<u16> = without_grease(&self.codes).collect();
        let name = if codes.contains(&extension::SERVER_NAME) { 'd' } else { 'i' };
        let (suite_count, code_count) = (suites.len().min(99), codes.len().min(99));
        suites.sort_unstable();
        codes.retain(|code| ![extension::SERVER_NAME, extension::ALPN].contains(code));
        codes.sort_unstable();
        let mut listed = hexadecimals(codes.into_iter());
        if !self.signature_algorithms.is_empty() {
            listed.push('_');
            listed.push_str(&hexadecimals(without_grease(&self.signature_algorithms)));
        }
        let (version, alpn) = (version_code(offered), self.alpn_code());
        let suites = short_digest(&hexadecimals(suites.into_iter()));
        let listed = short_digest(&listed);
        format!("{carrier}{version}{name}{suite_count:02}{code_count:02}{alpn}_{suites}_{listed}")
    }

    /// First and last character of the first protocol, or of its bytes in hexadecimal.
    fn alpn_code(&self) -> String {
        let (Some(first), Some(last)) = (self.alpn.first(), self.alpn.last()) else {
            return "00".to_owned();
        };
        if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
            return [char::from(*first), char::from(*last)].iter().collect();
        }
        format!("{:x}{:x}", first >> 4, last & 0x0F)
    }
}

fn version_code(version: u16) -> &'static str {
    match version {
        names::TLS_V13 => "13",
        names::TLS_V12 => "12",
        names::TLS_V11 => "11",
        names::TLS_V10 => "10",
        names::SSL_V3 => "s3",
        names::SSL_V2 => "s2",
        names::DTLS_V10 => "d1",
        names::DTLS_V12 => "d2",
        names::DTLS_V13 => "d3",
        _ => "00",
    }
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word)).collect()
}

fn without_grease(numbers: &[u16]) -> impl Iterator<Item = u16> {
    numbers.iter().copied().filter(|number| !is_grease((*number).into()))
}

fn decimals(numbers: &[u16]) -> String {
    let numbers: Vec<_> = without_grease(numbers).map(|number| number.to_string()).collect();
    numbers.join("-")
}

fn hexadecimals(numbers: impl Iterator<Item = u16>) -> String {
    let numbers: Vec<_> = numbers.map(|number| format!("{number:04x}")).collect();
    numbers.join(",")
}

/// Twelve digits of the SHA-256; zeros of nothing.
fn short_digest(text: &str) -> String {
    const DIGITS: usize = 12;
    if text.is_empty() {
        return "0".repeat(DIGITS);
    }
    let mut digits = hex(&Sha256::digest(text));
    digits.truncate(DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of JA4's specification: Chrome over TCP.
    #[test]
    fn ja4_is_that_of_the_specification() {
        let suites = [
            0x1301_u16, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013,
            0xC014, 0x009C, 0x009D, 0x002F, 0x0035,
        ];
        let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        let mut extensions = Extensions::default();
        let algorithms = [0, 16, 4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1, 8, 6, 6, 1];
        for code in [
            0x1B, 0, 0x33, 0x10, 0x4469, 0x17, 0x2D, 0xD, 5, 0x23, 0x12, 0x2B, 0xFF01, 0xB, 0xA,
            0x15,
        ] {
            let bytes: &[u8] = match code {
                0x10 => &[0, 3, 2, b'h', b'2'],
                0x0D => &algorithms,
                0x2B => &[4, 3, 4, 3, 3],
                _ => &[],
            };
            extensions.add(code, bytes);
        }
        let hello = ClientHello { version: names::TLS_V12, session_id: &[], suites: &suites };
        assert_eq!(extensions.ja4(&hello, Carrier::Tcp), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    /// The first example of JA3's readme.
    #[test]
    fn ja3_is_that_of_its_readme() {
        let suites: Vec<u8> = [47_u16, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4]
            .iter()
            .flat_map(|suite| suite.to_be_bytes())
            .collect();
        let mut extensions = Extensions::default();
        extensions.add(0, &[]);
        extensions.add(10, &[0, 6, 0, 23, 0, 24, 0, 25]);
        extensions.add(11, &[1, 0]);
        let hello = ClientHello { version: 769, session_id: &[], suites: &suites };
        assert_eq!(extensions.ja3(&hello), "ada70206e40642a3e4461f35503241d5");
    }

    #[test]
    fn nothing_offered_is_zeros() {
        let hello = ClientHello { version: names::DTLS_V12, session_id: &[], suites: &[] };
        let code = Extensions::default().ja4(&hello, Carrier::Dtls);
        assert_eq!(code, "dd2i000000_000000000000_000000000000");
    }
}
