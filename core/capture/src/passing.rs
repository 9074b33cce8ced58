//! Capture sockets on their way from one process to another: as descriptors in a message over a
//! unix socket (SCM_RIGHTS, unix(7)), or taken from a process that lives (pidfd_getfd(2)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
};
use rustix::process::{ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags};

use crate::cursor::FILE_NAME;
use crate::socket::CaptureSocket;

/// Bytes of one message at most, besides the descriptors.
pub const MESSAGE_LEN_MAX: usize = 4096;

/// One message: what it says, and the socket that came along.
#[derive(Debug)]
pub struct Message {
    /// What the sender wrote.
    pub text: Vec<u8>,
    /// The capture that it is about.
    pub capture: Option<CaptureSocket>,
}

/// A pair of connected sockets that keep messages apart.
///
/// # Errors
/// When the process is out of descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one message; its descriptors live on in the socket until it is received.
///
/// # Errors
/// When the other end has gone, or takes no more.
pub fn send(to: impl AsFd, text: &[u8], capture: Option<&CaptureSocket>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = capture.map(CaptureSocket::descriptors);
    if let Some(descriptors) = &descriptors {
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(fits, "the space is for two descriptors");
    }
    loop {
        let flags = SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(&to, &[IoSlice::new(text)], &mut ancillary, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one message; `None` when the other end has closed and all was received.
///
/// # Errors
/// When nothing comes within the socket's timeout, the message is too long, or what came along
/// is no capture.
pub fn receive(from: impl AsFd) -> io::Result<Option<Message>> {
    let mut text = vec![0; MESSAGE_LEN_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut text)];
        match rustix::net::recvmsg(&from, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    text.truncate(received.bytes);
    let capture = match <[OwnedFd; 2]>::try_from(descriptors) {
        Ok(descriptors) => Some(CaptureSocket::from_descriptors(descriptors)?),
        Err(none) if none.is_empty() => None,
        Err(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "odd descriptors")),
    };
    Ok(Some(Message { text, capture }))
}

/// The capture that process `pid` reads; `None` when it reads none.
///
/// # Errors
/// When the process has ended, or the system does not let us see its descriptors (another user,
/// or a Yama policy).
pub fn of_process(pid: Pid) -> io::Result<Option<CaptureSocket>> {
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let (mut socket, mut cursor) = (None, None);
    for entry in std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid()))? {
        let entry = entry?;
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy();
        let is_cursor = target.starts_with("/memfd:") && target.contains(FILE_NAME);
        if !is_cursor && !target.starts_with("socket:") {
            continue;
        }
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|n| n.parse::<ForeignRawFd>().ok()) else {
            continue;
        };
        let flags = PidfdGetfdFlags::empty();
        let descriptor = match rustix::process::pidfd_getfd(&process, number, flags) {
            Ok(descriptor) => descriptor,
            Err(Errno::BADF) => continue, // closed meanwhile
            Err(error) => return Err(error.into()),
        };
        if is_cursor {
            cursor = Some(descriptor);
        } else if sockopt::socket_domain(&descriptor)? == AddressFamily::PACKET {
            socket = Some(descriptor);
        }
    }
    let (Some(socket), Some(cursor)) = (socket, cursor) else { return Ok(None) };
    CaptureSocket::from_descriptors([socket, cursor]).map(Some)
}
