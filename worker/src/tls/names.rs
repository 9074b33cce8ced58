//! Names of versions, alerts and groups (IANA's registry of TLS parameters), as Zeek spells them.

use std::borrow::Cow;

/// SSL 2.
pub const SSL_V2: u16 = 0x0002;
/// SSL 3 (RFC 6101).
pub const SSL_V3: u16 = 0x0300;
/// TLS 1.0 (RFC 2246).
pub const TLS_V10: u16 = 0x0301;
/// TLS 1.1 (RFC 4346).
pub const TLS_V11: u16 = 0x0302;
/// TLS 1.2 (RFC 5246).
pub const TLS_V12: u16 = 0x0303;
/// TLS 1.3 (RFC 8446).
pub const TLS_V13: u16 = 0x0304;
/// DTLS 1.0 (RFC 4347).
pub const DTLS_V10: u16 = 0xFEFF;
/// DTLS 1.2 (RFC 6347).
pub const DTLS_V12: u16 = 0xFEFD;
/// DTLS 1.3 (RFC 9147).
pub const DTLS_V13: u16 = 0xFEFC;

/// Whether `version` is of a draft of TLS 1.3, which have numbers of their own.
pub const fn is_tls13_draft(version: u16) -> bool {
    version / 0xFF == 0x7F
}

/// Whether `version` is one that a hello may tell.
pub const fn is_known_version(version: u16) -> bool {
    matches!(
        version,
        SSL_V2 | SSL_V3 | TLS_V10 | TLS_V11 | TLS_V12 | TLS_V13 | DTLS_V10 | DTLS_V12 | DTLS_V13
    ) || version >> 8 == 0x7F
}

/// Name of a version.
pub fn version(version: u16) -> Cow<'static, str> {
    Cow::Borrowed(match version {
        SSL_V2 => "SSLv2",
        SSL_V3 => "SSLv3",
        TLS_V10 => "TLSv10",
        TLS_V11 => "TLSv11",
        TLS_V12 => "TLSv12",
        TLS_V13 => "TLSv13",
        DTLS_V10 => "DTLSv10",
        DTLS_V12 => "DTLSv12",
        DTLS_V13 => "DTLSv13",
        draft if is_tls13_draft(draft) => {
            return Cow::Owned(format!("TLSv13-draft{}", draft % 0x7F));
        }
        other => return Cow::Owned(format!("unknown-{other}")),
    })
}

/// Name of an alert (RFC 8446 section 6).
pub fn alert(description: u16) -> Cow<'static, str> {
    Cow::Borrowed(match description {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        117 => "general_error",
        120 => "no_application_protocol",
        121 => "ech_required",
        other => return Cow::Owned(format!("unknown-{other}")),
    })
}

/// Name of a group or curve (RFC 8446 section 4.2.7).
pub fn curve(group: u16) -> Cow<'static, str> {
    if let Ok(index) = CURVES.binary_search_by_key(&group, |(number, _)| *number)
        && let Some((_, name)) = CURVES.get(index)
    {
        return Cow::Borrowed(name);
    }
    grease(group.into()).unwrap_or_else(|| format!("unknown-{group}")).into()
}

/// Name of a number that clients put in so that servers learn to skip what they do not know
/// (RFC 8701).
pub fn grease(number: u32) -> Option<String> {
    is_grease(number).then(|| format!("grease_0x{number:04X}"))
}

/// Whether `number` is one that is to be skipped (RFC 8701).
pub const fn is_grease(number: u32) -> bool {
    number <= 0xFFFF && number & 0x0F0F == 0x0A0A && number >> 8 == number & 0xFF
}

static CURVES: &[(u16, &str)] = &[
    (1, "sect163k1"),
    (2, "sect163r1"),
    (3, "sect163r2"),
    (4, "sect193r1"),
    (5, "sect193r2"),
    (6, "sect233k1"),
    (7, "sect233r1"),
    (8, "sect239k1"),
    (9, "sect283k1"),
    (10, "sect283r1"),
    (11, "sect409k1"),
    (12, "sect409r1"),
    (13, "sect571k1"),
    (14, "sect571r1"),
    (15, "secp160k1"),
    (16, "secp160r1"),
    (17, "secp160r2"),
    (18, "secp192k1"),
    (19, "secp192r1"),
    (20, "secp224k1"),
    (21, "secp224r1"),
    (22, "secp256k1"),
    (23, "secp256r1"),
    (24, "secp384r1"),
    (25, "secp521r1"),
    (26, "brainpoolP256r1"),
    (27, "brainpoolP384r1"),
    (28, "brainpoolP512r1"),
    (29, "x25519"),
    (30, "x448"),
    (31, "brainpoolP256r1tls13"),
    (32, "brainpoolP384r1tls13"),
    (33, "brainpoolP512r1tls13"),
    (34, "GC256A"),
    (35, "GC256B"),
    (36, "GC256C"),
    (37, "GC256D"),
    (38, "GC512A"),
    (39, "GC512B"),
    (40, "GC512C"),
    (41, "curveSM2"),
    (256, "ffdhe2048"),
    (257, "ffdhe3072"),
    (258, "ffdhe4096"),
    (259, "ffdhe6144"),
    (260, "ffdhe8192"),
    (512, "MLKEM512"),
    (513, "MLKEM768"),
    (514, "MLKEM1024"),
    (4587, "SecP256r1MLKEM768"),
    (4588, "X25519MLKEM768"),
    (4589, "SecP384r1MLKEM1024"),
    (4590, "curveSM2MLKEM768"),
    (16696, "CECPQ2"),
    (25497, "X25519Kyber768Draft00"),
    (25498, "SecP256r1Kyber768Draft00"),
    (65281, "arbitrary_explicit_prime_curves"),
    (65282, "arbitrary_explicit_char2_curves"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_stand_in_the_order_of_their_numbers() {
        assert!(CURVES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn names_are_zeeks() {
        assert_eq!(version(0x7F1C), "TLSv13-draft28");
        assert_eq!(version(0x0505), "unknown-1285");
        assert_eq!(alert(40), "handshake_failure");
        assert_eq!(alert(255), "unknown-255");
        assert_eq!(curve(29), "x25519");
        assert_eq!(curve(0x2A2A), "grease_0x2A2A");
        assert_eq!(curve(0x2A3A), "unknown-10810");
    }
}
