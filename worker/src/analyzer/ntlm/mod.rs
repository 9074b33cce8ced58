//! NTLM logons (\[MS-NLMP\]): the three messages of a handshake, which other protocols carry.
//! Who asks, from where, and which server it is go to `ntlm.log`; whether the logon was
//! accepted tells the carrier (SPNEGO).

pub mod log;
pub mod parser;
pub mod session;
#[cfg(test)]
mod tests;

use tyto_core::net::Side;

use self::parser::Message;
use super::{Analyzer, Cx, Spec};

/// NTLM, on its own only inside of others.
pub static SPEC: Spec =
    Spec { name: "NTLM", ports: &[], tcp_probe: None, udp_probe: None, begin: |_| Box::new(Ntlm) };

#[derive(Debug)]
struct Ntlm;

impl Analyzer for Ntlm {
    fn deliver(&mut self, _side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        match parser::message(bytes) {
            Ok(message) => {
                if let Message::Challenge(server) = &message
                    && server.lacks_end
                {
                    cx.violation("NTLM AV Pair loop underflow", &[]);
                }
                cx.windows(|sessions, cx| sessions.ntlm.message(message, cx));
                cx.confirm();
            }
            Err(fault) => cx.violation(fault.to_string(), &[]),
        }
    }

    fn end(&mut self, _cx: &mut Cx<'_>) {}
}
