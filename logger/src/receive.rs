//! `LogSink.Deliver`: one session per producer, from its hello to the end of its stream.
//! Protocol: docs/formats/log-wire.md. Messages of the wire stop here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};
use tyto_core::config::runtime::Role;
use tyto_daemon::tls;
use tyto_proto::convert::schema_from_wire;
use tyto_proto::v1::deliver_reply::Kind as Reply;
use tyto_proto::v1::deliver_request::Kind as Wanted;
use tyto_proto::v1::log_sink_server::LogSink;
use tyto_proto::v1::{self, Ack, Copied, DeliverReply, DeliverRequest, Hello};
use tyto_writer::service::{Command, Peer};
use tyto_writer::{Batch, BatchName, Position, Refusal, RowTimes, Welcome};

/// Batches of all producers that may wait for the store. A producer beyond it waits: its
/// stream is not read, so that HTTP/2's window closes.
const QUEUE_BATCHES_MAX: usize = 256;

/// Room in the channel to the store: the batches, and a few of the small commands.
pub(crate) const COMMANDS_MAX: usize = QUEUE_BATCHES_MAX + 256;

/// Answers that may wait for one producer. One that does not read them is cut off: it will
/// come back and hear at its welcome what it missed.
const REPLIES_MAX: usize = 1_024;

/// How long a producer may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Who the caller of a session is, or why it may not deliver rows.
pub type Admit =
    Box<dyn Fn(&Request<Streaming<DeliverRequest>>) -> Result<Arc<str>, Status> + Send + Sync>;

/// Roles that may deliver rows.
const PRODUCERS: [Role; 4] = [Role::Worker, Role::Standalone, Role::Proxy, Role::Manager];

type Commands = SyncSender<Command<Producer>>;
type Replies = mpsc::Sender<Result<DeliverReply, Status>>;

/// The service.
pub(crate) struct Receive {
    logger: Arc<str>,
    admit: Admit,
    commands: Commands,
    room: Arc<Semaphore>,
    sessions: AtomicU64,
    shutdown: CancellationToken,
}

/// Where the store's answers to one producer go.
#[derive(Debug)]
pub(crate) struct Producer {
    logger: Arc<str>,
    replies: Replies,
    /// Ends the session when the store forgets it.
    end: DropGuard,
    is_cut_off: bool,
}

struct Session {
    id: u64,
    node: Arc<str>,
    commands: Commands,
    room: Arc<Semaphore>,
    end: CancellationToken,
    shutdown: CancellationToken,
}

impl Receive {
    /// The service of one logger. It takes rows of those that `admit` knows, hands them to
    /// `commands`, and ends its sessions at `shutdown`.
    pub(crate) fn new(
        logger: &str,
        admit: Admit,
        commands: Commands,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            logger: logger.into(),
            admit,
            commands,
            room: Arc::new(Semaphore::new(QUEUE_BATCHES_MAX)),
            sessions: AtomicU64::new(0),
            shutdown,
        }
    }
}

/// Producers of `cluster`, by the certificates that they show.
pub(crate) fn by_certificate(cluster: &str) -> Admit {
    let cluster = cluster.to_owned();
    Box::new(move |request| {
        tls::require(request, &cluster, &PRODUCERS).map(|caller| caller.node.into())
    })
}

#[tonic::async_trait]
impl LogSink for Receive {
    type DeliverStream = ReceiverStream<Result<DeliverReply, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let node = (self.admit)(&request)?;
        let (replies, outgoing) = mpsc::channel(REPLIES_MAX);
        let session = Session {
            id: self.sessions.fetch_add(1, Ordering::Relaxed),
            node,
            commands: self.commands.clone(),
            room: self.room.clone(),
            end: self.shutdown.child_token(),
            shutdown: self.shutdown.clone(),
        };
        let logger = self.logger.clone();
        tokio::spawn(async move {
            let node = session.node.clone();
            match session.run(request.into_inner(), logger, &replies).await {
                Ok(()) => tracing::info!(peer = %node, "producer left"),
                Err(status) => {
                    tracing::warn!(peer = %node, error = %status.message(), "session ended");
                    // The producer may be gone already.
                    replies.try_send(Err(status)).ok();
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Session {
    async fn run(
        self,
        mut stream: Streaming<DeliverRequest>,
        logger: Arc<str>,
        replies: &Replies,
    ) -> Result<(), Status> {
        let hello = tokio::time::timeout(HELLO_TIMEOUT, stream.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let Some(DeliverRequest { kind: Some(Wanted::Hello(Hello { node, oldest_epoch })) }) =
            hello
        else {
            return Err(Status::invalid_argument("the first message has to be a hello"));
        };
        if *node != *self.node {
            let told = format!("hello says `{node}`, the certificate `{}`", self.node);
            return Err(Status::permission_denied(told));
        }
        tracing::info!(peer = %node, oldest_epoch, "producer is there");
        let peer = Producer {
            logger,
            replies: replies.clone(),
            end: self.end.clone().drop_guard(),
            is_cut_off: false,
        };
        let hello =
            Command::Hello { session: self.id, node: self.node.clone(), oldest_epoch, peer };
        self.hand_over(hello).await?;
        let taken = tokio::select! {
            biased;
            () = self.end.cancelled() => Ok(()),
            taken = self.take_all(&mut stream) => taken,
        };
        if self.shutdown.is_cancelled() {
            // The store is about to say farewell, once it has committed what came.
            return taken;
        }
        let goodbye = Command::Goodbye { session: self.id, node: self.node.clone() };
        taken.and(self.hand_over(goodbye).await)
    }

    async fn take_all(&self, stream: &mut Streaming<DeliverRequest>) -> Result<(), Status> {
        while let Some(request) = stream.message().await? {
            match request.kind {
                Some(Wanted::Batch(batch)) => self.take(batch).await?,
                Some(Wanted::Schema(schema)) => {
                    let schema = schema_from_wire(&schema)
                        .map_err(|error| Status::invalid_argument(error.to_string()))?;
                    self.hand_over(Command::Schema(schema)).await?;
                }
                Some(Wanted::Copy(v1::Copy { batch: Some(batch), logger })) => {
                    let (permit, batch) = (self.permit().await?, self.batch(batch));
                    let copy = Command::Copy { session: self.id, batch, logger, permit };
                    self.hand_over(copy).await?;
                }
                Some(Wanted::Copy(v1::Copy { batch: None, .. })) => {
                    return Err(Status::invalid_argument("a copy without a batch"));
                }
                Some(Wanted::InDoubt(v1::InDoubt { batches })) => {
                    let name = |name: v1::BatchName| BatchName {
                        epoch: name.epoch,
                        stream: name.stream.into(),
                        first_seq: name.first_seq,
                    };
                    let batches = batches.into_iter().map(name).collect();
                    let node = self.node.clone();
                    let in_doubt = Command::InDoubt { session: self.id, node, batches };
                    self.hand_over(in_doubt).await?;
                }
                Some(Wanted::Hello(_)) => {
                    return Err(Status::invalid_argument("a second hello"));
                }
                // A kind that a later release added.
                None => {}
            }
        }
        Ok(())
    }

    async fn take(&self, batch: v1::Batch) -> Result<(), Status> {
        let (permit, batch) = (self.permit().await?, self.batch(batch));
        self.hand_over(Command::Batch { session: self.id, batch, permit }).await
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.room.clone().acquire_owned().await.map_err(|_| ended())
    }

    fn batch(&self, batch: v1::Batch) -> Batch {
        Batch {
            node: self.node.clone(),
            epoch: batch.epoch,
            stream: batch.stream.into(),
            fingerprint: batch.fingerprint,
            first_seq: batch.first_seq,
            rows: batch.rows,
            payload: batch.payload,
            crc32: batch.crc32,
            times: RowTimes { first_ns: batch.first_ns, last_ns: batch.last_ns },
        }
    }

    /// The channel has room for every batch that holds a permit; small commands wait a little.
    async fn hand_over(&self, mut command: Command<Producer>) -> Result<(), Status> {
        loop {
            match self.commands.try_send(command) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => command = back,
                Err(TrySendError::Disconnected(_)) => return Err(ended()),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn ended() -> Status {
    Status::unavailable("the logger is ending")
}

impl Producer {
    fn tell(&mut self, reply: Reply) {
        if !self.is_cut_off
            && self.replies.try_send(Ok(DeliverReply { kind: Some(reply) })).is_err()
        {
            self.is_cut_off = true;
            self.end.token().cancel();
        }
    }
}

impl Peer for Producer {
    type Permit = OwnedSemaphorePermit;

    fn welcome(&mut self, welcome: Welcome) {
        let durable = welcome.durable.into_iter().map(|position| v1::Position {
            epoch: position.epoch,
            stream: position.stream.to_string(),
            next_seq: position.next_seq,
        });
        let written = welcome.written.into_iter();
        let written =
            written.map(|(stream, rows)| v1::StreamRows { stream: stream.to_string(), rows });
        self.tell(Reply::Welcome(v1::Welcome {
            logger: self.logger.to_string(),
            durable: durable.collect(),
            written: Some(v1::WrittenRows { streams: written.collect() }),
        }));
    }

    fn copied(&mut self, name: &BatchName) {
        let (epoch, stream, first_seq) = (name.epoch, name.stream.to_string(), name.first_seq);
        let batch = Some(v1::BatchName { epoch, stream, first_seq });
        self.tell(Reply::Copied(Copied { batch }));
    }

    fn farewell(&mut self) {
        self.tell(Reply::Farewell(v1::Farewell {}));
    }

    fn acked(&mut self, position: &Position) {
        self.tell(Reply::Ack(Ack {
            epoch: position.epoch,
            stream: position.stream.to_string(),
            next_seq: position.next_seq,
        }));
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.tell(Reply::Refusal(v1::Refusal {
            epoch: refusal.epoch,
            stream: refusal.stream.to_string(),
            first_seq: refusal.first_seq,
            rows: refusal.rows,
            reason: refusal.reason.clone(),
        }));
    }
}
