//! Finger (RFC 1288): told when a question was never answered in a way that Zeek 8 would have
//! read; nothing of it is logged.

use tyto_core::net::{Proto, Side};

use super::{Analyzer, Cx, Spec};

/// Finger.
pub static SPEC: Spec = Spec {
    name: "FINGER",
    ports: &[(Proto::Tcp, 79)],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(Finger),
};

#[derive(Debug)]
struct Finger;

impl Analyzer for Finger {
    fn deliver(&mut self, _side: Side, _bytes: &[u8], _cx: &mut Cx<'_>) {}

    fn end(&mut self, cx: &mut Cx<'_>) {
        // The originator closed: what it asked is taken as cut, whatever it was.
        if cx.conn.history.letters().contains(&b'F') {
            cx.weird("partial_finger_request");
        }
    }
}
