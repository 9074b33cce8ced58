//! Live capture: a TPACKET_V3 ring on a packet socket (packet(7)), alone on its interface or
//! sharing it with other workers in a fanout group. Frames come out as [`Frame`]s borrowed
//! from the ring; the tag of an outer VLAN is where it was on the wire.
//!
//! Frames that this host sends out of the interface are captured too, as Zeek does; on a
//! loopback interface only their reception is, else each would be seen twice.
//!
//! The unsafe code of this program is in `sys.rs` alone, behind safe types.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use tyto_core::config::runtime::{CaptureConfig, FanoutMode};
use tyto_core::time::Ts;

use crate::frame::{Frame, LinkType};
use crate::ring::{Ring, RingSize};
use crate::sys::PacketSocket;

/// Bytes that a frame's header in the ring takes at most besides the frame: a block must be
/// larger by this than what is to be kept of a frame.
const FRAME_OVERHEAD_MAX: u32 = 256;

/// Interfaces of plain IP (linux/if_arp.h), which libc does not name.
const ARPHRD_RAWIP: u16 = 519;

/// A live interface.
#[derive(Debug)]
pub struct AfPacket {
    interface: String,
    socket: PacketSocket,
    ring: Ring,
    link_type: LinkType,
    block_timeout: Duration,
    stats: CaptureStats,
}

/// What the capture counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureStats {
    /// Packets handed over from the ring.
    pub received_packets: u64,
    /// Bytes of these packets on the wire.
    pub received_bytes: u64,
    /// Packets that the kernel had for this ring: received, dropped or still waiting in it.
    pub link_packets: u64,
    /// Packets that found the ring full.
    pub dropped_packets: u64,
    /// Times that the kernel found the ring full and stopped filling it for a while.
    pub ring_freezes: u64,
    /// Packets of which less was kept than was on the wire.
    pub truncated_packets: u64,
    /// Packets skipped because their place in the ring made no sense.
    pub malformed_packets: u64,
    /// Times that the interface went down.
    pub interface_downs: u64,
}

/// Why live capture cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A step of opening it failed.
    #[error("interface `{interface}`: cannot {step}")]
    Open {
        /// The interface.
        interface: String,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The interface exists but is not up.
    #[error("interface `{0}` is down; `ip link set {0} up` brings it up")]
    Down(String),
    /// Neither Ethernet nor plain IP.
    #[error("interface `{interface}`: link layer {hardware_type} (ARPHRD) is not supported")]
    LinkLayer {
        /// The interface.
        interface: String,
        /// The kernel's number of its link layer.
        hardware_type: u16,
    },
    /// It is not what the configuration says it is.
    #[error(
        "interface `{interface}`: its link type is {found}; `af_packet_link_type` of node.cfg \
         says {expected}"
    )]
    OtherLinkType {
        /// The interface.
        interface: String,
        /// What it is, as a link type of capture files.
        found: u32,
        /// What it should be.
        expected: u16,
    },
    /// The interface was removed while capturing.
    #[error("interface `{0}` was removed")]
    Removed(String),
    /// The system refused a call on the running capture.
    #[error("interface `{interface}`: cannot {step}")]
    Run {
        /// The interface.
        interface: String,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl AfPacket {
    /// Opens the interface: ring, promiscuous mode, fanout group. Packets count from the
    /// return of this function on.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, when the interface is missing, down or neither Ethernet nor plain
    /// IP, when there is no memory for the ring, or when the fanout group has another mode.
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
        let size =
            RingSize::new(config.buffer_size_bytes, block_bytes(config), config.block_timeout_ms);
        let ring = Ring::new(&socket, size).map_err(failed("make its ring"))?;
        // Between bind and the fanout group this socket would get packets that other members
        // get too: until it is a member, it takes none.
        socket.attach_filter(&[keep(0)]).map_err(failed("hold packets back"))?;
        socket.bind(interface.index).map_err(failed("bind to it"))?;
        socket.add_promiscuous(interface.index).map_err(failed("enter promiscuous mode"))?;
        if let Some(id) = config.fanout_id {
            socket.join_fanout(id, fanout_type(config)).map_err(failed("join its fanout group"))?;
        }
        let is_loopback = interface.hardware_type == libc::ARPHRD_LOOPBACK;
        let program = keep_program(config.snaplen_bytes, is_loopback);
        socket.attach_filter(&program).map_err(failed("let packets in"))?;
        Ok(Self {
            interface: name.to_owned(),
            socket,
            ring,
            link_type,
            block_timeout: Duration::from_millis(config.block_timeout_ms.into()),
            stats: CaptureStats::default(),
        })
    }

    /// The next frame that the kernel handed over, without waiting.
    pub fn poll_frame(&mut self) -> Option<Frame<'_>> {
        let frame = self.ring.next_frame(self.link_type == LinkType::ETHERNET)?;
        self.stats.received_packets += 1;
        self.stats.received_bytes += u64::from(frame.wire_len);
        self.stats.truncated_packets += u64::from(frame.bytes.len() < frame.wire_len as usize);
        Some(Frame {
            ts: Ts(frame.ts_ns),
            bytes: frame.bytes,
            wire_len: frame.wire_len,
            link_type: self.link_type,
            checksum_good: frame.checksum_good,
        })
    }

    /// Waits until a frame is there, `timeout` at most. Returns whether one is.
    ///
    /// # Errors
    /// When the interface was removed, or the socket is broken. That it went down is no error:
    /// it is counted, and packets come again when it is up.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, LiveError> {
        if self.ring.is_ready() {
            return Ok(true);
        }
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN | PollFlags::ERR)];
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(self.broken("wait for packets", error.into())),
        }
        let [fd] = fds;
        if fd.revents().contains(PollFlags::ERR) {
            self.take_error()?;
        }
        if self.ring.is_ready() {
            return Ok(true);
        }
        // A removed interface goes down first; of the removal itself the kernel says nothing.
        let bound = self.socket.bound_interface().map_err(|e| self.broken("look it up", e))?;
        if bound <= 0 {
            return Err(LiveError::Removed(self.interface.clone()));
        }
        Ok(false)
    }

    /// The counters up to now.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn statistics(&mut self) -> Result<CaptureStats, LiveError> {
        // The kernel's counters have 32 bits and begin anew with each reading.
        let news = self
            .socket
            .take_statistics()
            .map_err(|source| self.broken("read its counters", source))?;
        self.stats.link_packets += u64::from(news.packets);
        self.stats.dropped_packets += u64::from(news.drops);
        self.stats.ring_freezes += u64::from(news.freezes);
        self.stats.malformed_packets = self.ring.malformed_packets();
        Ok(self.stats)
    }

    /// The capture's clock. Packets in the ring carry times of the same clock.
    pub fn now(&self) -> Ts {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let secs = u64::try_from(now.tv_sec).unwrap_or_default();
        Ts::new(secs, u32::try_from(now.tv_nsec).unwrap_or_default())
    }

    /// Up to which time all packets have come out, when the ring was found empty just now:
    /// younger ones may still wait in a block that the kernel fills.
    pub fn drained_until(&self) -> Ts {
        let lag_ns = u64::try_from(self.handover_lag().as_nanos()).unwrap_or(u64::MAX);
        Ts(self.now().0.saturating_sub(lag_ns))
    }

    /// How long a packet may wait in a block until the kernel hands it over, at most: its timer
    /// retires a block one to two periods after the first packet.
    pub fn handover_lag(&self) -> Duration {
        self.block_timeout.max(Duration::from_millis(10)).saturating_mul(3)
    }

    fn take_error(&mut self) -> Result<(), LiveError> {
        let pending = self.socket.take_error().map_err(|e| self.broken("read its error", e))?;
        let Some(error) = pending else { return Ok(()) };
        if error.raw_os_error() != Some(libc::ENETDOWN) {
            return Err(self.broken("capture", error));
        }
        self.stats.interface_downs += 1;
        Ok(())
    }

    fn broken(&self, step: &'static str, source: io::Error) -> LiveError {
        LiveError::Run { interface: self.interface.clone(), step, source }
    }
}

impl AsFd for AfPacket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Puts frames onto an interface as they are: for replays of a capture and for tests. It
/// captures nothing.
#[derive(Debug)]
pub struct FrameSender {
    interface: String,
    socket: PacketSocket,
}

impl FrameSender {
    /// A sender for `interface`.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when the interface is missing.
    pub fn open(interface: &str) -> Result<Self, LiveError> {
        let failed = |step: &'static str| {
            move |source| LiveError::Open { interface: interface.to_owned(), step, source }
        };
        let socket = PacketSocket::open().map_err(failed("open a packet socket"))?;
        let found = socket.interface(interface).map_err(failed("find it"))?;
        socket.bind_for_sending(found.index).map_err(failed("bind to it"))?;
        Ok(Self { interface: interface.to_owned(), socket })
    }

    /// Sends one frame, link-layer header first; waits while the interface is busy.
    ///
    /// # Errors
    /// When the interface is down, or the frame is longer than it takes.
    pub fn send(&self, frame: &[u8]) -> Result<(), LiveError> {
        loop {
            match rustix::io::write(&self.socket, frame) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    let (interface, step) = (self.interface.clone(), "send a frame");
                    return Err(LiveError::Run { interface, step, source: error.into() });
                }
            }
        }
    }
}

/// Block size: as configured, but large enough for one whole frame and a multiple of the
/// page size, which the kernel insists on.
fn block_bytes(config: &CaptureConfig) -> u32 {
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    let frame = config.snaplen_bytes.saturating_add(FRAME_OVERHEAD_MAX).min(1 << 20);
    config.block_size_bytes.max(frame).next_multiple_of(page)
}

fn link_type_of(interface: &str, hardware_type: u16) -> Result<LinkType, LiveError> {
    match hardware_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(LinkType::ETHERNET),
        // tun and WireGuard interfaces have no link-layer header.
        libc::ARPHRD_NONE | ARPHRD_RAWIP => Ok(LinkType::RAW),
        _ => Err(LiveError::LinkLayer { interface: interface.to_owned(), hardware_type }),
    }
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

/// The BPF program of a running capture: keeps the first `snaplen` bytes of each frame. On a
/// loopback interface each frame comes twice, sent and received; the sent one is left out.
fn keep_program(snaplen: u32, is_loopback: bool) -> Vec<libc::sock_filter> {
    if !is_loopback {
        return vec![keep(snaplen)];
    }
    let packet_type = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    let load = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    let jump_if_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    vec![
        instruction(load, 0, 0, packet_type),
        instruction(jump_if_equal, 0, 1, libc::PACKET_OUTGOING.into()),
        keep(0),
        keep(snaplen),
    ]
}

/// `ret #bytes`: keep so many bytes; 0 drops the frame.
fn keep(bytes: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, bytes)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}
