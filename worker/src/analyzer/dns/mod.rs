//! DNS (RFC 1035), and what speaks its format: multicast DNS (RFC 6762), LLMNR (RFC 4795), the
//! name service of NetBIOS (RFC 1002). Messages in, a row per question and its answer out.

use tyto_core::net::{Proto, Side};
use tyto_core::time::Ts;

use self::message::Known;
use self::pairs::Pairs;
use self::stream::Framing;
use super::{Analyzer, Cx, Spec};

mod dnssec;
pub(super) mod log;
mod message;
mod name;
mod names;
mod pairs;
mod record;
mod stream;
mod svcb;
#[cfg(test)]
mod tests;

pub use self::log::DnsLog;

/// DNS as an analyzer.
pub static SPEC: Spec = Spec {
    name: "DNS",
    ports: &[
        (Proto::Udp, 53),
        (Proto::Tcp, 53),
        (Proto::Udp, message::NETBIOS_PORT),
        (Proto::Udp, 5353),
        (Proto::Udp, 5355),
    ],
    tcp_probe: None,
    udp_probe: None,
    begin: |cx| Box::new(Dns::begin(cx)),
};

/// A flow of datagrams is over when nothing came for this long, seconds (Zeek:
/// `dns_session_timeout`).
const SESSION_S: u64 = 10;

/// DNS on one connection.
#[derive(Debug)]
struct Dns {
    known: Known,
    pairs: Pairs,
    /// Messages in the byte streams, by [`Side::index`]; none of datagrams.
    framing: Option<Box<[Framing; 2]>>,
    /// When it is looked whether the session is over. Never of TCP.
    session_check: Option<Ts>,
}

impl Dns {
    fn begin(cx: &mut Cx<'_>) -> Self {
        let is_tcp = cx.proto == Proto::Tcp;
        let session_check = (!is_tcp).then(|| cx.now.plus_secs(SESSION_S));
        if let Some(at) = session_check {
            cx.wake_at(at);
        }
        Self {
            known: Known::default(),
            pairs: Pairs::default(),
            framing: is_tcp.then(Box::default),
            session_check,
        }
    }
}

impl Analyzer for Dns {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let Self { known, pairs, framing, .. } = self;
        match framing.as_mut().and_then(|framing| framing.get_mut(side.index())) {
            None => message::message(bytes, Some(side), known, pairs, cx),
            Some(framing) => framing.deliver(bytes, |bytes| {
                message::message(bytes, Some(side), known, pairs, cx);
            }),
        }
    }

    fn empty(&mut self, cx: &mut Cx<'_>) {
        message::message(&[], None, &mut self.known, &mut self.pairs, cx);
    }

    fn end_of_side(&mut self, _side: Side, cx: &mut Cx<'_>) {
        let Self { known, pairs, framing: Some(framing), .. } = self else { return };
        for framing in framing.iter_mut() {
            framing.flush(|bytes| message::message(bytes, None, known, pairs, cx));
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        let Some(at) = self.session_check else { return };
        if cx.now < at {
            cx.wake_at(at);
            return;
        }
        // A second is allowed for, so that an answer soon after its question does not make the
        // session last another ten.
        if cx.conn.last.plus_secs(SESSION_S - 1) <= cx.now {
            cx.end_connection();
            return;
        }
        let next = cx.now.plus_secs(SESSION_S);
        self.session_check = Some(next);
        cx.wake_at(next);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.pairs.write_all(cx);
    }
}
