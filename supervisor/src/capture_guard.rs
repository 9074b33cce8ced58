//! The guard holds copies of the capture sockets, so that they outlive the supervisor also when
//! it dies in the same instant as a worker. Messages over `run/guard.sock`, one conversation per
//! connection:
//!
//! ```text
//! keep            NODE + capture, … , end     ──▶ kept PID        all that there is to keep
//! give            ──▶ NODE + capture, … , end
//! ```

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tracing::{debug, warn};
use tyto_capture::passing::{self, Message};
use tyto_capture::socket::CaptureSocket;

/// Captures by the node that reads each.
pub(crate) type Captures = BTreeMap<String, CaptureSocket>;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// Callers that may wait for the guard.
const BACKLOG: i32 = 8;

/// Captures kept at most: a host has no more nodes.
const CAPTURES_MAX: usize = 1024;

const KEEP: &[u8] = b"keep";
const GIVE: &[u8] = b"give";
const END: &[u8] = b"end";

/// Keeps and gives captures on `socket` from now on, `captures` to begin with. The thread ends
/// with the process.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn serve(socket: &Path, captures: Captures) -> io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = unix_socket()?;
    rustix::net::bind(&listener, &SocketAddrUnix::new(socket)?)?;
    // Its folder is open to our user alone, so nobody was quicker.
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    rustix::net::listen(&listener, BACKLOG)?;
    thread::Builder::new().name("captures".to_owned()).spawn(move || {
        let mut captures = captures;
        loop {
            let served = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC)
                .map_err(io::Error::from)
                .and_then(|caller| converse(&caller, &mut captures));
            if let Err(error) = served {
                warn!(%error, "a conversation about captures broke off");
                thread::sleep(Duration::from_millis(10)); // out of descriptors, perhaps
            }
        }
    })?;
    Ok(())
}

fn converse(caller: &OwnedFd, captures: &mut Captures) -> io::Result<()> {
    limit_waiting(caller)?;
    let Some(order) = passing::receive(caller)? else { return Ok(()) };
    match order.text.as_slice() {
        KEEP => {
            *captures = receive_all(caller)?;
            debug!(nodes = captures.len(), "keeping captures");
            passing::send(caller, &kept(std::process::id()), None)
        }
        GIVE => send_all(caller, captures),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Has the guard of process `pid` keep these captures instead of those that it had.
///
/// # Errors
/// When nobody answers on the socket, or it is another process.
pub(crate) fn keep(socket: &Path, pid: u32, captures: &Captures) -> io::Result<()> {
    let guard = connect(socket)?;
    passing::send(&guard, KEEP, None)?;
    send_all(&guard, captures)?;
    match passing::receive(&guard)? {
        Some(answer) if answer.text == kept(pid) => Ok(()),
        _ => Err(io::Error::other("the answer is not from the guard")),
    }
}

/// The captures that the guard keeps.
///
/// # Errors
/// When nobody answers on the socket.
pub(crate) fn give(socket: &Path) -> io::Result<Captures> {
    let guard = connect(socket)?;
    passing::send(&guard, GIVE, None)?;
    receive_all(&guard)
}

fn kept(pid: u32) -> Vec<u8> {
    format!("kept {pid}").into_bytes()
}

fn send_all(to: impl AsFd, captures: &Captures) -> io::Result<()> {
    for (node, capture) in captures {
        passing::send(&to, node.as_bytes(), Some(capture))?;
    }
    passing::send(&to, END, None)
}

fn receive_all(from: impl AsFd) -> io::Result<Captures> {
    let mut captures = Captures::new();
    while captures.len() < CAPTURES_MAX {
        match passing::receive(&from)? {
            Some(Message { text, capture: Some(capture) }) => {
                captures.insert(String::from_utf8_lossy(&text).into_owned(), capture);
            }
            Some(Message { text, capture: None }) if text == END => return Ok(captures),
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Err(io::Error::other("too many captures"))
}

fn connect(socket: &Path) -> io::Result<OwnedFd> {
    let guard = unix_socket()?;
    limit_waiting(&guard)?;
    rustix::net::connect(&guard, &SocketAddrUnix::new(socket)?)?;
    Ok(guard)
}

fn unix_socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

fn limit_waiting(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_socket_timeout(socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(sockopt::set_socket_timeout(socket, Timeout::Send, Some(PATIENCE))?)
}
