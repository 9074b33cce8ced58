//! `rfb.log`: one row per shared screen.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// A shared screen.
#[derive(Debug, LogRecord)]
#[log(stream = "rfb")]
pub(super) struct RfbLog {
    /// When the first version was seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// The client's major version, three digits.
    pub client_major_version: Option<Vec<u8>>,
    /// The client's minor version.
    pub client_minor_version: Option<Vec<u8>>,
    /// The server's major version.
    pub server_major_version: Option<Vec<u8>>,
    /// The server's minor version.
    pub server_minor_version: Option<Vec<u8>>,
    /// How the client shows who it is.
    pub authentication_method: Option<&'static str>,
    /// The server was satisfied with it.
    pub auth: Option<bool>,
    /// Others may look on.
    pub share_flag: Option<bool>,
    /// Name of the screen.
    pub desktop_name: Option<Vec<u8>>,
    /// Pixels across.
    pub width: Option<u64>,
    /// Pixels down.
    pub height: Option<u64>,
}

/// Name of a security type.
pub(super) const fn authentication_method(security_type: u32) -> &'static str {
    match security_type {
        0 => "Invalid",
        1 => "None",
        2 => "VNC",
        16 => "Tight",
        17 => "Ultra",
        18 => "TLS",
        19 => "VeNCrypt",
        20 => "GTK-VNC SASL",
        21 => "MD5 hash authentication",
        22 => "Colin Dean xvp",
        30 => "Apple Remote Desktop",
        _ => "RealVNC",
    }
}
