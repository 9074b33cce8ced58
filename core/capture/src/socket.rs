//! The packet socket of a capture and the cursor beside it, held apart from the process that
//! reads them: the supervisor opens and keeps both, so that ring, fanout membership, packets that
//! wait and counters outlive every worker. `passing.rs` carries them between processes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, sockopt};
use tyto_core::config::runtime::{CaptureConfig, ChecksumMode, FanoutMode};

use crate::card::{self, NoStamps};
use crate::cursor::{CursorFile, Made};
use crate::error::LiveError;
use crate::frame::LinkType;
use crate::link_layer;
use crate::program;
use crate::ring::{self, RingSize};
use crate::sys::{Interface, PacketSocket};

/// Bytes that a frame's header in the ring takes at most besides the frame: a block must be
/// larger by this than what is to be kept of a frame.
const FRAME_OVERHEAD_MAX: u32 = 256;

/// A packet socket with its ring, and how far the ring was read. One process at a time may
/// read it, as [`AfPacket`](crate::live::AfPacket).
#[derive(Debug)]
pub struct CaptureSocket {
    pub(crate) socket: PacketSocket,
    pub(crate) cursor: CursorFile,
}

/// Whether an open socket does for a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It does, as it is or after [`CaptureSocket::apply`].
    Good,
    /// It does; the interface has this name meanwhile.
    Renamed(String),
    /// It does not: another must be opened.
    No(&'static str),
}

impl CaptureSocket {
    /// Opens the interface: ring, promiscuous mode, fanout group. Packets count from the
    /// return of this function on.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, when the interface is missing, down or neither Ethernet nor plain
    /// IP, when there is no memory for the ring, when the fanout group has another mode, or
    /// when the kernel refuses the filter or the group's program.
    pub fn open(config: &CaptureConfig) -> Result<Self, LiveError> {
        let name = config.interface.as_str();
        let failed = |step: &'static str| {
            move |source| LiveError::Open { interface: name.to_owned(), step, source }
        };
        let socket = PacketSocket::open().map_err(failed("open a packet socket"))?;
        let interface = socket.interface(name).map_err(failed("find it"))?;
        if !interface.is_up {
            return Err(LiveError::Down(name.to_owned()));
        }
        let link_type = link_type_of(name, interface.hardware_type)?;
        check_link_type(config, link_type)?;
        let made = made(config, &interface, link_type);
        ring::make(&socket, made.ring).map_err(|source| {
            let (blocks, block_bytes) = (made.ring.blocks, made.ring.block_bytes);
            LiveError::Ring { interface: name.to_owned(), blocks, block_bytes, source }
        })?;
        if config.hw_timestamps {
            card::stamp_received(&socket, name).map_err(|error| match error {
                NoStamps::Unable => LiveError::NoCardTimes(name.to_owned()),
                NoStamps::Refused(source) => failed("have its card stamp packets")(source),
            })?;
            socket.use_card_times().map_err(failed("use its card's time stamps"))?;
        }
        // Between bind and the fanout group this socket would get packets that other members
        // get too: until it is a member, it takes none.
        socket.attach_filter(&program::take_nothing()).map_err(failed("hold packets back"))?;
        socket.bind(interface.index).map_err(failed("bind to it"))?;
        if config.promiscuous {
            socket.add_promiscuous(interface.index).map_err(failed("enter promiscuous mode"))?;
        }
        if let Some(id) = config.fanout_id {
            socket.join_fanout(id, fanout_type(config)).map_err(failed("join its fanout group"))?;
            program::spread(&socket, config, link_type)?;
        }
        let cursor = CursorFile::new(&made, config).map_err(failed("note how far it is read"))?;
        let opened = Self { socket, cursor };
        opened.let_in(config, &made)?;
        Ok(opened)
    }

    /// What it is configured as; none when this program does not understand the note.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub fn config(&self) -> io::Result<CaptureConfig> {
        self.cursor.config()
    }

    /// Whether this socket does for `config`: all that cannot be changed any more is the same,
    /// and the interface is still there.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn fit(&self, config: &CaptureConfig) -> Result<Fit, LiveError> {
        let broken = |step: &'static str| {
            let interface = config.interface.clone();
            move |source| LiveError::Run { interface, step, source }
        };
        let bound = self.socket.bound_interface().map_err(broken("look it up"))?;
        if bound <= 0 {
            return Ok(Fit::No("the interface was removed"));
        }
        let Ok(old) = self.cursor.config() else {
            return Ok(Fit::No("its configuration is not known"));
        };
        if fixed_part(&old) != fixed_part(config) {
            return Ok(Fit::No("it is configured in another way"));
        }
        match self.socket.interface(&config.interface) {
            Ok(found) if found.index == bound => Ok(Fit::Good),
            Ok(_) => Ok(Fit::No("another interface has that name")),
            Err(_) => {
                let name = self.socket.interface_name(bound).map_err(broken("name it"))?;
                Ok(Fit::Renamed(name))
            }
        }
    }

    /// Makes of an open socket for which [`CaptureSocket::fit`] is good what `config` says.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn apply(&self, config: &CaptureConfig) -> Result<(), LiveError> {
        let failed = |step: &'static str| {
            let interface = config.interface.clone();
            move |source| LiveError::Run { interface, step, source }
        };
        if self.cursor.config().is_ok_and(|old| old == *config) {
            return Ok(());
        }
        let made = self.cursor.made().map_err(failed("read how it was made"))?;
        self.let_in(config, &made)?;
        self.cursor.write_config(config).map_err(failed("note its configuration"))
    }

    /// The same socket and cursor once more.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = self.socket.as_fd().try_clone_to_owned()?;
        let cursor = self.cursor.try_clone()?;
        Ok(Self { socket: PacketSocket::opened_before(socket), cursor })
    }

    /// What [`CaptureSocket::descriptors`] gave, in this or another process.
    ///
    /// # Errors
    /// EINVAL when they are something else.
    pub fn from_descriptors([socket, cursor]: [OwnedFd; 2]) -> io::Result<Self> {
        if sockopt::socket_domain(&socket)? != AddressFamily::PACKET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let cursor = CursorFile::made_before(cursor)?;
        Ok(Self { socket: PacketSocket::opened_before(socket), cursor })
    }

    /// Socket and cursor file.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.socket.as_fd(), self.cursor.as_fd()]
    }

    /// Begins to take packets, or takes others from now on.
    fn let_in(&self, config: &CaptureConfig, made: &Made) -> Result<(), LiveError> {
        let program = program::take(config, LinkType(made.link_type), made.is_loopback)?;
        let interface = || config.interface.clone();
        self.socket.attach_filter(&program).map_err(|source| LiveError::Open {
            interface: interface(),
            step: "let packets in",
            source,
        })
    }
}

/// What becomes of the configuration and the interface.
fn made(config: &CaptureConfig, interface: &Interface, link_type: LinkType) -> Made {
    Made {
        ring: ring_size(config),
        interface: interface.index,
        link_type: link_type.0,
        is_loopback: interface.hardware_type == libc::ARPHRD_LOOPBACK,
    }
}

/// A configuration without what [`CaptureSocket::apply`] can change, and what the socket has
/// nothing to do with.
fn fixed_part(config: &CaptureConfig) -> (CaptureConfig, RingSize) {
    let fixed = CaptureConfig {
        snaplen_bytes: 0,
        block_size_bytes: 0,
        filter: None,
        checksums: ChecksumMode::default(),
        ..config.clone()
    };
    (fixed, ring_size(config))
}

fn ring_size(config: &CaptureConfig) -> RingSize {
    RingSize::new(config.buffer_size_bytes, block_bytes(config), config.block_timeout_ms)
}

/// Block size: as configured, but large enough for one whole frame and a multiple of the
/// page size, which the kernel insists on.
fn block_bytes(config: &CaptureConfig) -> u32 {
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    let frame = config.snaplen_bytes.saturating_add(FRAME_OVERHEAD_MAX).min(1 << 20);
    config.block_size_bytes.max(frame).next_multiple_of(page)
}

fn link_type_of(interface: &str, hardware_type: u16) -> Result<LinkType, LiveError> {
    link_layer::link_type(hardware_type)
        .ok_or_else(|| LiveError::LinkLayer { interface: interface.to_owned(), hardware_type })
}

/// Holds the interface to the link type that node.cfg gives, if it does. Raw IP goes by three
/// numbers.
fn check_link_type(config: &CaptureConfig, found: LinkType) -> Result<(), LiveError> {
    let Some(expected) = config.link_type else { return Ok(()) };
    let is_raw =
        |link_type| matches!(link_type, LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OPENBSD);
    let wanted = LinkType(expected.into());
    if wanted == found || is_raw(wanted) && is_raw(found) {
        return Ok(());
    }
    let interface = config.interface.clone();
    Err(LiveError::OtherLinkType { interface, found: found.0, expected })
}

/// Type and flags of the fanout group. Never PACKET_FANOUT_FLAG_ROLLOVER: a full ring would
/// spill packets of its flows to workers that do not know these flows.
fn fanout_type(config: &CaptureConfig) -> u16 {
    let mode = match config.fanout_mode {
        FanoutMode::Hash => libc::PACKET_FANOUT_HASH,
        FanoutMode::Cpu => libc::PACKET_FANOUT_CPU,
        FanoutMode::Qm => libc::PACKET_FANOUT_QM,
        FanoutMode::Cbpf => libc::PACKET_FANOUT_CBPF,
        FanoutMode::Ebpf => libc::PACKET_FANOUT_EBPF,
    };
    let flags = if config.fanout_defrag { libc::PACKET_FANOUT_FLAG_DEFRAG } else { 0 };
    u16::try_from(mode | flags).unwrap_or_default()
}
