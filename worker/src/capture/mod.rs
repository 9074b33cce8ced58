//! Where packets come from: a capture file or a ring of the kernel. A source lends one frame at
//! a time; nothing here looks into it.

use std::io;
use std::path::PathBuf;

use tyto_capture::Frame;
use tyto_capture::live::LiveError;
use tyto_core::time::Ts;

mod buffer;
mod live;
pub mod pcap_file;
mod pcapng;

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
    Format(&'static str),
}
