//! `LogFollow.Follow`: committed rows for subscribers, from the files. A subscriber has a thread of
//! its own that reads at the subscriber's pace: HTTP/2's window closes, the thread waits, and
//! nothing else does. Protocol: docs/sinks.md.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tyto_core::config::runtime::{NodeConfig, Role};
use tyto_core::layout::Layout;
use tyto_core::record::condition::Condition;
use tyto_daemon::{health, telemetry, tls};
use tyto_proto::v1::follow_reply::Kind;
use tyto_proto::v1::follow_request::From as Start;
use tyto_proto::v1::log_follow_server::LogFollow;
use tyto_proto::v1::{
    Counter, FollowAlive, FollowGone, FollowReply, FollowRequest, FollowRow, FollowRows,
};
use tyto_reader::ReadError;
use tyto_reader::follow::{Follower, Step};
use tyto_reader::query::{LineQuery, Query};

/// Subscriptions at the same time; each has a thread. A further one is refused.
const SUBSCRIPTIONS_MAX: usize = 64;

/// Messages that wait for a subscriber, of some 256 KiB each; then its thread waits.
const REPLIES_MAX: usize = 4;

/// Time between two looks for new rows.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A subscriber hears something at least so often.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

type Reply = Result<FollowReply, Status>;

/// The service.
pub(crate) struct Follow {
    cluster: String,
    folder: PathBuf,
    logs: PathBuf,
    places: Arc<Semaphore>,
    counters: Arc<FollowCounters>,
    shutdown: CancellationToken,
}

/// What subscribers get, for the health report.
#[derive(Debug, Default)]
pub(crate) struct FollowCounters {
    subscribers: AtomicU64,
    rows: AtomicU64,
    refused: AtomicU64,
}

impl FollowCounters {
    /// As the health report names them.
    pub(crate) fn report(&self) -> Vec<Counter> {
        let counter =
            |name, value: &AtomicU64| health::counter(name, value.load(Ordering::Relaxed));
        vec![
            counter("subscribers", &self.subscribers),
            counter("subscriber_rows", &self.rows),
            counter("subscribers_refused", &self.refused),
        ]
    }
}

impl Follow {
    /// The service of the logger of `config`; its calls end at `shutdown`.
    pub(crate) fn new(
        config: &NodeConfig,
        counters: Arc<FollowCounters>,
        shutdown: CancellationToken,
    ) -> Self {
        let layout = Layout::new(&config.prefix);
        Self {
            cluster: config.cluster.clone(),
            folder: layout.node_spool(&config.node),
            logs: layout.logs(),
            places: Arc::new(Semaphore::new(SUBSCRIPTIONS_MAX)),
            counters,
            shutdown,
        }
    }
}

#[tonic::async_trait]
impl LogFollow for Follow {
    type FollowStream = ReceiverStream<Reply>;

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let caller = tls::require(&request, &self.cluster, &[Role::Subscriber])?;
        let wanted = request.into_inner();
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            Status::resource_exhausted(format!("there are {SUBSCRIPTIONS_MAX} subscribers already"))
        })?;
        let query = query(&wanted)?;
        let (replies, outgoing) = mpsc::channel(REPLIES_MAX);
        let subscriber = caller.node;
        tracing::info!(peer = %subscriber, stream = wanted.stream, "subscriber is there");
        let subscription = Subscription {
            follower: Follower::new(self.folder.clone(), self.logs.clone(), wanted.stream, 0),
            query,
            lines: None,
            replies,
            shutdown: self.shutdown.clone(),
            told: Instant::now(),
            counters: Arc::clone(&self.counters),
            _place: place,
        };
        std::thread::Builder::new()
            .name("follow".into())
            .spawn(move || subscription.run(wanted.from.unwrap_or(Start::End(true)), &subscriber))
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

fn query(wanted: &FollowRequest) -> Result<Query, Status> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if wanted.stream.is_empty() || !wanted.stream.chars().all(is_name) {
        return Err(Status::invalid_argument(format!("`{}` is no log stream", wanted.stream)));
    }
    let condition = (!wanted.r#where.is_empty())
        .then(|| Condition::parse(&wanted.r#where))
        .transpose()
        .map_err(|error| Status::invalid_argument(format!("where: {error}")))?;
    Ok(Query {
        stream: wanted.stream.clone(),
        condition,
        fields: wanted.fields.clone(),
        json: true,
        ..Query::default()
    })
}

struct Subscription {
    follower: Follower,
    query: Query,
    /// The query for the lines of one file.
    lines: Option<(PathBuf, LineQuery)>,
    replies: mpsc::Sender<Reply>,
    shutdown: CancellationToken,
    told: Instant,
    counters: Arc<FollowCounters>,
    _place: OwnedSemaphorePermit,
}

/// Why a subscription ends.
enum End {
    /// The subscriber is gone, or the logger ends.
    Quiet,
    Fault(Status),
}

impl Subscription {
    fn run(mut self, start: Start, subscriber: &str) {
        self.counters.subscribers.fetch_add(1, Ordering::Relaxed);
        let ended = self.begin(start).and_then(|()| self.give());
        self.counters.subscribers.fetch_sub(1, Ordering::Relaxed);
        if let Err(End::Fault(status)) = ended {
            tracing::warn!(peer = %subscriber, error = status.message(), "subscription ended");
            // It may be gone already.
            self.replies.blocking_send(Err(status)).ok();
        }
    }

    fn begin(&mut self, start: Start) -> Result<(), End> {
        let row = match start {
            Start::Row(row) => row,
            Start::Beginning(_) => self.follower.first_row().map_err(fault)?,
            Start::End(_) => self.follower.end_row().map_err(fault)?,
        };
        self.follower.go_to(row);
        Ok(())
    }

    fn give(&mut self) -> Result<(), End> {
        let mut bytes = Vec::new();
        while !self.shutdown.is_cancelled() && !self.replies.is_closed() {
            bytes.clear();
            match self.follower.step(&mut bytes) {
                Ok(Step::Rows { first_row, .. }) => self.rows(first_row, &bytes)?,
                Ok(Step::Gone { first_row, rows }) => {
                    self.tell(Kind::Gone(FollowGone { first_row, rows }))?;
                }
                Ok(Step::Ahead { end_row }) => {
                    let text = format!(
                        "row {} does not exist; rows end at {end_row}",
                        self.follower.row()
                    );
                    return Err(End::Fault(Status::out_of_range(text)));
                }
                Ok(Step::End) => self.wait()?,
                // A file may move or expire between two steps; a journal that is being replaced
                // is there in a moment.
                Err(error @ ReadError::Io { .. }) => {
                    tracing::debug!(error = telemetry::chain(&error), "cannot read yet");
                    self.wait()?;
                }
                Err(error) => return Err(fault(error)),
            }
        }
        Err(if self.shutdown.is_cancelled() {
            End::Fault(Status::unavailable("the logger is ending"))
        } else {
            End::Quiet
        })
    }

    fn wait(&mut self) -> Result<(), End> {
        if self.told.elapsed() >= ALIVE_INTERVAL {
            let end_row = self.follower.row();
            self.tell(Kind::Alive(FollowAlive { end_row }))?;
        }
        std::thread::sleep(LOOK_INTERVAL);
        Ok(())
    }

    fn rows(&mut self, first_row: u64, bytes: &[u8]) -> Result<(), End> {
        if self.lines.as_ref().is_none_or(|(path, _)| path != self.follower.path()) {
            let Some(heading) = self.follower.heading().cloned() else { return Ok(()) };
            let path = self.follower.path().to_owned();
            let known = self.follower.known_schemas().map_err(fault)?;
            let lines = self.query.of_lines(path.clone(), heading, &known).map_err(fault)?;
            self.lines = Some((path, lines));
        }
        let Some((_, lines)) = &mut self.lines else { return Ok(()) };
        let mut rows = Vec::new();
        for (row, line) in (first_row..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
            let mut json = Vec::new();
            if lines.take(line, &mut json).map_err(fault)?.is_some() {
                json.pop();
                rows.push(FollowRow { row, json });
            }
        }
        // Where nothing matches for long, the position goes on all the same.
        if rows.is_empty() && self.told.elapsed() < ALIVE_INTERVAL {
            return Ok(());
        }
        let count = rows.len() as u64;
        self.tell(Kind::Rows(FollowRows { rows }))?;
        self.counters.rows.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn tell(&mut self, kind: Kind) -> Result<(), End> {
        self.told = Instant::now();
        let reply = FollowReply { next_row: self.follower.row(), kind: Some(kind) };
        self.replies.blocking_send(Ok(reply)).map_err(|_| End::Quiet)
    }
}

fn fault(error: ReadError) -> End {
    End::Fault(match &error {
        ReadError::Condition(error) => Status::invalid_argument(error.to_string()),
        _ => Status::internal(telemetry::chain(&error)),
    })
}
