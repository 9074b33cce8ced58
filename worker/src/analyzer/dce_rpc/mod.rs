//! DCE/RPC (C706, \[MS-RPCE\]): remote procedure calls of Windows, on TCP ports of their own
//! and in the named pipes of SMB. What was called goes to `dce_rpc.log`; who logs on stands in
//! the verifiers, which go to SPNEGO and NTLM.

mod interfaces;
pub mod log;
pub mod parser;
pub mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tyto_core::net::{Proto, Side};

use self::parser::{Body, Header, Pdu};
use super::detect::{First, Match};
use super::stage::Stage;
use super::windows::frames::Frames;
use super::windows::reader::Fault;
use super::{Analyzer, Cx, Spec, spec};

/// Calls that are put together from fragments at a time, by side (Zeek: `max_cmd_reassembly`).
/// One more, and the analysis ends.
const REASSEMBLED_MAX: usize = 20;
/// Bytes of one such call (Zeek: `max_frag_data`). One more, and the analysis ends.
const REASSEMBLED_BYTES_MAX: usize = 30_000;
/// Contexts whose latest operation is kept. Further ones forget the others.
const CONTEXTS_MAX: usize = 1024;
/// A PDU's length has 16 bits.
const PDU_MAX: usize = 0xffff;

/// Kinds of verifiers ([MS-RPCE] section 2.2.1.1.7).
const AUTH_SPNEGO: u8 = 0x09;
const AUTH_NTLM: u8 = 0x0a;
const AUTH_TLS: u8 = 0x0e;
const AUTH_KERBEROS: u8 = 0x10;
const AUTH_NETLOGON: u8 = 0x44;

/// DCE/RPC with connections.
pub static SPEC: Spec = Spec {
    name: "DCE_RPC",
    ports: &[(Proto::Tcp, 135)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |cx| {
        let pipe = cx.windows(|sessions, _| std::mem::take(&mut sessions.pipe));
        Box::new(DceRpc { pipe, ..DceRpc::default() })
    },
};

fn probe(first: &First<'_>) -> Match {
    let shows = |bytes: &[u8]| matches!(bytes, [5, 0 | 1, 0..=0x13, ..]);
    if shows(first.orig) || shows(first.resp) {
        Match::Yes
    } else if first.orig.len() < 3 || first.resp.len() < 3 {
        Match::Later
    } else {
        Match::No
    }
}

#[derive(Debug, Default)]
struct DceRpc {
    /// The file that is the pipe; 0 on TCP.
    pipe: u64,
    sides: [Half; 2],
    /// Latest operation, by context.
    operations: BTreeMap<u16, u16>,
    had_gap: bool,
    is_over: bool,
    spnego: Option<Stage>,
    ntlm: Option<Stage>,
}

#[derive(Debug, Default)]
struct Half {
    frames: Frames,
    /// Calls whose last fragment did not come yet, by their id.
    calls: BTreeMap<u32, Vec<u8>>,
}

impl Analyzer for DceRpc {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if self.had_gap || self.is_over {
            return;
        }
        let index = side.index();
        let Some(half) = self.sides.get_mut(index) else { return };
        let mut frames = std::mem::take(&mut half.frames);
        let fed = frames.feed(bytes, PDU_MAX, parser::length, |pdu| self.pdu(side, pdu, cx));
        if let Some(half) = self.sides.get_mut(index) {
            half.frames = frames;
        }
        if let Err(fault) = fed {
            cx.violation(fault.to_string(), &[]);
        }
        if self.is_over {
            cx.done();
        }
    }

    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        self.had_gap = true;
        self.sides = Default::default();
    }

    fn flipped(&mut self) {
        self.sides.swap(0, 1);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        for stage in [&mut self.spnego, &mut self.ntlm].into_iter().flatten() {
            stage.end(cx);
        }
    }
}

impl DceRpc {
    fn pdu(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Fault> {
        if self.is_over {
            return Ok(());
        }
        let pdu = Pdu::parse(bytes)?;
        if let Some((kind, token)) = pdu.verifier {
            self.verifier(side, kind, token, cx);
        }
        if let Some(body) = self.whole(side, &pdu, cx) {
            self.body(pdu.header, body.as_deref().unwrap_or(pdu.body), cx)?;
        }
        cx.confirm();
        Ok(())
    }

    /// Hands on who logs on.
    fn verifier(&mut self, side: Side, kind: u8, token: &[u8], cx: &mut Cx<'_>) {
        let (stage, name) = match kind {
            AUTH_SPNEGO => (&mut self.spnego, "GSSAPI"),
            AUTH_NTLM => (&mut self.ntlm, "NTLM"),
            // Zeek gives these to a parser that takes nothing from streams.
            AUTH_KERBEROS => return,
            AUTH_TLS => return cx.weird_with("tls_dce_rpc_auth_type", &kind.to_string()),
            AUTH_NETLOGON => return cx.weird_with("netlogon_dce_rpc_auth_type", &kind.to_string()),
            _ => return cx.weird_with("unknown_dce_rpc_auth_type", &kind.to_string()),
        };
        if stage.is_none() {
            *stage = spec(name).map(|spec| Stage::apart(spec, cx));
        }
        if let Some(stage) = stage {
            stage.deliver(side, token, cx);
        }
    }

    /// Puts fragments together. `None`: there is more to come, or nothing to do; `Some(None)`:
    /// the PDU's body is the whole call.
    fn whole(&mut self, side: Side, pdu: &Pdu<'_>, cx: &mut Cx<'_>) -> Option<Option<Vec<u8>>> {
        let Header { call_id, is_first, is_last, .. } = pdu.header;
        let calls = &mut self.sides.get_mut(side.index())?.calls;
        if is_first && calls.contains_key(&call_id) {
            cx.weird("multiple_first_fragments_in_dce_rpc_reassembly");
            self.is_over = true;
            return None;
        }
        if is_first && is_last {
            return Some(None);
        }
        if is_first {
            calls.insert(call_id, pdu.body.to_vec());
            if calls.len() > REASSEMBLED_MAX {
                cx.weird("too_many_dce_rpc_msgs_in_reassembly");
                self.is_over = true;
            }
        } else {
            calls.get_mut(&call_id)?.extend_from_slice(pdu.body);
        }
        if calls.get(&call_id)?.len() > REASSEMBLED_BYTES_MAX {
            cx.weird("too_much_dce_rpc_fragment_data");
            self.is_over = true;
        }
        (!is_first && is_last).then(|| calls.remove(&call_id))
    }

    fn body(&mut self, header: Header, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Fault> {
        let pipe = self.pipe;
        parser::body(header, bytes, |body| match body {
            Body::Bind { context, interface } => {
                cx.windows(|sessions, cx| sessions.rpc.bind(pipe, context, &interface, cx));
            }
            Body::BindAck { address } => {
                cx.windows(|sessions, cx| sessions.rpc.bound(pipe, address, cx));
            }
            Body::AlterAck => cx.windows(|sessions, cx| sessions.rpc.altered(pipe, cx)),
            Body::Request { context, operation } => {
                cx.windows(|sessions, cx| sessions.rpc.request(pipe, cx));
                if self.operations.len() >= CONTEXTS_MAX {
                    self.operations.clear();
                }
                self.operations.insert(context, operation);
            }
            Body::Response { context } => {
                let operation = self.operations.get(&context).copied().unwrap_or(0);
                cx.windows(|sessions, cx| sessions.rpc.response(pipe, context, operation, cx));
            }
        })
    }
}
