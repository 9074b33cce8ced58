//! Protocols above the transport. Each is one folder with a [`Spec`]; [`SPECS`] is the table of
//! them all. A [`stage::Stage`] is a byte stream (or a flow of datagrams) with the analyzers
//! that listen to it: chosen by port, by content ([`detect`]), or by another analyzer, as TLS
//! after STARTTLS.
//!
//! ```text
//! flow/tcp ─ reassembly ─▶ Stage ─▶ Analyzer ─▶ Cx ─▶ rows, files, weirds
//!                            │         └─▶ a Stage of its own (STARTTLS, CONNECT, Upgrade …)
//!                            └─ detection: the first bytes against the probes of all SPECS
//! ```
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::fmt;

use tyto_core::net::{Proto, Side};

pub mod bytes;
pub mod content_line;
#[cfg(test)]
mod conversation_tests;
pub mod cx;
pub mod detect;
pub mod expected;
pub mod late;
pub mod log;
pub mod mime;
pub mod nvt;
mod spare;
pub mod stage;
pub mod state;
pub mod text;
mod uri;

// Protocols, by what they are for.
// Names, addresses, time, management:
pub mod dhcp;
pub mod dns;
pub mod ntp;
pub mod radius;
pub mod snmp;
pub mod syslog;
// Industry:
pub mod dnp3;
pub mod modbus;
// Web, media, messages:
pub mod http;
pub mod mqtt;
pub mod sip;
pub mod websocket;
// Encryption:
pub mod quic;
pub mod ssl;
// Mail:
pub mod imap;
pub mod pop3;
pub mod smtp;
// File transfer, login, databases:
pub mod finger;
pub mod ftp;
pub mod irc;
pub mod mysql;
pub mod postgresql;
pub mod rdp;
pub mod redis;
pub mod rfb;
pub mod socks;
pub mod ssh;
pub mod xmpp;
// Windows networks:
pub mod dce_rpc;
pub mod gssapi;
pub mod krb;
pub mod ldap;
pub mod ntlm;
pub mod smb;
pub mod windows;

pub use cx::Cx;
pub use detect::{First, Match};

/// One protocol on one connection: called on the packet thread, in stream order. Input is
/// hostile: a length is checked before it is used, and everything that is kept has a bound.
pub trait Analyzer: Send {
    /// The next bytes that `side` sent: any piece of a TCP stream, or one whole UDP datagram.
    /// They are borrowed: only what a record needs is copied.
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>);

    /// A datagram came that has a header only.
    fn empty(&mut self, _cx: &mut Cx<'_>) {}

    /// `missed_bytes` of `side` will never come; what is delivered next stands behind them.
    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {}

    /// `side` ended its byte stream (FIN or RST), and all of it was delivered. TCP only.
    fn end_of_side(&mut self, _side: Side, _cx: &mut Cx<'_>) {}

    /// Originator and responder were swapped: what is kept by side changes places.
    fn flipped(&mut self) {}

    /// The time that was asked for with [`Cx::wake_at`] has come.
    fn wake(&mut self, _cx: &mut Cx<'_>) {}

    /// A violation ended the analysis: nothing more is delivered, [`Analyzer::end`] still comes.
    fn failed(&mut self, _cx: &mut Cx<'_>) {}

    /// The connection is over: what is pending is written. Comes once, also after a failure.
    fn end(&mut self, cx: &mut Cx<'_>);
}

/// What is known of a protocol before it is seen.
pub struct Spec {
    /// Name as in analyzer.log, such as `HTTP`; in lower case it is the `service` of conn.log.
    pub name: &'static str,
    /// Responder's ports on which the protocol is tried without a look at the content.
    pub ports: &'static [(Proto, u16)],
    /// Tells by the first bytes of TCP streams whether the protocol is to be tried.
    pub tcp_probe: Option<fn(&First<'_>) -> Match>,
    /// The same for datagrams: `First` holds the latest datagram of each side.
    pub udp_probe: Option<fn(&First<'_>) -> Match>,
    /// Begins the analysis of a connection.
    pub begin: fn(&mut Cx<'_>) -> Box<dyn Analyzer>,
}

/// All protocols. The order is that in which analyzers of a stage are called.
pub static SPECS: &[&Spec] = &[
    // Names, addresses, time, management:
    &dns::SPEC,
    &ntp::SPEC,
    &dhcp::SPEC,
    &snmp::SPEC,
    &syslog::SPEC,
    &radius::SPEC,
    // Industry:
    &modbus::SPEC,
    &dnp3::SPEC_TCP,
    &dnp3::SPEC_UDP,
    // Web, media, messages:
    &http::SPEC,
    &mqtt::SPEC,
    &sip::SPEC,
    &websocket::SPEC,
    // Encryption:
    &ssl::SPEC,
    &ssl::DTLS_SPEC,
    &quic::SPEC,
    // Mail:
    &smtp::SPEC,
    &pop3::SPEC,
    &imap::SPEC,
    // File transfer, login, databases:
    &ftp::SPEC,
    &ftp::data::SPEC,
    &irc::SPEC,
    &irc::data::SPEC,
    &mysql::SPEC,
    &postgresql::SPEC,
    &rdp::SPEC,
    &rdp::udp::SPEC,
    &redis::SPEC,
    &rfb::SPEC,
    &socks::SPEC,
    &ssh::SPEC,
    &xmpp::SPEC,
    &finger::SPEC,
    // Windows networks:
    &krb::SPEC,
    &krb::TCP_SPEC,
    &ntlm::SPEC,
    &gssapi::SPEC,
    &dce_rpc::SPEC,
    &smb::SPEC,
    &ldap::TCP_SPEC,
    &ldap::UDP_SPEC,
];

/// The spec called `name`, for analyzers that hand a stream on to another protocol.
pub fn spec(name: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.name == name).copied()
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
