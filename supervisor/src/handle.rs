//! The way to the task of one node, and what others see of the node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tyto_core::layout::Layout;

use crate::capture_store::CaptureStore;
use crate::node;
use crate::node_capture::NodeCapture;
use crate::record::NodeRecord;
use crate::watchdog::Heard;

/// Commands that may wait for a node's task; a further caller waits until one was taken.
const COMMANDS_MAX: usize = 16;

/// Where a node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Life {
    /// No process, and none wanted.
    #[default]
    Stopped,
    /// A process lives.
    Up,
    /// Its process was asked to end.
    Terminating,
    /// It died and will not be started again by itself: the release in use does not have it.
    Crashed,
    /// It died and will be started again shortly.
    Backoff,
    /// It died again and again; it is tried at long intervals only.
    Failed,
    /// Its interface is missing or down; it is started when the interface is there.
    Waiting,
}

/// What others see of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Where it stands.
    pub(crate) life: Life,
    /// Its process; 0 when there is none.
    pub(crate) pid: u32,
    /// Start of that process, ns since the Unix epoch; 0 when there is none, or it was taken over
    /// before it had written when.
    pub(crate) started_ns: u64,
    /// Release that process was started from, empty when there is none.
    pub(crate) release: String,
    /// Role that process was started with, empty when there is none.
    pub(crate) role: String,
    /// What the operator wants, and what became of earlier processes.
    pub(crate) record: NodeRecord,
    /// What went wrong last since the operator's start, empty when nothing did.
    pub(crate) failure: String,
    /// Last lines of stderr.log, when it died unwanted.
    pub(crate) last_stderr: Vec<String>,
    /// When it will be started again, if that is planned.
    pub(crate) retry_at: Option<Instant>,
    /// Unwanted deaths seen by this supervisor, failed attempts to start included.
    pub(crate) deaths: u64,
}

impl View {
    /// Whether its process said that it runs, to this supervisor or an earlier one.
    pub(crate) fn ran(&self) -> bool {
        self.started_ns != 0 && self.record.ran_ns == self.started_ns
    }
}

/// What came of a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// No process of the node is left.
    pub(crate) ok: bool,
    /// What happened, for the operator; empty when it ended as asked.
    pub(crate) message: String,
}

/// What a node's task does when asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// Make it desired and start it if it does not run. The reply is the view from before.
    Start(oneshot::Sender<View>),
    /// The process of that pid says that it runs.
    Runs(u32),
    /// The process of that pid hangs, for that reason: end it.
    Hung { pid: u32, why: String },
    /// Make it undesired and end its process; its capture socket may stay open for a while.
    Stop { timeout: Duration, keep_capture: bool, reply: oneshot::Sender<Stopped> },
}

/// The way to a node's task.
#[derive(Debug)]
pub(crate) struct NodeHandle {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
}

/// The task of a node has gone: the supervisor is ending.
#[derive(Debug, thiserror::Error)]
#[error("the supervisor is ending")]
pub(crate) struct Ending;

impl NodeHandle {
    /// Takes over what runs as this node and starts what should run; returns when that is done.
    pub(crate) async fn restore(
        layout: Layout,
        captures: Arc<CaptureStore>,
        name: &str,
        heard: watch::Receiver<Option<Heard>>,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (view, seen) = watch::channel(View::default());
        let capture = NodeCapture::new(captures, name);
        node::begin(layout, name.to_owned(), capture, view, inbox, heard).await;
        Self { commands, view: seen }
    }

    /// The node as it stands.
    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// To wait for changes.
    pub(crate) fn watch(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Makes the node desired and starts it if it does not run; the view from before.
    ///
    /// # Errors
    /// When the supervisor is ending.
    pub(crate) async fn start(&self) -> Result<View, Ending> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Start(reply)).await.map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }

    /// Takes note that the node's process said it runs. It says so each second: when the
    /// task is busy, the next time will do.
    pub(crate) fn runs(&self, pid: u32) {
        let view = self.view.borrow();
        if view.pid == pid && !view.ran() {
            drop(self.commands.try_send(Command::Runs(pid)));
        }
    }

    /// Has a process that hangs ended. When the task is busy, the next look will do.
    pub(crate) fn hung(&self, pid: u32, why: String) {
        drop(self.commands.try_send(Command::Hung { pid, why }));
    }

    /// Makes the node undesired and ends its process. `keep_capture`: it will be started again
    /// at once.
    ///
    /// # Errors
    /// When the supervisor is ending.
    pub(crate) async fn stop(
        &self,
        timeout: Duration,
        keep_capture: bool,
    ) -> Result<Stopped, Ending> {
        let (reply, answer) = oneshot::channel();
        let stop = Command::Stop { timeout, keep_capture, reply };
        self.commands.send(stop).await.map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }
}
