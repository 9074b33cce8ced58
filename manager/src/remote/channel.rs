//! gRPC to a host's supervisor and to the manager, which listen on unix sockets of mode 0600:
//! here directly, elsewhere through `supervisor connect` over SSH. No port, no certificate:
//! whoever may log in as the owner of the prefix may ask.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};
use tyto_core::layout::Layout;

use super::error::RemoteError;
use super::{ByteStream, Input, Remote, shell};

/// How long the relay or socket may take to open, and gRPC to say its first words.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// Most of a relay's complaint that is kept, bytes.
const COMPLAINT_BYTES_MAX: u64 = 4096;
/// How long the relay's complaint is waited for after the channel failed.
const COMPLAINT_DEADLINE: Duration = Duration::from_secs(2);

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The supervisor of the host.
    Supervisor,
    /// The manager, on the host it runs on.
    Manager,
}

impl Peer {
    /// The word in commands and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Manager => "manager",
        }
    }
}

/// A channel to one peer, and what is needed to tell why it does not work.
pub struct Link {
    remote: Arc<dyn Remote>,
    layout: Layout,
    peer: Peer,
    channel: Channel,
    complaint: Option<Box<dyn AsyncRead + Send + Unpin>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({}, {})", self.remote.host(), self.peer.as_str())
    }
}

impl Link {
    /// Opens a channel. Over SSH, whether somebody answers is seen at the first call only.
    ///
    /// # Errors
    /// When the host cannot be reached, or (here) nobody listens.
    pub async fn open(
        remote: Arc<dyn Remote>,
        layout: &Layout,
        peer: Peer,
    ) -> Result<Self, RemoteError> {
        let (opened, complaint) = if remote.is_local() {
            (channel_over(socket(&*remote, layout, peer).await?).await, None)
        } else {
            let relay = shell::quote_path(&layout.current_bin("supervisor"));
            let prefix = shell::quote_path(layout.prefix());
            let script = format!("exec {relay} connect {} --prefix {prefix}", peer.as_str());
            let ByteStream { reader, writer, errors, keep } =
                remote.open(&script, OPEN_DEADLINE).await?;
            let io = Relay { io: tokio::io::join(reader, writer), _keep: keep };
            (channel_over(io).await, errors)
        };
        let layout = layout.clone();
        match opened {
            Ok(channel) => Ok(Self { remote, layout, peer, channel, complaint }),
            Err(error) => {
                Err(why_broken(&*remote, &layout, peer, complaint, error.to_string()).await)
            }
        }
    }

    /// The channel, for a generated client.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Why a call failed: the peer's own refusal, or that there is no peer.
    pub async fn explain(&mut self, status: &tonic::Status) -> RemoteError {
        use tonic::Code::{Cancelled, Unavailable, Unimplemented, Unknown};
        let said = status.message().to_owned();
        if matches!(status.code(), Unavailable | Unknown | Cancelled) {
            let complaint = self.complaint.take();
            return why_broken(&*self.remote, &self.layout, self.peer, complaint, said).await;
        }
        if status.code() == Unimplemented {
            // The library's own words for it are none.
            let text = "it does not know this call, it is of an earlier release than ctl; \
                        `ctl deploy` puts one of this release in its place";
            return rpc_error(&*self.remote, self.peer, text.to_owned());
        }
        rpc_error(&*self.remote, self.peer, said)
    }

    /// The host did not answer in time.
    pub fn timed_out(&self, what: &'static str, deadline: Duration) -> RemoteError {
        RemoteError::TimedOut { host: self.remote.host().to_owned(), what, deadline }
    }
}

async fn socket(
    remote: &dyn Remote,
    layout: &Layout,
    peer: Peer,
) -> Result<UnixStream, RemoteError> {
    let path = socket_path(layout, peer);
    UnixStream::connect(&path).await.map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            absent(remote, peer, layout.current().exists())
        }
        _ => RemoteError::Here { path, source },
    })
}

fn socket_path(layout: &Layout, peer: Peer) -> PathBuf {
    match peer {
        Peer::Supervisor => layout.supervisor_sock(),
        Peer::Manager => layout.manager_sock(),
    }
}

/// Finds out why a channel broke: by what is there (the program, the socket) and by what the
/// relay said before it ended.
async fn why_broken(
    remote: &dyn Remote,
    layout: &Layout,
    peer: Peer,
    complaint: Option<Box<dyn AsyncRead + Send + Unpin>>,
    error: String,
) -> RemoteError {
    let mut said = Vec::new();
    if let Some(complaint) = complaint {
        // Whatever came by then is told.
        let mut complaint = complaint.take(COMPLAINT_BYTES_MAX);
        drop(timeout(COMPLAINT_DEADLINE, complaint.read_to_end(&mut said)).await);
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let probe = format!(
        "[ -x {} ] || exit 3; [ -S {} ] || exit 4",
        shell::quote_path(&layout.current_bin("supervisor")),
        shell::quote_path(&socket_path(layout, peer))
    );
    match remote.run(&probe, Input::None, OPEN_DEADLINE).await {
        Err(error) => error,
        Ok(output) if output.code == 3 => absent(remote, peer, false),
        Ok(output) if output.code == 4 || said.to_lowercase().contains("refused") => {
            absent(remote, peer, true)
        }
        Ok(_) => rpc_error(remote, peer, if said.is_empty() { error } else { said }),
    }
}

fn absent(remote: &dyn Remote, peer: Peer, installed: bool) -> RemoteError {
    let host = remote.host().to_owned();
    match (installed, peer) {
        (false, _) => RemoteError::NotInstalled { host },
        (true, Peer::Supervisor) => RemoteError::NoSupervisor { host },
        (true, Peer::Manager) => rpc_error(remote, peer, "it is not running".to_owned()),
    }
}

fn rpc_error(remote: &dyn Remote, peer: Peer, said: String) -> RemoteError {
    RemoteError::Rpc { host: remote.host().to_owned(), peer: peer.as_str(), said }
}

/// A gRPC channel over one byte stream. It is not made anew: when the stream ends, calls fail.
async fn channel_over<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // The connector may be called again by tonic; the stream is there once. Nobody else holds the lock.
    let once = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_: Uri| {
        let taken = once.lock().ok().and_then(|mut slot| slot.take());
        async move {
            taken.map(TokioIo::new).ok_or_else(|| {
                std::io::Error::new(ErrorKind::NotConnected, "the connection is over")
            })
        }
    });
    // The name is never looked up: the stream is there already.
    Endpoint::from_static("http://host.invalid")
        .connect_timeout(OPEN_DEADLINE)
        .connect_with_connector(connector)
        .await
}

/// Both pipes of a relay, and what keeps it alive.
struct Relay<T> {
    io: T,
    _keep: Box<dyn Send>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Relay<T> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Relay<T> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
