//! DHCP (RFC 2131). Datagrams in; a row per transaction out, which runs over several connections
//! and is put together for all of them ([`join`]).

use tyto_core::net::{Proto, Side};
use tyto_core::time::Ts;

use super::state::Shared;
use super::{Analyzer, Cx, First, Match, Spec};
use crate::log::weird::Weird;
use crate::neighbours::Note;
use crate::output::Output;

pub mod join;
mod log;
mod parser;
#[cfg(test)]
mod tests;

pub use self::log::DhcpLog;

/// DHCP as an analyzer.
pub static SPEC: Spec = Spec {
    name: "DHCP",
    ports: &[(Proto::Udp, 67), (Proto::Udp, 68), (Proto::Udp, 4011)],
    tcp_probe: None,
    udp_probe: Some(probe),
    begin: |_| Box::new(Dhcp),
};

/// The cookie where BOOTP has its options (RFC 2131 section 3).
fn probe(first: &First<'_>) -> Match {
    const COOKIE_AT: usize = 236;
    let is_found = |bytes: &[u8]| {
        bytes.get(COOKIE_AT..).is_some_and(|rest| rest.starts_with(&parser::COOKIE.to_be_bytes()))
    };
    if is_found(first.orig) || is_found(first.resp) { Match::Yes } else { Match::No }
}

/// All state is the transactions'.
#[derive(Debug)]
struct Dhcp;

impl Analyzer for Dhcp {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let message = match parser::parse(bytes) {
            Ok(message) => message,
            Err(reason) => {
                cx.violation(format!("Binpac exception: binpac exception: {reason}"), &[]);
                return;
            }
        };
        if message.kind == 0 {
            cx.violation("no DHCP message type option", &[]);
        }
        if message.cookie != parser::COOKIE {
            cx.violation(format!("bad cookie ({})", message.cookie.cast_signed()), &[]);
            return;
        }
        cx.confirm();
        let source = join::Source { ts: cx.now, uid: cx.uid(), id: cx.id(), side };
        let piece = join::Piece::new(&message, &source);
        // In a cluster the parts of a transaction come together at one worker, which may be this.
        let note = Note::Dhcp(Box::new(piece));
        if let Err(Note::Dhcp(piece)) = cx.shared.neighbours.tell(note) {
            take(*piece, cx.now, cx.shared, cx.out);
        }
    }

    fn end(&mut self, _cx: &mut Cx<'_>) {}
}

/// A message that this worker or another saw, at the worker where its transaction is put together.
pub fn take(piece: join::Piece, now: Ts, shared: &mut Shared, out: &mut Output) {
    if shared.dhcp.add(piece, out) {
        let addl = join::TRANSACTIONS_MAX.to_string();
        let weird = Weird::new("DHCP_max_tracked_transactions_exceeded").with(&addl);
        shared.weird_of_nobody(now, &weird.from(SPEC.name), out);
    }
}
