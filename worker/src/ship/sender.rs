//! Batches to one logger by gRPC: connect, say hello, hear what the logger has, send, hear
//! acks; again from the start after each break. Protocol: docs/formats/log-wire.md.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tyto_core::config::runtime::Peer;
use tyto_daemon::channel;
use tyto_daemon::telemetry::chain;
use tyto_proto::convert::schema_to_wire;
use tyto_proto::v1::deliver_reply::Kind as Reply;
use tyto_proto::v1::deliver_request::Kind as Request;
use tyto_proto::v1::log_sink_client::LogSinkClient;
use tyto_proto::v1::{
    self, Ack, Batch, Copied, DeliverReply, DeliverRequest, Hello, InDoubt, Refusal as WireRefusal,
};
use tyto_writer::{BatchName, Position, Refusal};

use super::binding::WINDOW_BATCHES_MAX;
use super::link::{Dial, Heard, LinkContext, LinkEvent, Transport};
use super::links::{Outgoing, Parcel};

/// Wait after a first failed try; doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait between tries.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// How long connecting and the logger's welcome may take.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages between our queue and HTTP/2, whose window pushes back.
const OUTGOING_MAX: usize = 4;

/// gRPC to one logger.
#[derive(Debug)]
pub(crate) struct GrpcTransport {
    dial: Arc<dyn Dial>,
    peer: Peer,
}

/// Why a session ended or never began.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot use our certificate")]
    Certificate(#[from] tonic::transport::Error),
    #[error("logger ended the session")]
    Status(#[from] Status),
    #[error("logger did not answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("logger does not speak the protocol: {0}")]
    Protocol(&'static str),
    #[error("session is over")]
    Closed,
    #[error("certificates have been replaced")]
    Renewed,
    #[error("logger has ended in order")]
    Farewell,
}

impl GrpcTransport {
    /// A transport to `peer`.
    pub(crate) const fn new(dial: Arc<dyn Dial>, peer: Peer) -> Self {
        Self { dial, peer }
    }

    /// One session; returns whether it came to a welcome, and what ended it.
    async fn session(&self, context: &LinkContext) -> (bool, SessionError) {
        let mut welcomed = false;
        let result = self.try_session(context, &mut welcomed).await;
        (welcomed, result.err().unwrap_or(SessionError::Closed))
    }

    async fn try_session(
        &self,
        context: &LinkContext,
        welcomed: &mut bool,
    ) -> Result<(), SessionError> {
        let renewed = self.dial.renewed();
        let mut client = LogSinkClient::new(self.dial.channel(&self.peer)?)
            .max_decoding_message_size(channel::MESSAGE_BYTES_MAX);
        let (requests, outgoing) = mpsc::channel(OUTGOING_MAX);
        let hello = Hello { node: context.node.to_string(), oldest_epoch: context.oldest_epoch() };
        send(&requests, Request::Hello(hello)).await?;
        let (mut replies, heard) = tokio::time::timeout(WELCOME_TIMEOUT, async {
            let mut replies = client.deliver(ReceiverStream::new(outgoing)).await?.into_inner();
            let heard = welcome(&mut replies).await?;
            Ok::<_, SessionError>((replies, heard))
        })
        .await??;
        *welcomed = true;
        let logger = self.logger();
        tracing::info!(peer = %logger, "logger is there");
        // Twice the window: what is bound to the logger fits at once after a reconnect.
        let (outgoing, mut queue) = mpsc::channel(2 * WINDOW_BATCHES_MAX);
        let up = LinkEvent::Up { logger: logger.clone(), welcome: heard, outgoing };
        context.events.send(up).await.map_err(|_| SessionError::Closed)?;
        // Side by side: acks are heard while sending waits for the logger's window.
        tokio::select! {
            biased;
            ended = forward(&mut queue, &requests) => ended,
            ended = listen(&mut replies, &logger, &context.events) => ended,
            () = renewed => Err(SessionError::Renewed),
        }
    }
}

impl Transport for GrpcTransport {
    fn logger(&self) -> Arc<str> {
        self.peer.node.as_str().into()
    }

    async fn run(self, context: LinkContext) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let (welcomed, error) = tokio::select! {
                biased;
                ended = self.session(&context) => ended,
                () = context.end.cancelled() => return,
            };
            if welcomed {
                backoff = BACKOFF_MIN;
                let is_renewed = matches!(error, SessionError::Renewed);
                if is_renewed {
                    tracing::info!(peer = %self.peer.node, "new session with new certificates");
                } else {
                    tracing::warn!(peer = %self.peer.node, error = %chain(&error), "logger is gone");
                }
                let down = LinkEvent::Down { logger: self.logger() };
                if context.events.send(down).await.is_err() {
                    return;
                }
                if is_renewed {
                    continue;
                }
            } else {
                tracing::debug!(peer = %self.peer.node, error = %chain(&error), "no logger");
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(backoff) => {}
                () = context.end.cancelled() => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}

async fn send(requests: &mpsc::Sender<DeliverRequest>, kind: Request) -> Result<(), SessionError> {
    requests.send(DeliverRequest { kind: Some(kind) }).await.map_err(|_| SessionError::Closed)
}

async fn welcome(replies: &mut Streaming<DeliverReply>) -> Result<Heard, SessionError> {
    match replies.message().await?.and_then(|reply| reply.kind) {
        Some(Reply::Welcome(welcome)) => {
            let durable = welcome.durable.into_iter().map(|at| Position {
                epoch: at.epoch,
                stream: at.stream.into(),
                next_seq: at.next_seq,
            });
            let written = welcome.written.map(|written| {
                written.streams.into_iter().map(|of| (of.stream.into(), of.rows)).collect()
            });
            Ok(Heard { durable: durable.collect(), written })
        }
        Some(_) => Err(SessionError::Protocol("no welcome after hello")),
        None => Err(SessionError::Closed),
    }
}

async fn forward(
    queue: &mut mpsc::Receiver<Outgoing>,
    requests: &mpsc::Sender<DeliverRequest>,
) -> Result<(), SessionError> {
    let mut told = HashSet::new();
    while let Some(outgoing) = queue.recv().await {
        let request = match outgoing {
            Outgoing::Batch(parcel) => Request::Batch(batch_of(parcel, &mut told, requests).await?),
            Outgoing::Copy { parcel, bound_to } => {
                let batch = Some(batch_of(parcel, &mut told, requests).await?);
                Request::Copy(v1::Copy { batch, logger: bound_to.to_string() })
            }
            Outgoing::InDoubt(names) => {
                let name = |name: BatchName| v1::BatchName {
                    epoch: name.epoch,
                    stream: name.stream.to_string(),
                    first_seq: name.first_seq,
                };
                Request::InDoubt(InDoubt { batches: names.into_iter().map(name).collect() })
            }
        };
        send(requests, request).await?;
    }
    Err(SessionError::Closed)
}

/// The batch for the wire, after its schema if this session has not told that yet.
async fn batch_of(
    Parcel { head, schema, payload }: Parcel,
    told: &mut HashSet<u64>,
    requests: &mpsc::Sender<DeliverRequest>,
) -> Result<Batch, SessionError> {
    if told.insert(head.fingerprint) {
        send(requests, Request::Schema(schema_to_wire(&schema))).await?;
    }
    let crc32 = crc32fast::hash(&payload);
    Ok(Batch {
        epoch: head.epoch,
        stream: head.stream.to_string(),
        fingerprint: head.fingerprint,
        first_seq: head.first_seq,
        rows: head.rows,
        payload,
        crc32,
        first_ns: head.times.first_ns,
        last_ns: head.times.last_ns,
    })
}

async fn listen(
    replies: &mut Streaming<DeliverReply>,
    logger: &Arc<str>,
    events: &mpsc::Sender<LinkEvent>,
) -> Result<(), SessionError> {
    while let Some(reply) = replies.message().await? {
        let logger = logger.clone();
        let event = match reply.kind {
            Some(Reply::Ack(Ack { epoch, stream, next_seq })) => {
                let position = Position { epoch, stream: stream.into(), next_seq };
                LinkEvent::Acked { logger, position }
            }
            Some(Reply::Refusal(WireRefusal { epoch, stream, first_seq, rows, reason })) => {
                let stream = stream.into();
                let refusal = Refusal { epoch, stream, first_seq, rows, reason };
                LinkEvent::Refused { logger, refusal }
            }
            Some(Reply::Copied(Copied { batch })) => {
                let Some(v1::BatchName { epoch, stream, first_seq }) = batch else { continue };
                let name = BatchName { epoch, stream: stream.into(), first_seq };
                LinkEvent::Copied { logger, name }
            }
            Some(Reply::Farewell(_)) => {
                let farewell = LinkEvent::Farewell { logger };
                events.send(farewell).await.map_err(|_| SessionError::Closed)?;
                return Err(SessionError::Farewell);
            }
            Some(Reply::Welcome(_)) => return Err(SessionError::Protocol("a second welcome")),
            // A kind that a later release added.
            None => continue,
        };
        events.send(event).await.map_err(|_| SessionError::Closed)?;
    }
    Err(SessionError::Closed)
}
