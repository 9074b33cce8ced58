//! What a network card does to packets before a capture sees them, and its clock: ioctls of
//! ethtool and of hardware time stamps (`include/uapi/linux/{ethtool,net_tstamp}.h`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use crate::sys::{PacketSocket, interface_request};

// include/uapi/linux/ethtool.h; libc has them for Android only.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GET_TS_INFO: u32 = 0x41;
const ETH_FLAG_LRO: u32 = 1 << 15;

// include/uapi/linux/net_tstamp.h.
const SIOCSHWTSTAMP: libc::Ioctl = 0x89b0;
const SOF_TIMESTAMPING_RX_HARDWARE: u32 = 1 << 2;
pub(crate) const SOF_TIMESTAMPING_RAW_HARDWARE: u32 = 1 << 6;
const HWTSTAMP_TX_OFF: i32 = 0;
const HWTSTAMP_FILTER_ALL: i32 = 1;

/// Packets that card or kernel merge into larger ones, so that a capture sees packets which
/// were never on the wire, with sizes and numbers of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Received ones, by the kernel (generic receive offload).
    pub gro: bool,
    /// Received ones, by the card (large receive offload).
    pub lro: bool,
    /// Those that this host sends are cut by the card later (TCP segmentation offload).
    pub tso: bool,
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_ts_info`.
#[repr(C)]
#[derive(Default)]
struct EthtoolTsInfo {
    cmd: u32,
    so_timestamping: u32,
    phc_index: i32,
    tx_types: u32,
    tx_reserved: [u32; 3],
    rx_filters: u32,
    rx_reserved: [u32; 3],
}

/// `struct hwtstamp_config`.
#[repr(C)]
struct HwTstampConfig {
    flags: i32,
    tx_type: i32,
    rx_filter: i32,
}

/// Structures that ethtool and the card's clock read and write: of integers only, so that any
/// bytes are a valid value.
trait CardData {}
impl CardData for EthtoolValue {}
impl CardData for EthtoolTsInfo {}
impl CardData for HwTstampConfig {}

/// Why a card does not stamp packets.
#[derive(Debug)]
pub(crate) enum NoStamps {
    /// It has no clock for packets, or for those of PTP only.
    Unable,
    /// The system refused it.
    Refused(io::Error),
}

impl Offloads {
    /// What is on for the interface `name`. What the card does not tell is off.
    pub(crate) fn of(socket: impl AsFd, name: &str) -> Self {
        let value = |cmd| {
            let mut value = EthtoolValue { cmd, data: 0 };
            call(&socket, SIOCETHTOOL, name, &mut value).map_or(0, |()| value.data)
        };
        Self {
            gro: value(ETHTOOL_GGRO) != 0,
            lro: value(ETHTOOL_GFLAGS) & ETH_FLAG_LRO != 0,
            tso: value(ETHTOOL_GTSO) != 0,
        }
    }

    /// Whether received packets are merged.
    #[must_use]
    pub const fn merges_received(self) -> bool {
        self.gro || self.lro
    }
}

/// Has the card of the interface `name` stamp each packet that it receives.
pub(crate) fn stamp_received(socket: &PacketSocket, name: &str) -> Result<(), NoStamps> {
    let mut info = EthtoolTsInfo { cmd: ETHTOOL_GET_TS_INFO, ..EthtoolTsInfo::default() };
    call(socket, SIOCETHTOOL, name, &mut info).map_err(|_| NoStamps::Unable)?;
    let wanted = SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE;
    if info.so_timestamping & wanted != wanted || info.rx_filters & (1 << HWTSTAMP_FILTER_ALL) == 0
    {
        return Err(NoStamps::Unable);
    }
    let mut config =
        HwTstampConfig { flags: 0, tx_type: HWTSTAMP_TX_OFF, rx_filter: HWTSTAMP_FILTER_ALL };
    call(socket, SIOCSHWTSTAMP, name, &mut config).map_err(NoStamps::Refused)?;
    // A driver may answer with less than it was asked for.
    if config.rx_filter != HWTSTAMP_FILTER_ALL {
        return Err(NoStamps::Unable);
    }
    Ok(())
}

fn call<T: CardData>(
    socket: impl AsFd,
    request: libc::Ioctl,
    name: &str,
    data: &mut T,
) -> io::Result<()> {
    let mut ifreq = interface_request(name)?;
    ifreq.ifr_ifru.ifru_data = ptr::from_mut(data).cast();
    // SAFETY: the descriptor is open as long as `socket` lives. Both requests made here read
    // one `struct ifreq`, which `ifreq` is, and read and write the structure that its `ifr_data`
    // points to: `data`, which outlives the call and which the callers give the layout and the
    // size that the kernel has for this request and command (ethtool_get_value, ethtool_get_ts_info,
    // dev_set_hwtstamp). `CardData` is of integers only, so any bytes written are valid.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, ptr::from_mut(&mut ifreq)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};
    use std::net::UdpSocket;

    use super::*;

    /// The kernel's layout: include/uapi/linux/{ethtool,net_tstamp}.h.
    #[test]
    fn structures_have_the_kernels_layout() {
        assert_eq!(size_of::<EthtoolValue>(), 8);
        assert_eq!(size_of::<EthtoolTsInfo>(), 44);
        assert_eq!(offset_of!(EthtoolTsInfo, rx_filters), 28);
        assert_eq!(size_of::<HwTstampConfig>(), size_of::<libc::hwtstamp_config>());
    }

    /// Any socket may ask, without any privilege.
    #[test]
    fn an_interface_that_is_not_there_has_no_offloads() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(Offloads::of(&socket, "no-such-if"), Offloads::default());
        assert_eq!(Offloads::of(&socket, "a name that is too long"), Offloads::default());
    }
}
