//! SPNEGO (RFC 4178) in GSS-API tokens (RFC 2743 section 3.1): which mechanism is negotiated,
//! and how it ended. What the mechanism says is handed on to NTLM or Kerberos.

pub mod parser;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use tyto_core::net::Side;

use self::parser::Part;
use super::stage::Stage;
use super::windows::reader::Reader;
use super::{Analyzer, Cx, Spec, spec};

/// GSS-API, on its own only inside of others.
pub static SPEC: Spec = Spec {
    name: "GSSAPI",
    ports: &[],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(Gssapi::default()),
};

#[derive(Debug, Default)]
struct Gssapi {
    ntlm: Option<Stage>,
    kerberos: Option<Stage>,
}

impl Analyzer for Gssapi {
    /// One whole token.
    fn deliver(&mut self, _side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let oversize = Cell::new(0);
        let reader = Reader::little(bytes).telling(&oversize);
        let parsed = parser::token(reader, |part| match part {
            Part::State(state) => cx.windows(|sessions, cx| sessions.ntlm.result(state, cx)),
            Part::Ntlm(side, token) => hand_on(&mut self.ntlm, "NTLM", side, token, cx),
            Part::Kerberos(side, token) => hand_on(&mut self.kerberos, "KRB", side, token, cx),
        });
        cx.tell_oversize(&oversize);
        match parsed {
            Ok(()) => cx.confirm(),
            Err(fault) => cx.violation(fault.to_string(), &[]),
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        for stage in [&mut self.ntlm, &mut self.kerberos].into_iter().flatten() {
            stage.end(cx);
        }
    }
}

fn hand_on(stage: &mut Option<Stage>, name: &str, side: Side, token: &[u8], cx: &mut Cx<'_>) {
    if stage.is_none() {
        *stage = spec(name).map(|spec| Stage::apart(spec, cx));
    }
    if let Some(stage) = stage {
        stage.deliver(side, token, cx);
    }
}
