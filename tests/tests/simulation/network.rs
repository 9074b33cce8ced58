//! Connections between simulated hosts: TCP of the simulator that can be cut, named by who is at
//! its other end. TLS is left out: a caller is who has its address.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::service::Routes;
use tower::{Service, service_fn};
use turmoil::net::{TcpListener, TcpStream};
use tyto_core::config::runtime::Peer;
use tyto_daemon::channel::{self, PeerChannel};
use tyto_logger::Admit;
use tyto_worker::ship::Dial;

/// Where each logger listens.
pub(crate) const PORT: u16 = 47_761;

/// All pairs of worker and logger, and the workers' names.
#[derive(Debug)]
pub(crate) struct Cables {
    names: BTreeMap<IpAddr, Arc<str>>,
    /// Not `watch`: that wakes who waits in an order of chance.
    pairs: BTreeMap<(IpAddr, IpAddr), Arc<Notify>>,
}

impl Cables {
    pub(crate) fn new(workers: &[(IpAddr, Arc<str>)], loggers: &[IpAddr]) -> Self {
        let all = workers.iter().flat_map(|(w, _)| loggers.iter().map(|l| (*w, *l)));
        let pairs = all.map(|pair| (pair, Arc::default())).collect();
        Self { names: workers.iter().cloned().collect(), pairs }
    }

    /// Resets every connection between the two.
    pub(crate) fn cut(&self, worker: IpAddr, logger: IpAddr) {
        if let Some(pair) = self.pairs.get(&(worker, logger)) {
            pair.notify_waiters();
        }
    }

    fn wire(&self, tcp: TcpStream, worker: IpAddr, logger: IpAddr) -> io::Result<Wire> {
        let pair = self.pairs.get(&(worker, logger)).ok_or(io::ErrorKind::HostUnreachable)?;
        let cut = Box::pin(pair.clone().notified_owned());
        Ok(Wire { tcp, cut, is_cut: false })
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

/// Serves all that connect to this host, until the end. As tonic's own server does it, but for
/// the choice between two things that happen at once, which that leaves to chance.
pub(crate) async fn serve(
    routes: Routes,
    (cables, logger): (Arc<Cables>, IpAddr),
    end: CancellationToken,
) {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await.unwrap();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = end.cancelled() => break,
            Some(_) = connections.join_next() => {}
            taken = listener.accept() => {
                let (tcp, from) = taken.unwrap();
                let wire = cables.wire(tcp, from.ip(), logger).unwrap();
                connections.spawn(hear(routes.clone(), wire, from.ip(), end.clone()));
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn hear(routes: Routes, wire: Wire, caller: IpAddr, end: CancellationToken) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Caller(caller));
        routes.clone().call(request.map(Body::new))
    });
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        // The simulated world does not know the date of this one.
        .auto_date_header(false)
        .keep_alive_interval(Some(channel::KEEPALIVE_INTERVAL))
        .initial_stream_window_size(channel::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(channel::CONNECTION_WINDOW_BYTES);
    let service = TowerToHyperService::new(service);
    let mut served = pin!(server.serve_connection(TokioIo::new(wire), service));
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = end.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// The way of a worker to its loggers.
#[derive(Debug)]
pub(crate) struct Ways {
    pub(crate) cables: Arc<Cables>,
    pub(crate) worker: IpAddr,
    /// Certificates are replaced.
    pub(crate) renewal: Arc<Notify>,
}

impl Dial for Ways {
    fn channel(&self, peer: &Peer) -> Result<PeerChannel, tonic::transport::Error> {
        let (cables, worker, addr) = (self.cables.clone(), self.worker, peer.addr);
        let connect = service_fn(move |_| connect(cables.clone(), worker, addr));
        Ok(channel::endpoint(peer)?.connect_with_connector_lazy(connect).into())
    }

    fn renewed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.renewal.clone().notified_owned())
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
