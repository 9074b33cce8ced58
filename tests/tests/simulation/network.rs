//! Connections between simulated hosts: TCP of the simulator that can be cut, named by who is at
//! its other end. TLS is left out: a caller is who has its address.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::server::Connected;
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};
use tyto_core::config::runtime::Peer;
use tyto_daemon::channel::{self, PeerChannel};
use tyto_logger::Admit;
use tyto_worker::ship::Dial;

/// Where each logger listens.
pub(crate) const PORT: u16 = 47_761;

/// Connections that may wait for a logger's server.
const ACCEPTED_MAX: usize = 16;

/// All pairs of worker and logger, and the workers' names.
#[derive(Debug)]
pub(crate) struct Cables {
    names: BTreeMap<IpAddr, Arc<str>>,
    pairs: BTreeMap<(IpAddr, IpAddr), watch::Sender<u64>>,
}

impl Cables {
    pub(crate) fn new(workers: &[(IpAddr, Arc<str>)], loggers: &[IpAddr]) -> Self {
        let all = workers.iter().flat_map(|(w, _)| loggers.iter().map(|l| (*w, *l)));
        let pairs = all.map(|pair| (pair, watch::Sender::new(0))).collect();
        Self { names: workers.iter().cloned().collect(), pairs }
    }

    /// Resets every connection between the two.
    pub(crate) fn cut(&self, worker: IpAddr, logger: IpAddr) {
        if let Some(pair) = self.pairs.get(&(worker, logger)) {
            pair.send_modify(|cuts| *cuts += 1);
        }
    }

    fn wire(&self, tcp: TcpStream, worker: IpAddr, logger: IpAddr) -> io::Result<Wire> {
        let pair = self.pairs.get(&(worker, logger)).ok_or(io::ErrorKind::HostUnreachable)?;
        let mut cuts = pair.subscribe();
        let cut = Box::pin(async move {
            if cuts.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        Ok(Wire { tcp, cut, is_cut: false, caller: Caller(worker) })
    }
}

/// Who holds the other end, for the service.
#[derive(Clone, Debug)]
pub(crate) struct Caller(IpAddr);

/// Callers are known by their addresses.
pub(crate) fn admit(cables: &Arc<Cables>) -> Admit {
    let cables = cables.clone();
    Box::new(move |request| {
        let caller = request.extensions().get::<Caller>();
        let name = caller.and_then(|Caller(ip)| cables.names.get(ip));
        name.cloned().ok_or_else(|| Status::unauthenticated("nobody has this address"))
    })
}

/// The connections that come in at this host.
pub(crate) async fn incoming(cables: Arc<Cables>, logger: IpAddr) -> ReceiverStream<io::Result<Wire>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await.unwrap();
    let (accepted, streams) = mpsc::channel(ACCEPTED_MAX);
    tokio::task::spawn_local(async move {
        loop {
            let (tcp, from) = tokio::select! {
                biased;
                () = accepted.closed() => return,
                taken = listener.accept() => taken.unwrap(),
            };
            if accepted.send(cables.wire(tcp, from.ip(), logger)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(streams)
}

/// The way of a worker to its loggers.
#[derive(Debug)]
pub(crate) struct Ways {
    pub(crate) cables: Arc<Cables>,
    pub(crate) worker: IpAddr,
    /// Certificates are replaced.
    pub(crate) renewals: watch::Receiver<u64>,
}

impl Dial for Ways {
    fn channel(&self, peer: &Peer) -> Result<PeerChannel, tonic::transport::Error> {
        let (cables, worker, addr) = (self.cables.clone(), self.worker, peer.addr);
        let connect = service_fn(move |_| connect(cables.clone(), worker, addr));
        Ok(channel::endpoint(peer)?.connect_with_connector_lazy(connect).into())
    }

    fn renewed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut renewals = self.renewals.clone();
        renewals.mark_unchanged();
        Box::pin(async move {
            if renewals.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

async fn connect(
    cables: Arc<Cables>,
    worker: IpAddr,
    addr: SocketAddr,
) -> io::Result<TokioIo<Wire>> {
    let tcp = TcpStream::connect(addr).await?;
    cables.wire(tcp, worker, addr.ip()).map(TokioIo::new)
}

/// One end of a connection.
pub(crate) struct Wire {
    tcp: TcpStream,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
    caller: Caller,
}

impl Connected for Wire {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_cut && self.cut.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        self.is_cut = true;
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
