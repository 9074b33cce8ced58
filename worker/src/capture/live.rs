//! A live interface as a source of frames.

use std::time::Duration;

use tyto_capture::LinkType;
use tyto_capture::live::AfPacket;
use tyto_core::time::Ts;

use super::{CaptureError, Next, PacketSource};

/// How long a source waits for a frame before it lets timers and a wish to stop have a turn.
const IDLE_AFTER: Duration = Duration::from_millis(100);

impl PacketSource for AfPacket {
    fn next_frame(&mut self) -> Result<Next<'_>, CaptureError> {
        if !self.wait(IDLE_AFTER)? {
            return Ok(Next::Idle(self.drained_until()));
        }
        // A block without frames says nothing about how far time has come.
        Ok(self.poll_frame().map_or(Next::Idle(Ts(0)), Next::Frame))
    }

    fn upcoming(&self, count: usize, look: &mut dyn FnMut(LinkType, &[u8])) {
        Self::upcoming(self, count, look);
    }
}
