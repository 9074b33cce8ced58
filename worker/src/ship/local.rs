//! A standalone node writes its own log files: the same store as a logger's, on a thread of
//! this process.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tyto_writer::service::{self, Command, Peer, ReportCell};
use tyto_writer::{Batch, BatchName, LogStore, Position, Refusal, Welcome};

use super::binding::WINDOW_BATCHES_MAX;
use super::link::{Heard, LinkContext, LinkEvent, Transport};
use super::links::{Outgoing, Parcel};

/// Commands that may wait for the store: all that can be on its way to it.
const COMMANDS_MAX: usize = 4 * WINDOW_BATCHES_MAX;

/// There is one session per process.
const SESSION: u64 = 1;

/// The log files of this node.
#[derive(Debug)]
pub(crate) struct LocalTransport {
    node: Arc<str>,
    store: LogStore,
    commit_interval: Duration,
    report: ReportCell,
}

impl LocalTransport {
    /// A transport into `store`.
    pub(crate) const fn new(
        node: Arc<str>,
        store: LogStore,
        commit_interval: Duration,
        report: ReportCell,
    ) -> Self {
        Self { node, store, commit_interval, report }
    }
}

/// Brings the store's answers to the ship thread. Waits when that is behind, which never
/// waits for the store.
struct Answers {
    logger: Arc<str>,
    events: mpsc::Sender<LinkEvent>,
    outgoing: Option<mpsc::Sender<Outgoing>>,
}

impl Answers {
    fn tell(&self, event: LinkEvent) {
        // Closed: the ship thread has ended, and asks again in its next life.
        self.events.blocking_send(event).ok();
    }
}

impl Peer for Answers {
    type Permit = ();

    fn welcome(&mut self, Welcome { durable, written }: Welcome) {
        if let Some(outgoing) = self.outgoing.take() {
            let welcome = Heard { durable, written: Some(written) };
            self.tell(LinkEvent::Up { logger: self.logger.clone(), welcome, outgoing });
        }
    }

    fn copied(&mut self, name: &BatchName) {
        let (logger, name) = (self.logger.clone(), name.clone());
        self.tell(LinkEvent::Copied { logger, name });
    }

    fn farewell(&mut self) {
        self.tell(LinkEvent::Farewell { logger: self.logger.clone() });
    }

    fn acked(&mut self, position: &Position) {
        let (logger, position) = (self.logger.clone(), position.clone());
        self.tell(LinkEvent::Acked { logger, position });
    }

    fn refused(&mut self, refusal: &Refusal) {
        let (logger, refusal) = (self.logger.clone(), refusal.clone());
        self.tell(LinkEvent::Refused { logger, refusal });
    }
}

impl Transport for LocalTransport {
    fn logger(&self) -> Arc<str> {
        self.node.clone()
    }

    async fn run(self, context: LinkContext) {
        let Self { node, store, commit_interval, report } = self;
        let (commands, received) = sync_channel(COMMANDS_MAX);
        let cell = report.clone();
        let writer = std::thread::Builder::new()
            .name("logs".into())
            .spawn(move || service::run(store, &received, commit_interval, cell));
        let writer = match writer {
            Ok(writer) => writer,
            Err(error) => {
                tracing::error!(%error, "cannot start the thread that writes logs");
                return;
            }
        };
        let (outgoing, mut queue) = mpsc::channel(2 * WINDOW_BATCHES_MAX);
        let (logger, events) = (node.clone(), context.events.clone());
        let hello = Command::Hello {
            session: SESSION,
            node: node.clone(),
            oldest_epoch: context.oldest_epoch(),
            peer: Answers { logger, events, outgoing: Some(outgoing) },
        };
        hand_over(&commands, hello).await;
        let mut told = HashSet::new();
        loop {
            let outgoing = tokio::select! {
                outgoing = queue.recv() => outgoing,
                () = context.end.cancelled() => None,
            };
            let Some(outgoing) = outgoing else { break };
            // There is no other logger whose batches could be in doubt here.
            let Outgoing::Batch(Parcel { head, schema, payload }) = outgoing else { continue };
            if told.insert(head.fingerprint) {
                hand_over(&commands, Command::Schema((*schema).clone())).await;
            }
            let crc32 = crc32fast::hash(&payload);
            let batch = Batch {
                node: node.clone(),
                epoch: head.epoch,
                stream: head.stream,
                fingerprint: head.fingerprint,
                first_seq: head.first_seq,
                rows: head.rows,
                payload,
                crc32,
                times: head.times,
            };
            hand_over(&commands, Command::Batch { session: SESSION, batch, permit: () }).await;
        }
        report.end_waiting();
        drop(commands);
        join(writer).await;
    }
}

/// The channel holds all that can be on its way; should it be full all the same, wait.
async fn hand_over(commands: &SyncSender<Command<Answers>>, command: Command<Answers>) {
    let mut command = command;
    while let Err(TrySendError::Full(back)) = commands.try_send(command) {
        command = back;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn join(writer: JoinHandle<Result<(), tyto_writer::StoreError>>) {
    match tokio::task::spawn_blocking(|| writer.join()).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => {
            tracing::error!(error = %error.chain(), "logs not closed; the next start goes on");
        }
        Ok(Err(_)) | Err(_) => tracing::error!("the thread that writes logs died"),
    }
}
