//! gRPC channels between nodes (mTLS over TCP) and on a host (unix sockets), and what a server
//! needs to listen on them.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint, Server};
use tower::service_fn;
use tyto_core::config::runtime::Peer;

use crate::tls::Identity;

/// How long a TCP and TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life this often, so that a cut network is
/// noticed within [`KEEPALIVE_INTERVAL`] + [`KEEPALIVE_TIMEOUT`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the sign of life may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 flow-control window of a stream, bytes: what a slow reader lets its peer have in
/// flight. The default of 64 KiB holds less than one batch of rows.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// HTTP/2 flow-control window of a connection, bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Largest message accepted, bytes: a batch is cut well below it.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A channel to `peer` that connects when first used and again after each break.
///
/// # Errors
/// When our certificate or key cannot be used.
pub fn to_peer(identity: &Identity, peer: &Peer) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("https://{}", peer.addr))?
        .tls_config(identity.client_tls(&peer.node))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(endpoint.connect_lazy())
}

/// A channel to a unix socket of this host that connects when first used and again after
/// each break.
pub fn to_socket(path: &Path) -> Channel {
    let path = path.to_owned();
    // The URI is never dialled: the connector below ignores it.
    Endpoint::from_static("http://socket.invalid")
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_with_connector_lazy(service_fn(move |_| {
            let path: PathBuf = path.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        }))
}

/// A server with the settings that all our servers share.
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
}

/// Listens on a unix socket of mode 0600, in place of what an earlier life left there.
///
/// # Errors
/// When the folder is not writable or the path too long for a socket (108 bytes).
pub fn listen_socket(path: &Path) -> io::Result<UnixListener> {
    // Bound under another name and moved into place, so that the socket is never open to
    // others and a client finds the old one or the new one, never none.
    let fresh = path.with_extension("sock.new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}
