//! gRPC channels between nodes (mTLS over TCP) and on a host (unix sockets), and what a server
//! needs to listen on them.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::{Channel, Endpoint, Server};
use tower::{Service, ServiceExt, service_fn};
use tyto_core::config::runtime::Peer;

use crate::credentials::Credentials;
use crate::refusal::By;
use crate::stream::{self, CONNECT_TIMEOUT};
use crate::tls::{self, Identity};

/// A silent connection is asked for a sign of life this often, so that a cut network is
/// noticed within [`KEEPALIVE_INTERVAL`] + [`KEEPALIVE_TIMEOUT`].
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the sign of life may take.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 flow-control window of a stream, bytes: what a slow reader lets its peer have in
/// flight. The default of 64 KiB holds less than one batch of rows.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// HTTP/2 flow-control window of a connection, bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Largest message accepted, bytes: a batch is cut well below it.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A channel to a node of the cluster. It connects when first used and again after each break.
/// When certificates have been replaced, the next call goes over a new connection; calls under
/// way end on the old one, which closes then.
#[derive(Clone, Debug)]
pub struct PeerChannel {
    route: Route,
}

#[derive(Clone, Debug)]
enum Route {
    ToPeer(Arc<ToPeer>),
    Fixed(Channel),
}

/// The way to a node, shared by the clones of a channel.
#[derive(Debug)]
struct ToPeer {
    identity: Identity,
    peer: Peer,
    endpoint: Endpoint,
    /// The newest channel and what it was made with; whoever finds it outdated makes another.
    latest: Mutex<(Arc<Credentials>, Channel)>,
}

/// A channel to `peer`.
///
/// # Errors
/// When the peer's address cannot be dialled.
pub fn to_peer(identity: &Identity, peer: &Peer) -> Result<PeerChannel, tonic::transport::Error> {
    let endpoint = endpoint(peer)?;
    let latest = Mutex::new((identity.credentials(), dial(&endpoint, identity, peer)));
    let (identity, peer) = (identity.clone(), peer.clone());
    let route = Route::ToPeer(Arc::new(ToPeer { identity, peer, endpoint, latest }));
    Ok(PeerChannel { route })
}

/// How every connection to a node is held, whatever carries it.
///
/// # Errors
/// When the peer's address cannot be dialled.
pub fn endpoint(peer: &Peer) -> Result<Endpoint, tonic::transport::Error> {
    // TLS is ours (`stream.rs`), so for tonic this is plain HTTP/2.
    let endpoint = Endpoint::from_shared(format!("http://{}", peer.addr))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(endpoint)
}

fn dial(endpoint: &Endpoint, identity: &Identity, peer: &Peer) -> Channel {
    let (identity, peer) = (identity.clone(), peer.clone());
    endpoint.connect_with_connector_lazy(service_fn(move |_| {
        let connecting = stream::connect(identity.clone(), peer.clone());
        async move { connecting.await.map(TokioIo::new) }
    }))
}

impl From<Channel> for PeerChannel {
    fn from(channel: Channel) -> Self {
        Self { route: Route::Fixed(channel) }
    }
}

impl ToPeer {
    /// A channel made with the certificates of the moment.
    fn channel(&self) -> Channel {
        let now = self.identity.credentials();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&latest.0, &now) {
            *latest = (now, dial(&self.endpoint, &self.identity, &self.peer));
        }
        latest.1.clone()
    }
}

impl Service<Request<Body>> for PeerChannel {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    /// Always: the channel is chosen by the call, and waits there. One that is kept ready would
    /// keep an old connection open.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let route = self.route.clone();
        let mut channel = match &route {
            Route::ToPeer(way) => way.channel(),
            Route::Fixed(channel) => channel.clone(),
        };
        Box::pin(async move {
            let response = channel.ready().await?.call(request).await?;
            if let Route::ToPeer(way) = route
                && let Some(status) = Status::from_header_map(response.headers())
                && let Some(refusal) = tls::refusal_in(&status)
            {
                way.identity.note(By::Peer, &way.peer.node, &refusal);
            }
            Ok(response)
        })
    }
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
