//! The host's metrics for Prometheus: `GET /metrics` at `metrics_listen`, in its text format. What
//! is told is what nodes reported last: a scrape waits for no node. Anybody who can connect may
//! ask; nothing can be changed by it.
//!
//! ```text
//! nodes ──Report──▶ fleet ──▶ Scene ──▶ families ──▶ text ──HTTP──▶ Prometheus
//! ```

mod disk;
mod families;
mod names;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::rpc::SupervisorRpc;
use disk::Rooms;
use families::Scene;

/// Scrapes at the same time; a further one is hung up on, and counted.
const CONNECTIONS_MAX: usize = 16;

/// How long one may take from the connection to the last byte.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks whether the address has changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Where metrics are told, for `ctl status`: the address, or why not; empty when nobody wants it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Arc<Mutex<String>>);

impl Place {
    /// In words.
    pub(crate) fn shown(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }
}

/// Tells the metrics of one host.
#[derive(Debug)]
pub(crate) struct Metrics {
    rpc: Arc<SupervisorRpc>,
    rooms: Rooms,
    scrapes: AtomicU64,
    refused: AtomicU64,
}

impl Metrics {
    /// Of what `rpc` would tell ctl.
    pub(crate) fn new(rpc: Arc<SupervisorRpc>) -> Arc<Self> {
        let (scrapes, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { rpc, rooms: Rooms::default(), scrapes, refused })
    }

    /// Answers at the address that the release in use has, whichever that is; never ends. An
    /// address that is taken is tried again at each look.
    pub(crate) async fn serve(self: Arc<Self>) {
        let mut serving: Option<(SocketAddr, CancellationToken)> = None;
        loop {
            let wanted = self.rpc.fleet.metrics_listen();
            if serving.as_ref().map(|(at, _)| *at) != wanted {
                if let Some((_, end)) = serving.take() {
                    end.cancel();
                }
                serving = match wanted {
                    Some(at) => self.begin(at).await.map(|end| (at, end)),
                    None => None,
                };
                if wanted.is_none() {
                    self.rpc.metrics.set(String::new());
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn begin(self: &Arc<Self>, at: SocketAddr) -> Option<CancellationToken> {
        let listener = match TcpListener::bind(at).await {
            Ok(listener) => listener,
            Err(error) => {
                let words = format!("not at {at}: {error}");
                if self.rpc.metrics.shown() != words {
                    warn!(address = %at, %error, "metrics cannot be told; metrics_listen");
                    self.rpc.metrics.set(words);
                }
                return None;
            }
        };
        info!(address = %at, "telling metrics");
        self.rpc.metrics.set(at.to_string());
        let end = CancellationToken::new();
        let (metrics, ended) = (Arc::clone(self), end.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = metrics.accept(listener) => {}
                () = ended.cancelled() => {}
            }
        });
        Some(end)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot take a connection for metrics");
                    tokio::time::sleep(LOOK_INTERVAL).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let metrics = Arc::clone(&self);
            tokio::spawn(async move {
                if tokio::time::timeout(SCRAPE_TIMEOUT, metrics.one(stream)).await.is_err() {
                    debug!("a scrape took too long");
                }
                drop(permit);
            });
        }
    }

    async fn one(self: Arc<Self>, stream: TcpStream) {
        let answer = service_fn(|request| {
            let metrics = Arc::clone(&self);
            async move { Ok::<_, Infallible>(metrics.answer(request).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        // One scrape, one connection: those that are kept open would take the places of others.
        let served = http.keep_alive(false).serve_connection(TokioIo::new(stream), answer).await;
        if let Err(error) = served {
            debug!(%error, "a scrape broke off");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, _) = request.into_parts();
        if !matches!(head.method, Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
            response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
            return response;
        }
        match head.uri.path() {
            "/metrics" => plain(StatusCode::OK, self.text().await),
            _ => plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n".into()),
        }
    }

    async fn text(&self) -> Vec<u8> {
        let scrapes = self.scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let fleet = &self.rpc.fleet;
        let (cluster, host) = fleet.names();
        families::text(&Scene {
            cluster,
            host,
            status: self.rpc.snapshot().await,
            rooms: self.rooms.latest(fleet.layout()),
            scrapes,
            refused: self.refused.load(Ordering::Relaxed),
        })
    }
}

fn plain(code: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let format = hyper::header::HeaderValue::from_static(prometheus::TEXT_FORMAT);
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}
