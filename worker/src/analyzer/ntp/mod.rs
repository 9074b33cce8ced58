//! NTP (RFC 5905; control messages: RFC 9327; mode 7 is private to ntpd). Datagrams in, a row
//! per message out. Who asks is told by the mode, where the order of packets cannot tell.

use tyto_core::net::{Proto, Side};

pub use self::log::{NtpControlLog, NtpLog, NtpPrivateLog};
use self::parser::Body;
use super::{Analyzer, Cx, Spec};

mod log;
mod parser;
#[cfg(test)]
mod tests;

/// NTP as an analyzer.
pub static SPEC: Spec = Spec {
    name: "NTP",
    ports: &[(Proto::Udp, 123)],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(Ntp::default()),
};

const CLIENT: u8 = 3;
const SERVER: u8 = 4;

/// NTP on one connection. It holds the latest row of each kind: Zeek writes them all with each
/// message, so a connection that mixes kinds repeats them.
#[derive(Debug, Default)]
struct Ntp {
    /// By [`Side::index`]: a message of that side swapped the roles.
    has_flipped: [bool; 2],
    sync: Option<NtpLog>,
    control: Option<NtpControlLog>,
    private: Option<NtpPrivateLog>,
}

impl Analyzer for Ntp {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let message = match parser::parse(bytes) {
            Ok(message) => message,
            Err(reason) => {
                cx.violation(format!("Binpac exception: binpac exception: {reason}"), bytes);
                return;
            }
        };
        cx.confirm();
        let is_wrong = matches!((message.mode, side), (SERVER, Side::Orig) | (CLIENT, Side::Resp));
        if let Some(has_flipped) = self.has_flipped.get_mut(side.index())
            && is_wrong
            && !std::mem::replace(has_flipped, true)
        {
            cx.flip_roles();
        }
        match &message.body {
            Body::Sync(sync) => self.sync = Some(NtpLog::new(&message, sync, cx)),
            Body::Control(control) => {
                self.control = Some(NtpControlLog::new(&message, control, cx));
            }
            Body::Private(private) => {
                self.private = Some(NtpPrivateLog::new(&message, private, cx));
            }
            Body::Reserved => {}
        }
        if let Some(row) = &self.sync {
            cx.row(row);
        }
        if let Some(row) = &self.control {
            cx.row(row);
        }
        if let Some(row) = &self.private {
            cx.row(row);
        }
    }

    fn end(&mut self, _cx: &mut Cx<'_>) {}
}
