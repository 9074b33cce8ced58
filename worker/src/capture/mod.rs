//! Where packets come from: a capture file or a ring of the kernel. A source lends one frame at
//! a time; nothing here looks into it.

use std::io;
use std::path::PathBuf;

use tyto_core::time::Ts;

pub mod af_packet;
mod buffer;
pub mod pcap_file;
mod pcapng;

/// What the first bytes of a frame are: the numbers of <https://www.tcpdump.org/linktypes.html>
/// and of libpcap's DLT, which differ for raw IP only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: address family in the byte order of the capturing host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP, with or without HDLC framing.
    pub const PPP: Self = Self(9);
    /// FDDI.
    pub const FDDI: Self = Self(10);
    /// PPP behind a Cisco or HDLC header.
    pub const PPP_SERIAL: Self = Self(50);
    /// Raw IP, version in the first nibble.
    pub const RAW: Self = Self(101);
    /// IEEE 802.11 without radio header.
    pub const IEEE802_11: Self = Self(105);
    /// Linux "cooked" capture.
    pub const LINUX_SLL: Self = Self(113);
    /// IEEE 802.11 behind a radiotap header.
    pub const IEEE802_11_RADIO: Self = Self(127);
    /// Linux netfilter log.
    pub const NFLOG: Self = Self(239);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// One frame, lent by its source.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured, by the capture's clock.
    pub ts: Ts,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// Length on the wire, bytes; more than `bytes` when the capture cut it.
    pub wire_len: u32,
    /// How its first bytes read.
    pub link_type: LinkType,
    /// The transport checksum need not be checked: the network card found it right, or the
    /// packet is this host's own and the card is yet to fill it in. False for files.
    pub checksum_good: bool,
}

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
    Live(#[from] af_packet::LiveError),
    /// The bytes are not a capture.
    #[error("not a capture file: {0}")]
    Format(&'static str),
}
