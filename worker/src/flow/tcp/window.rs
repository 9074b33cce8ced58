//! The windows that the ends offer: closed ones are a letter of the history, taken back ones a
//! weird.

use super::endpoint::ahead;
use super::sink::StreamSink;
use super::{EndState, Tcp, weird};
use crate::decode::tcp::TcpHeader;
use crate::flow::conn::ConnCore;

/// Highest shift count that counts (RFC 7323 section 2.3).
const SCALE_MAX: u8 = 14;

/// The latest window of an end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    scale: u8,
    /// Bytes, scaled.
    size: u32,
    /// Sequence number of the segment that offered it.
    seq: u32,
    /// What that segment acknowledged.
    ack: u32,
}

impl Tcp {
    /// Takes the window that end `sender` offers.
    pub(super) fn note_window(
        &mut self,
        core: &mut ConnCore,
        sender: usize,
        header: &TcpHeader<'_>,
        sink: &mut impl StreamSink,
    ) {
        let scale = self.ends[sender].window.scale;
        let (flags, state) = (header.flags, self.ends[sender].state);
        let size = u32::from(header.window) << scale;
        // Not worth a letter once nothing can be sent to this end any more.
        if size == 0
            && !flags.rst()
            && self.ends[sender ^ 1].state != EndState::Closed
            && state != EndState::Reset
            && self.ends[sender].zero_windows.count()
        {
            core.history.push(self.role_of(sender), b'W');
        }
        // A window may be taken back by a SYN, and often is by an end that closes.
        let is_special = flags.syn() || flags.fin() || flags.rst();
        if is_special || matches!(state, EndState::Closed | EndState::Reset) {
            return;
        }
        let window = &mut self.ends[sender].window;
        if ahead(header.seq, window.seq) < 0 || ahead(header.ack, window.ack) < 0 {
            return;
        }
        let old_edge = window.ack.wrapping_add(window.size);
        let advance = ahead(header.ack.wrapping_add(size), old_edge);
        *window = Window { scale, size, seq: header.seq, ack: header.ack };
        // Scaling rounds: less than one step is none.
        if advance < 0 && advance.unsigned_abs() >= 1 << scale {
            sink.weird(core, weird::WINDOW_RECISION, "", None);
        }
    }

    /// Takes the window scale of a SYN.
    pub(super) fn note_scale(
        &mut self,
        core: &mut ConnCore,
        sender: usize,
        header: &TcpHeader<'_>,
        sink: &mut impl StreamSink,
    ) {
        let Some(scale) = header.window_scale() else {
            self.ends[sender].window.scale = 0;
            if header.flags.ack() {
                self.ends[sender ^ 1].window.scale = 0;
            }
            return;
        };
        if scale > SCALE_MAX && !core.did_weird {
            sink.weird(core, weird::SCALE_RANGE, &scale.to_string(), weird::TCP);
        }
        let window = &mut self.ends[sender].window;
        window.scale = scale.min(SCALE_MAX);
        (window.seq, window.ack) = (header.seq, header.ack);
        let peer = &mut self.ends[sender ^ 1].window;
        (peer.seq, peer.ack) = (header.ack, header.seq);
    }
}
