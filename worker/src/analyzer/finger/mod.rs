//! Finger (RFC 1288): lines that are too long are told, and questions that Zeek 8 takes as cut,
//! which are all; nothing of it is logged.

use tyto_core::net::{Proto, Side};

use super::content_line::ContentLine;
use super::{Analyzer, Cx, Spec};

/// Bytes of a line.
const LINE_LEN_MAX: usize = 1000;

/// Finger.
pub static SPEC: Spec = Spec {
    name: "FINGER",
    ports: &[(Proto::Tcp, 79)],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| {
        Box::new(Finger { lines: [ContentLine::new(LINE_LEN_MAX), ContentLine::new(LINE_LEN_MAX)] })
    },
};

#[derive(Debug)]
struct Finger {
    lines: [ContentLine; 2],
}

impl Analyzer for Finger {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let Some(lines) = self.lines.get_mut(side.index()) else {
            return;
        };
        let mut input = lines.begin(bytes, cx);
        while lines.next(&mut input, cx).is_some() {}
    }

    fn flipped(&mut self) {
        self.lines.swap(0, 1);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        // The originator closed: what it asked is taken as cut, whatever it was.
        if cx.conn.history.letters().contains(&b'F') {
            cx.weird("partial_finger_request");
        }
    }
}
