//! Where packets come from: a capture file or a ring of the kernel. A source lends one frame at
//! a time; nothing here looks into it.

use std::io;
use std::path::PathBuf;

use tyto_capture::live::LiveError;
use tyto_capture::{Frame, LinkType};
use tyto_core::time::Ts;

use crate::decode::link_type::UnknownLinkType;

mod buffer;
mod file_ahead;
pub mod file_filter;
mod live;
pub mod pcap_file;
mod pcapng;
pub mod shard;
mod unpack;

/// What a source has now.
#[derive(Clone, Copy, Debug)]
pub enum Next<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Nothing came until this time (live interfaces only): time passes for the timers.
    Idle(Ts),
    /// No more will ever come: the file ended, or the node is told to stop.
    End,
}

/// A source of frames. One thread owns it.
pub trait PacketSource {
    /// The next frame. May wait, on a live interface not much longer than its block timeout.
    ///
    /// # Errors
    /// When the source is broken and what follows cannot be read.
    fn next_frame(&mut self) -> Result<Next<'_>, CaptureError>;

    /// Shows the next frames, up to `count`, as far as they are at hand. They are not taken.
    fn upcoming(&self, _count: usize, _look: &mut dyn FnMut(LinkType, &[u8])) {}
}

/// Why a source gives no more frames.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The capture file cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The capture cannot be read.
    #[error("cannot read the capture")]
    Read(#[from] io::Error),
    /// The live interface cannot be captured.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The bytes are not a capture.
    #[error("not a capture file: {0}")]
    Format(String),
    /// The capture is packed by a program whose format is not read.
    #[error(
        "packed with {packer}, which is not read; unpack it on the way: \
         {program} FILE | worker --read - --log-dir DIR"
    )]
    Packed {
        /// Name of the packer.
        packer: &'static str,
        /// What unpacks a file to standard output.
        program: &'static str,
    },
    /// The whole capture is of a link type that is not read.
    #[error(transparent)]
    LinkType(#[from] UnknownLinkType),
    /// What stands there cannot be part of a capture: what follows is not read.
    #[error("damaged at byte {at}, behind {packets} packets: {found}")]
    Damaged {
        /// Where, in the unpacked file.
        at: u64,
        /// Packets before.
        packets: u64,
        /// What was found, and what was expected.
        found: String,
    },
    /// The filter is none, or none for this link type.
    #[error("filter: {0}")]
    Filter(String),
    /// The file was read to its end, but not all of its packets.
    #[error("{packets} of its packets were passed by: {reason}")]
    PassedBy {
        /// Packets that were passed by.
        packets: u64,
        /// Why the first of them was.
        reason: UnknownLinkType,
    },
}
