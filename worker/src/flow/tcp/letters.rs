//! The letters that a segment's flags leave in the `history` column.

use tyto_core::net::Side;

use super::Tcp;
use super::sink::StreamSink;
use crate::decode::tcp::TcpFlags;
use crate::flow::conn::ConnCore;

impl Tcp {
    /// Notes a segment of `len` payload bytes at `seq`, relative, that end `sender` sent.
    pub(super) fn note_in_history(
        &mut self,
        core: &mut ConnCore,
        sender: usize,
        flags: TcpFlags,
        seq: u64,
        len: u32,
        sink: &mut impl StreamSink,
    ) {
        let special = u8::from(flags.syn()) + u8::from(flags.fin()) + u8::from(flags.rst());
        let letter = match special {
            0 if len > 0 => b'D',
            0 if flags.ack() => b'A',
            0 => return,
            1 if flags.syn() && flags.ack() => b'H',
            1 if flags.syn() => b'S',
            1 if flags.fin() => b'F',
            1 => b'R',
            _ if flags.fin() && flags.rst() => b'I',
            _ => b'Q',
        };
        if matches!(letter, b'A' | b'D') && core.history.letters() == b"H" {
            // It began with a SYN-ACK and goes on: no stealth scan, but a SYN that we missed.
            self.swap_roles(core, sink);
            core.history.replace(b"^h");
            self.first_seen[Side::Orig.index()] = true;
        }
        let role = self.role_of(sender);
        let was_seen = core.history.push_once(role, letter);
        let end = &mut self.ends[sender];
        // Of these, another one with another number is another letter.
        #[allow(clippy::cast_possible_truncation, reason = "compared with another one as short")]
        let (last, seq) = match letter {
            b'S' | b'H' => (&mut end.history_last_syn, seq as u32),
            // A FIN's number comes behind the data that it travels with.
            b'F' => (&mut end.history_last_fin, (seq as u32).wrapping_add(len)),
            b'R' => (&mut end.history_last_rst, seq as u32),
            _ => return,
        };
        if was_seen && *last != seq {
            core.history.push(role, letter);
        }
        *last = seq;
    }
}
