//! `supervisor connect`: stdin and stdout against a unix socket of this host, so that ctl
//! speaks gRPC over `ssh HOST supervisor connect …` and no port is opened for it.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

/// Bytes moved at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Relays until the socket's side is done. Blocks.
///
/// # Errors
/// When nobody listens on the socket, or the way back breaks.
pub(crate) fn relay(socket: &Path) -> io::Result<()> {
    let mut from_socket = UnixStream::connect(socket)?;
    let mut to_socket = from_socket.try_clone()?;
    // Not joined: it may wait for stdin for ever when the socket's side ended first.
    thread::spawn(move || {
        let copied = copy(&mut io::stdin().lock(), &mut to_socket);
        // Ends the other direction too, once what is under way has come back.
        let closed = to_socket.shutdown(Shutdown::Write);
        if let Err(error) = copied.and(closed) {
            tracing::debug!(%error, "stdin is done");
        }
    });
    copy(&mut from_socket, &mut io::stdout().lock())
}

/// Moves each piece on as it comes: a frame must not wait for the next one.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let len = match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&chunk[..len])?;
        to.flush()?;
    }
}
