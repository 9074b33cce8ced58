//! Live capture: a TPACKET_V3 ring on a packet socket (packet(7)), alone on its interface or
//! sharing it with other workers in a fanout group. Frames come out as [`Frame`]s borrowed
//! from the ring; the tag of an outer VLAN is where it was on the wire.
//!
//! Frames that this host sends out of the interface are captured too, as Zeek does; on a
//! loopback interface only their reception is, else each would be seen twice.
//!
//! The socket is opened here, or by the supervisor, which keeps it for the next reader
//! (`socket.rs`); where reading stands is kept beside it (`cursor.rs`).
//!
//! The unsafe code of this program is in `sys.rs`, `mapping.rs` and `bpf.rs`, behind safe types.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use tyto_core::config::runtime::{CaptureConfig, ChecksumMode};
use tyto_core::time::Ts;

pub use crate::error::LiveError;

use crate::account::Account;
use crate::card::Offloads;
use crate::cursor::Cursor;
use crate::frame::{Frame, LinkType};
use crate::ring::Ring;
use crate::socket::CaptureSocket;
use crate::sys::PacketSocket;

/// Exit code of a process that ends because its interface is not there or not up: whoever
/// started it waits for the interface rather than trying again and again.
pub const EXIT_INTERFACE_GONE: u8 = 69;

/// A live interface.
#[derive(Debug)]
pub struct AfPacket {
    interface: String,
    socket: PacketSocket,
    ring: Ring,
    link_type: LinkType,
    block_timeout: Duration,
    checksums: ChecksumMode,
    /// Bytes of a frame that are lent at most.
    snaplen: usize,
    /// Packets that carry the time of the network card's clock, since this reader began.
    card_time_packets: u64,
}

/// What was counted since the socket was opened, by all its readers.
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
    /// Packets that carry the time of the network card's clock; of this reader only.
    pub card_time_packets: u64,
}

impl AfPacket {
    /// Opens the interface and reads it.
    ///
    /// # Errors
    /// As [`CaptureSocket::open`].
    pub fn open(config: &CaptureConfig) -> Result<Self, LiveError> {
        Self::resume(&config.interface, CaptureSocket::open(config)?)
    }

    /// Reads a socket that is open, from where its last reader stood. That one must have ended.
    /// `interface` is what messages call it.
    ///
    /// # Errors
    /// When ring or cursor cannot be mapped.
    pub fn resume(interface: &str, socket: CaptureSocket) -> Result<Self, LiveError> {
        let failed = |step: &'static str| {
            move |source| LiveError::Open { interface: interface.to_owned(), step, source }
        };
        let CaptureSocket { socket, cursor } = socket;
        let made = cursor.made().map_err(failed("read how its ring was made"))?;
        // A socket of another version of this program may say it in other words.
        let (checksums, snaplen_bytes) = match cursor.config() {
            Ok(config) => (config.checksums, config.snaplen_bytes),
            Err(_) => (ChecksumMode::default(), u32::MAX),
        };
        let cursor = Cursor::map(cursor).map_err(failed("map its cursor"))?;
        let link_type = LinkType(made.link_type);
        let has_ethernet_header = link_type == LinkType::ETHERNET;
        let ring = Ring::resume(&socket, made.ring, cursor, has_ethernet_header)
            .map_err(failed("map its ring"))?;
        let block_timeout = Duration::from_millis(made.ring.block_timeout_ms.into());
        Ok(Self {
            interface: interface.to_owned(),
            socket,
            ring,
            link_type,
            block_timeout,
            checksums,
            snaplen: usize::try_from(snaplen_bytes).unwrap_or(usize::MAX),
            card_time_packets: 0,
        })
    }

    /// How many processes have read this socket, this one included.
    #[must_use]
    pub fn readers(&self) -> u64 {
        self.ring.cursor().readers()
    }

    /// What the reader has in hand, in memory that outlives it. Each call maps it once more.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn account(&self) -> std::io::Result<Account> {
        self.ring.cursor().account()
    }

    /// Shows the next frames, up to `count`, as far as they are at hand. They do not count yet.
    pub fn upcoming(&self, count: usize, look: &mut dyn FnMut(LinkType, &[u8])) {
        self.ring.upcoming(count, &mut |bytes| look(self.link_type, bytes));
    }

    /// The next frame that the kernel handed over, without waiting. It counts as received.
    pub fn poll_frame(&mut self) -> Option<Frame<'_>> {
        let frame = self.ring.next_frame(self.link_type == LinkType::ETHERNET)?;
        self.card_time_packets += u64::from(frame.has_card_time);
        let checksum_good = match self.checksums {
            ChecksumMode::On => false,
            ChecksumMode::Kernel => frame.checksum_good,
            ChecksumMode::Off => true,
        };
        Some(Frame {
            ts: Ts(frame.ts_ns),
            // The kernel counted without the tag that was put back.
            bytes: frame.bytes.get(..self.snaplen).unwrap_or(frame.bytes),
            wire_len: frame.wire_len,
            link_type: self.link_type,
            checksum_good,
        })
    }

    /// How full the ring is, percent.
    #[must_use]
    pub fn ring_fill_percent(&self) -> u8 {
        self.ring.fill_percent()
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
        let cursor = self.ring.cursor();
        // The kernel's counters have 32 bits and begin anew with each reading.
        let kernel = cursor
            .kernel_totals(|target| self.socket.take_statistics(target))
            .map_err(|source| self.broken("read its counters", source))?;
        let totals = self.ring.totals();
        Ok(CaptureStats {
            received_packets: totals.packets,
            received_bytes: totals.bytes,
            link_packets: kernel.packets,
            dropped_packets: kernel.drops,
            ring_freezes: kernel.freezes,
            truncated_packets: totals.truncated,
            malformed_packets: totals.malformed,
            interface_downs: cursor.downs(),
            card_time_packets: self.card_time_packets,
        })
    }

    /// The name that the interface has now, when it is another than it was opened by.
    ///
    /// # Errors
    /// When the interface was removed.
    pub fn renamed(&self) -> Result<Option<String>, LiveError> {
        let bound = self.socket.bound_interface().map_err(|e| self.broken("look it up", e))?;
        match self.socket.interface_name(bound) {
            Ok(name) => Ok((name != self.interface).then_some(name)),
            Err(_) => Err(LiveError::Removed(self.interface.clone())),
        }
    }

    /// What merges packets before this capture sees them.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        Offloads::of(&self.socket, &self.interface)
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
        self.ring.cursor().count_down();
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
