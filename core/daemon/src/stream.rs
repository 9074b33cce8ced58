//! mTLS connections between nodes, both ends. A connection lives no longer than its peer is
//! trusted: it ends when the peer's certificate expires, and soon after the CA that signed it
//! is no more among those trusted.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tyto_core::config::runtime::Peer;

use crate::certificate::Facts;
use crate::credentials::Credentials;
use crate::refusal::{By, Reason, Refusal, now_s};
use crate::tls::{Caller, Identity};
use crate::trust::{Dialled, Judge};

/// How long TCP and TLS may take to connect.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes of a server under way at a time; further ones wait in the kernel.
const HANDSHAKES_MAX: usize = 256;
/// Connections that may wait for the server to take them.
const ACCEPTED_MAX: usize = 16;
/// Wait after accepting failed: for want of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A connection whose peer is no more trusted, because a CA was dropped, may live this long:
/// calls under way end, and the peer comes back with its new certificate.
const FAREWELL: Duration = Duration::from_secs(5);
/// Longest time without a look at the clock: it may be set.
const CLOCK_LOOK: Duration = Duration::from_secs(30);
/// How long, and for how many bytes, a peer that was refused is heard out: closing while it
/// writes would take the alert that tells it why from under its eyes.
const HEAR_OUT: Duration = Duration::from_secs(1);
const HEAR_OUT_BYTES_MAX: u64 = 64 << 10;
/// The protocol that both ends speak.
const HTTP2: &[u8] = b"h2";

/// A connection whose both ends have shown their certificates.
pub struct NodeStream {
    tls: TlsStream<TcpStream>,
    identity: Identity,
    peer: String,
    /// What we showed.
    own: Arc<Credentials>,
    facts: Arc<Facts>,
    /// Ends when the peer is no more to be trusted.
    distrust: Pin<Box<dyn Future<Output = Refusal> + Send>>,
    is_over: bool,
}

impl std::fmt::Debug for NodeStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeStream({})", self.peer)
    }
}

/// Connections that come in at `listener`, from nodes of the cluster only. What does not come to
/// a connection is traced and counted.
pub fn incoming(
    listener: TcpListener,
    identity: &Identity,
) -> ReceiverStream<io::Result<NodeStream>> {
    let (accepted, streams) = mpsc::channel(ACCEPTED_MAX);
    tokio::spawn(accept_all(listener, identity.clone(), accepted));
    ReceiverStream::new(streams)
}

async fn accept_all(
    listener: TcpListener,
    identity: Identity,
    accepted: mpsc::Sender<io::Result<NodeStream>>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        if handshakes.len() >= HANDSHAKES_MAX {
            handshakes.join_next().await;
        }
        let tcp = tokio::select! {
            tcp = listener.accept() => tcp,
            Some(_) = handshakes.join_next() => continue,
            () = accepted.closed() => return,
        };
        match tcp {
            Ok((tcp, _)) => {
                let (identity, accepted) = (identity.clone(), accepted.clone());
                handshakes.spawn(async move {
                    if let Some(stream) = accept(tcp, &identity).await {
                        // Err: the server is ending.
                        drop(accepted.send(Ok(stream)).await);
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(tcp: TcpStream, identity: &Identity) -> Option<NodeStream> {
    let peer = tcp.peer_addr().map_or_else(|_| "unknown".to_owned(), |addr| addr.to_string());
    let judge = identity.judge(None);
    let config = match server_config(&judge) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "cannot use this node's certificate");
            return None;
        }
    };
    drop(tcp.set_nodelay(true));
    let handshake = TlsAcceptor::from(Arc::new(config)).accept(tcp).into_fallible();
    match timeout(CONNECT_TIMEOUT, handshake).await {
        Ok(Ok(tls)) => NodeStream::new(tls.into(), identity, judge, peer).ok(),
        Ok(Err((error, tcp))) => {
            failed(identity, &judge, &peer, error);
            hear_out(tcp).await;
            None
        }
        Err(_) => {
            tracing::debug!(peer, "handshake took too long");
            None
        }
    }
}

/// Dials a node.
///
/// # Errors
/// When it does not answer, is another one, or is not to be trusted: then the error says why,
/// and that is traced and counted.
pub(crate) async fn connect(identity: Identity, peer: Peer) -> io::Result<NodeStream> {
    let slow = |_| io::Error::new(io::ErrorKind::TimedOut, "the node did not answer in time");
    timeout(CONNECT_TIMEOUT, dial(&identity, &peer)).await.map_err(slow)?
}

async fn dial(identity: &Identity, peer: &Peer) -> io::Result<NodeStream> {
    let dialled = Dialled { node: peer.node.clone(), role: peer.role };
    let judge = identity.judge(Some(dialled));
    let name = ServerName::try_from(peer.node.clone()).map_err(io::Error::other)?;
    let config = client_config(&judge).map_err(io::Error::other)?;
    let tcp = TcpStream::connect(peer.addr).await?;
    tcp.set_nodelay(true)?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp).into_fallible();
    match handshake.await {
        Ok(tls) => NodeStream::new(tls.into(), identity, judge, peer.node.clone()),
        Err((error, tcp)) => {
            let error = failed(identity, &judge, &peer.node, error);
            tokio::spawn(hear_out(tcp));
            Err(error)
        }
    }
}

fn server_config(judge: &Judge) -> Result<ServerConfig, rustls::Error> {
    let own = Arc::new(SingleCertAndKey::from(judge.credentials.own.clone()));
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(Arc::new(judge.clone()))
        .with_cert_resolver(own);
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // Each connection is judged anew: a resumed session would show no certificate.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(judge: &Judge) -> Result<ClientConfig, rustls::Error> {
    let own = Arc::new(SingleCertAndKey::from(judge.credentials.own.clone()));
    let mut config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge.clone()))
        .with_client_cert_resolver(own);
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Tells, traces and counts why a handshake failed.
fn failed(identity: &Identity, judge: &Judge, peer: &str, error: io::Error) -> io::Error {
    let by_us = judge.verdict.get().cloned().or_else(|| {
        let none = matches!(tls_error(&error), Some(rustls::Error::NoCertificatesPresented));
        none.then(|| Refusal::new(Reason::NoCertificate, "the caller showed no certificate"))
    });
    if let Some(refusal) = by_us {
        identity.note(By::Us, peer, &refusal);
        return io::Error::new(io::ErrorKind::PermissionDenied, refusal);
    }
    explained(identity, &judge.credentials.facts, peer, error)
}

/// An error of a connection; when the peer told by an alert that it refuses us, what that means.
fn explained(identity: &Identity, own: &Facts, peer: &str, error: io::Error) -> io::Error {
    let Some(rustls::Error::AlertReceived(alert)) = tls_error(&error) else { return error };
    let Some(refusal) = Refusal::told_by_alert(*alert, own, peer) else { return error };
    identity.note(By::Peer, peer, &refusal);
    io::Error::new(io::ErrorKind::PermissionDenied, refusal)
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

async fn hear_out(mut tcp: TcpStream) {
    let heard = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(HEAR_OUT_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // It was refused already; nothing more can go wrong.
    drop(timeout(HEAR_OUT, heard).await);
}

impl NodeStream {
    fn new(
        tls: TlsStream<TcpStream>,
        identity: &Identity,
        judge: Judge,
        peer: String,
    ) -> io::Result<Self> {
        let shown = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let facts = shown.first().and_then(|der| Facts::from_der(der));
        let facts = Arc::new(facts.ok_or_else(|| io::Error::other("no certificate was shown"))?);
        let own = judge.credentials;
        let distrust = Box::pin(distrust(identity.clone(), judge.dialled, shown, facts.clone()));
        // A server knows its peer by its name only now.
        let peer = facts.holder.as_ref().map_or(peer, |holder| holder.node.clone());
        let identity = identity.clone();
        Ok(Self { tls, identity, peer, own, facts, distrust, is_over: false })
    }

    fn over(&mut self, refusal: Refusal) -> io::Error {
        self.is_over = true;
        self.identity.note(By::Us, &self.peer, &refusal);
        io::Error::new(io::ErrorKind::ConnectionAborted, refusal)
    }
}

/// Ends when the chain `shown` is no more good: its time is over, or its CA was dropped.
async fn distrust(
    identity: Identity,
    dialled: Option<Dialled>,
    shown: Vec<CertificateDer<'static>>,
    facts: Arc<Facts>,
) -> Refusal {
    let mut changes = identity.changes();
    let mut is_dropped = false;
    loop {
        let judge = identity.judge(dialled.clone());
        let judged = match shown.split_first() {
            Some((leaf, others)) => judge.judge(leaf, others, UnixTime::now()),
            None => return Refusal::new(Reason::NoCertificate, "no certificate was shown"),
        };
        match judged {
            Ok(_) => is_dropped = false,
            Err((refusal, _)) if is_dropped || refusal.reason == Reason::Expired => {
                return refusal;
            }
            Err(_) => {
                is_dropped = true;
                sleep(FAREWELL).await;
                continue;
            }
        }
        let left_s = u64::try_from(facts.not_after_s - now_s()).unwrap_or(0);
        tokio::select! {
            () = sleep(Duration::from_secs(left_s + 1).min(CLOCK_LOOK)) => {}
            // Err: never, because the identity that we hold has the sender.
            _ = changes.changed() => {}
        }
    }
}

impl AsyncRead for NodeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Poll::Ready(refusal) = this.distrust.as_mut().poll(cx) {
            return Poll::Ready(Err(this.over(refusal)));
        }
        let read = ready!(Pin::new(&mut this.tls).poll_read(cx, buf));
        Poll::Ready(
            read.map_err(|error| explained(&this.identity, &this.own.facts, &this.peer, error)),
        )
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut this.tls).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut this.tls).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}

impl Connected for NodeStream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller { facts: self.facts.clone(), called: self.identity.clone() }
    }
}
