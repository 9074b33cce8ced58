//! The system calls of a packet socket (packet(7), Documentation/networking/packet_mmap.rst)
//! behind a safe type, [`PacketSocket`]. Each call reports the operating system's error as it
//! is; what it means is decided by the caller.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::AtomicU64;

use crate::card::SOF_TIMESTAMPING_RAW_HARDWARE;

/// A packet socket: receives frames with their link-layer header (SOCK_RAW). Made without
/// a protocol, so that nothing arrives before [`PacketSocket::bind`].
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
}

/// What the kernel says of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its number.
    pub(crate) index: i32,
    /// It is administratively up (IFF_UP).
    pub(crate) is_up: bool,
    /// Its link layer (ARPHRD_*).
    pub(crate) hardware_type: u16,
}

impl PacketSocket {
    /// A new socket, bound to nothing.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW; otherwise when the process or system is out of descriptors.
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: socket(2) takes three integers and touches no memory of ours.
        let fd = check(unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0)
        })?;
        // SAFETY: the kernel just gave us this descriptor (`check` saw that it is not
        // negative) and nothing else knows of it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// A packet socket that another process opened; the caller saw that it is one.
    pub(crate) const fn opened_before(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Asks for the interface `name` in this socket's network namespace.
    ///
    /// # Errors
    /// ENODEV when there is none of that name; EINVAL when the name cannot be one.
    pub(crate) fn interface(&self, name: &str) -> io::Result<Interface> {
        let mut request = interface_request(name)?;
        self.interface_ioctl(libc::SIOCGIFINDEX, &mut request)?;
        // SAFETY: SIOCGIFINDEX succeeded, so the kernel filled this field of the union.
        let index = unsafe { request.ifr_ifru.ifru_ifindex };
        self.interface_ioctl(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS succeeded, so the kernel filled this field of the union.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        self.interface_ioctl(libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: SIOCGIFHWADDR succeeded, so the kernel filled this field of the union.
        let hardware_type = unsafe { request.ifr_ifru.ifru_hwaddr.sa_family };
        Ok(Interface { index, is_up: i32::from(flags) & libc::IFF_UP != 0, hardware_type })
    }

    fn interface_ioctl(&self, request: libc::Ioctl, ifreq: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as `self` lives; the SIOCGIF* requests
        // made here read and write one `struct ifreq`, which `ifreq` points to.
        check(unsafe { libc::ioctl(self.fd.as_raw_fd(), request, ptr::from_mut(ifreq)) })?;
        Ok(())
    }

    /// Sets the ring's format to TPACKET_V3. Before [`PacketSocket::set_ring`].
    ///
    /// # Errors
    /// EINVAL when the kernel does not know the format (before 3.2).
    pub(crate) fn set_version_3(&self) -> io::Result<()> {
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        self.set_option(libc::SOL_PACKET, libc::PACKET_VERSION, &version)
    }

    /// Has the kernel leave `bytes` free before each frame. Before [`PacketSocket::set_ring`].
    ///
    /// # Errors
    /// EBUSY when the socket has a ring already.
    pub(crate) fn set_reserve(&self, bytes: u32) -> io::Result<()> {
        self.set_option(libc::SOL_PACKET, libc::PACKET_RESERVE, &bytes)
    }

    /// Has the kernel allocate the ring.
    ///
    /// # Errors
    /// EINVAL when the sizes do not fit each other, ENOMEM when there is no memory for it.
    pub(crate) fn set_ring(&self, request: &libc::tpacket_req3) -> io::Result<()> {
        self.set_option(libc::SOL_PACKET, libc::PACKET_RX_RING, request)
    }

    /// Runs a classic BPF program on each frame; its result is the number of bytes kept.
    /// Replaces the program before.
    ///
    /// # Errors
    /// EINVAL when the kernel's checker refuses the program.
    pub(crate) fn attach_filter(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The kernel only reads through this pointer, and only during the call.
        let filter = program.as_ptr().cast_mut();
        self.set_option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &libc::sock_fprog { len, filter })
    }

    /// Gives the fanout group (PACKET_FANOUT_CBPF) its classic BPF program, whose result modulo
    /// the number of members is the member that a packet goes to.
    ///
    /// # Errors
    /// EINVAL when the socket is in no such group, or the kernel's checker refuses the program.
    pub(crate) fn set_fanout_program(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The kernel only reads through this pointer, and only during the call.
        let filter = program.as_ptr().cast_mut();
        let program = libc::sock_fprog { len, filter };
        self.set_option(libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &program)
    }

    /// The same with an eBPF program that is loaded (PACKET_FANOUT_EBPF); the group keeps it.
    ///
    /// # Errors
    /// EINVAL when the socket is in no such group, or the descriptor is no such program.
    pub(crate) fn set_fanout_descriptor(&self, program: &OwnedFd) -> io::Result<()> {
        self.set_option(libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &program.as_raw_fd())
    }

    /// Starts to receive all frames of one interface.
    ///
    /// # Errors
    /// ENETDOWN when the interface is down, ENODEV when it is gone.
    pub(crate) fn bind(&self, interface: i32) -> io::Result<()> {
        // The kernel takes the protocol in network byte order.
        self.bind_protocol(interface, u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be())
    }

    /// Makes one interface the one that frames are written to; receives nothing.
    ///
    /// # Errors
    /// ENETDOWN when the interface is down, ENODEV when it is gone.
    pub(crate) fn bind_for_sending(&self, interface: i32) -> io::Result<()> {
        self.bind_protocol(interface, 0)
    }

    fn bind_protocol(&self, interface: i32, protocol: u16) -> io::Result<()> {
        let mut address = empty_address();
        address.sll_protocol = protocol;
        address.sll_ifindex = interface;
        // SAFETY: the descriptor is open; pointer and length are those of `address`, which
        // outlives the call.
        check(unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                ptr::from_ref(&address).cast(),
                size_of_socklen::<libc::sockaddr_ll>(),
            )
        })?;
        Ok(())
    }

    /// Number of the interface that the socket is bound to; negative when that interface was
    /// removed from the system.
    ///
    /// # Errors
    /// Only when the socket is broken.
    pub(crate) fn bound_interface(&self) -> io::Result<i32> {
        let mut address = empty_address();
        let mut len = size_of_socklen::<libc::sockaddr_ll>();
        // SAFETY: the descriptor is open; the kernel writes at most `len` bytes into `address`,
        // which is that long.
        check(unsafe {
            libc::getsockname(
                self.fd.as_raw_fd(),
                ptr::from_mut(&mut address).cast(),
                ptr::from_mut(&mut len),
            )
        })?;
        Ok(address.sll_ifindex)
    }

    /// Has the interface deliver frames that are meant for others, until the socket closes.
    ///
    /// # Errors
    /// ENODEV when the interface is gone.
    pub(crate) fn add_promiscuous(&self, interface: i32) -> io::Result<()> {
        let membership = libc::packet_mreq {
            mr_ifindex: interface,
            mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or_default(),
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set_option(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    /// Has the ring carry the times of the network card's clock where there are any. Before
    /// [`PacketSocket::bind`].
    ///
    /// # Errors
    /// EINVAL when the kernel does not know them (before 3.8).
    pub(crate) fn use_card_times(&self) -> io::Result<()> {
        self.set_option(libc::SOL_PACKET, libc::PACKET_TIMESTAMP, &SOF_TIMESTAMPING_RAW_HARDWARE)
    }

    /// Joins the fanout group `id`: its members share the interface's packets.
    ///
    /// # Errors
    /// EALREADY or EINVAL when the group exists with another mode or interface.
    pub(crate) fn join_fanout(&self, id: u16, mode_and_flags: u16) -> io::Result<()> {
        let argument = u32::from(mode_and_flags) << 16 | u32::from(id);
        self.set_option(libc::SOL_PACKET, libc::PACKET_FANOUT, &argument)
    }

    /// Moves the ring's counters since the last call into `target`, whose bytes are those of a
    /// `struct tpacket_stats_v3` afterwards. The kernel writes them there itself, within the
    /// call that resets them: a process that is killed loses none.
    ///
    /// # Errors
    /// Only when the socket is broken.
    pub(crate) fn take_statistics(&self, target: &[AtomicU64; 2]) -> io::Result<()> {
        const { assert!(size_of::<libc::tpacket_stats_v3>() <= size_of::<[AtomicU64; 2]>()) };
        let mut len = size_of_socklen::<libc::tpacket_stats_v3>();
        // SAFETY: the descriptor is open; the kernel writes at most `len` bytes, which is less
        // than `target` has (asserted above); `target` are atomics, which may change behind a
        // shared reference, and any bytes are a valid value of them.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                target.as_ptr().cast_mut().cast(),
                ptr::from_mut(&mut len),
            )
        })?;
        Ok(())
    }

    /// Name that the interface of this number has now.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub(crate) fn interface_name(&self, index: i32) -> io::Result<String> {
        let mut request = interface_request("?")?;
        request.ifr_ifru.ifru_ifindex = index;
        self.interface_ioctl(libc::SIOCGIFNAME, &mut request)?;
        let name = request.ifr_name.iter().map(|byte| byte.to_ne_bytes()[0]);
        let name: Vec<u8> = name.take_while(|byte| *byte != 0).collect();
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// The socket's pending error, cleared by this call: ENETDOWN after the interface went down.
    ///
    /// # Errors
    /// Only when the socket is broken.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let mut code: libc::c_int = 0;
        self.option(libc::SOL_SOCKET, libc::SO_ERROR, &mut code)?;
        Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
    }

    fn set_option<T: OptionValue>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        // SAFETY: the descriptor is open; pointer and length are those of `value`, which the
        // kernel reads during the call only. `sock_fprog`, the one value with a pointer in it,
        // is made by `attach_filter` and `set_fanout_program` from a slice that outlives the
        // call, with its length.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                ptr::from_ref(value).cast(),
                size_of_socklen::<T>(),
            )
        })?;
        Ok(())
    }

    fn option<T: OptionValue>(&self, level: i32, name: i32, value: &mut T) -> io::Result<()> {
        let mut len = size_of_socklen::<T>();
        // SAFETY: the descriptor is open; the kernel writes at most `len` bytes into `value`,
        // which is that long, and any bytes are a valid value of the integers it consists of.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                ptr::from_mut(value).cast(),
                ptr::from_mut(&mut len),
            )
        })?;
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Plain values of the socket options used here: integers and structures of integers, for
/// which any bytes are valid (and `sock_fprog`, which is only ever set).
trait OptionValue {}
impl OptionValue for libc::c_int {}
impl OptionValue for u32 {}
impl OptionValue for libc::tpacket_req3 {}
impl OptionValue for libc::packet_mreq {}
impl OptionValue for libc::sock_fprog {}

fn check(result: libc::c_int) -> io::Result<RawFd> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Size of `T` as the kernel takes it.
const fn size_of_socklen<T>() -> libc::socklen_t {
    assert!(size_of::<T>() < 1 << 16);
    #[allow(clippy::cast_possible_truncation)] // below 2^16, as asserted
    let len = size_of::<T>() as libc::socklen_t;
    len
}

fn empty_address() -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

pub(crate) fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    // One byte stays for the terminating zero.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 } })
}
