//! AUTH GSSAPI (RFC 2228): the tokens of ADAT commands and replies. `GridFTP` sends TLS in
//! them, without the frame of RFC 2743; anything else is not looked at.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tyto_core::net::Side;

use super::{reply_code, split_word};
use crate::analyzer::stage::Stage;
use crate::analyzer::{Cx, spec};

/// Base64 whose padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An exchange of tokens.
#[derive(Debug)]
pub(super) struct Adat {
    tls: Stage,
    is_begun: bool,
}

impl Adat {
    /// The server agreed to an exchange.
    pub(super) fn new(cx: &mut Cx<'_>) -> Option<Self> {
        Some(Self { tls: Stage::of(spec("SSL")?, cx), is_begun: false })
    }

    /// A line of the control connection. False when the exchange is over.
    pub(super) fn line(&mut self, side: Side, line: &[u8], cx: &mut Cx<'_>) -> bool {
        let (token, goes_on) = match side {
            Side::Orig => self.command(line, cx),
            Side::Resp => reply(line, cx),
        };
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            self.tls.deliver(side, &token, cx);
        }
        if !goes_on && reply_code(line) == 235 && cx.conn.services.contains("SSL") {
            cx.conn.services.add("GRIDFTP");
        }
        goes_on
    }

    /// The exchange, or the connection, is over.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        self.tls.end(cx);
    }

    fn command(&mut self, line: &[u8], cx: &mut Cx<'_>) -> (Option<Vec<u8>>, bool) {
        match split_word(line) {
            // Security begins anew.
            (word, _) if b"AUTH".starts_with(word) => (None, false),
            (word, encoded) if b"ADAT".starts_with(word) => {
                let token = decode(encoded, cx);
                if std::mem::replace(&mut self.is_begun, true) {
                    return (token, true);
                }
                if token.is_none() {
                    cx.weird_of("FTP_ADAT", "ftp_adat_bad_first_token_encoding", "");
                }
                match token {
                    Some(token) if is_tls_record(&token) => (Some(token), true),
                    _ => (None, false),
                }
            }
            _ => (None, true),
        }
    }
}

/// The token in a reply, and whether the exchange goes on after it.
fn reply(line: &[u8], cx: &mut Cx<'_>) -> (Option<Vec<u8>>, bool) {
    let code = reply_code(line);
    match code {
        235 | 334 | 335 => {
            let text = line.get(3..).unwrap_or_default();
            let text = text.strip_prefix(b"-").unwrap_or(text).trim_ascii_start();
            let encoded = text.strip_prefix(b"ADAT=");
            (encoded.and_then(|encoded| decode(encoded, cx)), code != 235)
        }
        // Done, refused, or already protected.
        232 | 234 | 421 | 431 | 500 | 501 | 503 | 535 | 631..=633 => (None, false),
        _ => (None, true),
    }
}

/// The bytes of a token. None when it is no Base64, which is told; what is missing at its end
/// is made up.
fn decode(encoded: &[u8], cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    const WEIRD: &str = "base64_illegal_encoding";
    let is_legal = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    if let Some(byte) = encoded.iter().find(|byte| !is_legal(byte)) {
        let addl = format!("character {byte} ignored by Base64 decoding");
        cx.weird_without_source(WEIRD, &addl);
        return None;
    }
    let digits = encoded.iter().position(|byte| *byte == b'=').unwrap_or(encoded.len());
    if digits.next_multiple_of(4) < encoded.len() {
        cx.weird_without_source(WEIRD, "extra base64 groups after '=' padding are ignored");
        return None;
    }
    let rest = encoded.len() % 4;
    if rest > 0 {
        let addl = format!("incomplete base64 group, padding with {} bits of 0", (4 - rest) * 6);
        cx.weird_without_source(WEIRD, &addl);
    }
    // One digit of a group is not a byte.
    let digits = if digits % 4 == 1 { digits - 1 } else { digits };
    BASE64.decode(encoded.get(..digits)?).ok()
}

/// A handshake record of TLS, whole.
fn is_tls_record(token: &[u8]) -> bool {
    match token {
        [0x16, _, _, high, low, rest @ ..] => {
            rest.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}
