//! `rdp.log`: one row per session, ten seconds after it began or when it ends.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// A session.
#[derive(Debug, LogRecord)]
#[log(stream = "rdp")]
pub(super) struct RdpLog {
    /// When it was seen first.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// What the client says first: most often its user.
    pub cookie: Option<Vec<u8>>,
    /// What became of it.
    pub result: Option<String>,
    /// How it is secured, as the server chose.
    pub security_protocol: Option<String>,
    /// Virtual channels that the client asks for.
    pub client_channels: Option<Vector<Vec<u8>>>,
    /// The client's keyboard.
    pub keyboard_layout: Option<String>,
    /// The client's version.
    pub client_build: Option<String>,
    /// The client's name.
    pub client_name: Option<String>,
    /// The client's product.
    pub client_dig_product_id: Option<String>,
    /// Pixels across.
    pub desktop_width: Option<u64>,
    /// Pixels down.
    pub desktop_height: Option<u64>,
    /// Colours that the client asks for.
    pub requested_color_depth: Option<String>,
    /// Kind of the server's certificate.
    pub cert_type: Option<String>,
    /// Certificates that were seen.
    pub cert_count: u64,
    /// They are meant to stay.
    pub cert_permanent: Option<bool>,
    /// How strong the encryption is.
    pub encryption_level: Option<String>,
    /// How long its keys are.
    pub encryption_method: Option<String>,
}

/// The word for `number` in `words`, or `kind-number`.
fn word(number: u32, kind: &str, words: &[(u32, &str)]) -> String {
    match words.iter().find(|(known, _)| *known == number) {
        Some((_, word)) => (*word).to_owned(),
        None => format!("{kind}-{number}"),
    }
}

pub(super) fn security_protocol(number: u32) -> String {
    let words = [(0, "RDP"), (1, "SSL"), (2, "HYBRID"), (8, "HYBRID_EX")];
    word(number, "security_protocol", &words)
}

pub(super) fn failure_code(number: u32) -> String {
    let words = [
        (1, "SSL_REQUIRED_BY_SERVER"),
        (2, "SSL_NOT_ALLOWED_BY_SERVER"),
        (3, "SSL_CERT_NOT_ON_SERVER"),
        (4, "INCONSISTENT_FLAGS"),
        (5, "HYBRID_REQUIRED_BY_SERVER"),
        (6, "SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER"),
    ];
    word(number, "failure_code", &words)
}

pub(super) fn client_build(number: u32) -> String {
    let words = [
        (419, "RDP 4.0"),
        (2195, "RDP 5.0"),
        (2221, "RDP 5.0"),
        (2600, "RDP 5.1"),
        (3790, "RDP 5.2"),
        (6000, "RDP 6.0"),
        (6001, "RDP 6.1"),
        (6002, "RDP 6.2"),
        (7600, "RDP 7.0"),
        (7601, "RDP 7.1"),
        (9200, "RDP 8.0"),
        (9600, "RDP 8.1"),
        (25189, "RDP 8.0 (Mac)"),
        (25282, "RDP 8.0 (Mac)"),
    ];
    word(number, "client_build", &words)
}

pub(super) fn cert_type(number: u32) -> String {
    word(number, "cert_type", &[(1, "RSA"), (2, "X.509")])
}

pub(super) fn encryption_method(number: u32) -> String {
    let words = [(0, "None"), (1, "40bit"), (2, "128bit"), (8, "56bit"), (10, "FIPS")];
    word(number, "encryption_method", &words)
}

pub(super) fn encryption_level(number: u32) -> String {
    let words = [(0, "None"), (1, "Low"), (2, "Client compatible"), (3, "High"), (4, "FIPS")];
    word(number, "encryption_level", &words)
}

pub(super) fn color_depth(number: u32) -> String {
    let words = [(4, "4bit"), (8, "8bit"), (15, "15bit"), (16, "16bit"), (24, "24bit")];
    word(number, "high_color_depth", &words)
}

pub(super) fn result(number: u32) -> String {
    let words = [
        (0, "Success"),
        (1, "User rejected"),
        (2, "Resources not available"),
        (3, "Rejected for symmetry breaking"),
        (4, "Locked conference"),
    ];
    word(number, "result", &words)
}
