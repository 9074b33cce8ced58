//! One node of this host, from the operator's first `start` to its last `stop`. A single task
//! owns the node; others send it commands and read its [`View`].
//!
//! ```text
//! Stopped ──start──▶ Up ──dies──▶ Backoff | Failed ──delay over──▶ Up
//!                    └──stop──▶ Terminating ──▶ Stopped
//! ```

use std::future::pending;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};
use tyto_core::layout::Layout;
use tyto_daemon::clock;
use tyto_daemon::telemetry::chain;

use crate::backoff::Backoff;
use crate::child::{self, Child, SpawnError};
use crate::crash::{self, Crash};
use crate::exec_node::EXIT_HELD;
use crate::host::HostError;
use crate::output;
use crate::process::Exit;
use crate::record::NodeRecord;

/// Commands that may wait for a node's task; a further caller waits until one was taken.
const COMMANDS_MAX: usize = 16;

/// How long the kernel may take to end a process after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

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
}

/// What others see of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Where it stands.
    pub(crate) life: Life,
    /// Its process; 0 when there is none.
    pub(crate) pid: u32,
    /// Start of that process, ns since the Unix epoch; 0 when there is none.
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
    /// Unwanted deaths seen by this supervisor, failed attempts to start included.
    pub(crate) deaths: u64,
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
enum Command {
    /// Make it desired and start it if it does not run. The reply is the view from before.
    Start(oneshot::Sender<View>),
    /// The process of that pid says that it runs.
    Runs(u32),
    /// Make it undesired and end its process.
    Stop { timeout: Duration, reply: oneshot::Sender<Stopped> },
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
    pub(crate) async fn restore(layout: Layout, name: &str) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (view, seen) = watch::channel(View::default());
        let mut node = Node {
            layout,
            name: name.to_owned(),
            view,
            inbox,
            child: None,
            retry_at: None,
            backoff: Backoff::default(),
        };
        node.restore().await;
        tokio::spawn(node.run());
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
        if view.pid == pid && view.record.ran_ns != view.started_ns {
            drop(self.commands.try_send(Command::Runs(pid)));
        }
    }

    /// Makes the node undesired and ends its process.
    ///
    /// # Errors
    /// When the supervisor is ending.
    pub(crate) async fn stop(&self, timeout: Duration) -> Result<Stopped, Ending> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Stop { timeout, reply }).await.map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }
}

/// The task's state.
#[derive(Debug)]
struct Node {
    layout: Layout,
    name: String,
    view: watch::Sender<View>,
    inbox: mpsc::Receiver<Command>,
    child: Option<Child>,
    retry_at: Option<Instant>,
    backoff: Backoff,
}

/// What a node's task waits for.
#[derive(Debug)]
enum Event {
    Died(Exit),
    RetryDue,
    Command(Option<Command>),
}

impl Node {
    async fn restore(&mut self) {
        match NodeRecord::load(&self.layout.node_record(&self.name)) {
            Ok(record) => self.view.send_modify(|view| view.record = record),
            Err(error) => error!(
                node = %self.name,
                %error,
                "the record of what the operator wants is lost; the node is wanted if it runs"
            ),
        }
        if self.adopt().await {
            if !self.view.borrow().record.desired {
                self.remember(|record| record.desired = true);
            }
        } else if self.view.borrow().record.desired {
            self.remember(|record| {
                record.last_exit = "unknown: it ended while no supervisor ran".to_owned();
                record.restarts = record.restarts.saturating_add(1);
            });
            warn!(node = %self.name, "node ended while no supervisor ran");
            self.spawn();
        }
    }

    async fn run(mut self) {
        loop {
            let event = tokio::select! {
                exit = exited(self.child.as_ref()) => Event::Died(exit),
                () = until(self.retry_at) => Event::RetryDue,
                command = self.inbox.recv() => Event::Command(command),
            };
            match event {
                Event::Died(exit) => self.died(exit).await,
                Event::RetryDue => {
                    self.remember(|record| record.restarts = record.restarts.saturating_add(1));
                    self.spawn();
                }
                Event::Command(Some(Command::Start(reply))) => {
                    let before = self.view.borrow().clone();
                    self.start();
                    // The caller may have gone meanwhile; the node is wanted all the same.
                    drop(reply.send(before));
                }
                Event::Command(Some(Command::Runs(pid))) => {
                    let (now, started_ns) = {
                        let view = self.view.borrow();
                        (view.pid, view.started_ns)
                    };
                    if now == pid {
                        self.remember(|record| record.ran_ns = started_ns);
                    }
                }
                Event::Command(Some(Command::Stop { timeout, reply })) => {
                    drop(reply.send(self.stop(timeout).await));
                }
                Event::Command(None) => return,
            }
        }
    }

    fn start(&mut self) {
        self.remember(|record| {
            record.desired = true;
            record.restarts = 0;
        });
        if self.child.is_none() {
            self.view.send_modify(|view| {
                view.failure.clear();
                view.last_stderr.clear();
            });
            self.backoff = Backoff::default();
            self.spawn();
        }
    }

    fn spawn(&mut self) {
        self.retry_at = None;
        match child::spawn(&self.layout, &self.name) {
            Ok(child) => {
                info!(
                    node = %self.name,
                    pid = child.note.pid,
                    release = child.note.release,
                    "node started"
                );
                self.hold(child);
            }
            Err(error) => {
                let gone = matches!(error, SpawnError::Host(HostError::NoSuchNode { .. }));
                let reason = chain(&error);
                error!(node = %self.name, error = reason, "node cannot be started");
                self.view.send_modify(|view| {
                    view.deaths += 1;
                    view.failure = format!("not started: {reason}");
                });
                self.wait_or_give_up(Duration::ZERO, gone);
            }
        }
    }

    /// Whether a process of this node lives, which is ours from now on.
    async fn adopt(&mut self) -> bool {
        match child::adopt(&self.layout, &self.name).await {
            Ok(Some(child)) => {
                info!(node = %self.name, pid = child.note.pid, "running node taken over");
                self.hold(child);
                true
            }
            Ok(None) => false,
            Err(error) => {
                error!(node = %self.name, %error, "cannot find out whether the node runs");
                false
            }
        }
    }

    fn hold(&mut self, child: Child) {
        self.view.send_modify(|view| {
            view.life = Life::Up;
            view.pid = child.note.pid;
            view.started_ns = child.note.started_ns;
            view.release.clone_from(&child.note.release);
            view.role.clone_from(&child.note.role);
        });
        self.retry_at = None;
        self.child = Some(child);
    }

    async fn died(&mut self, exit: Exit) {
        let Some(child) = self.child.take() else { return };
        // Its place was taken: by a process that an earlier supervisor started and we missed.
        if exit == Exit::Code(EXIT_HELD.into()) && self.adopt().await {
            return;
        }
        self.keep_crash(&child, exit);
        if !self.view.borrow().record.desired {
            self.no_process(Life::Stopped); // a stop had not been able to end it
            return;
        }
        let gone = crate::host::release(&self.layout)
            .and_then(|release| crate::host::node(&release, &self.name))
            .is_err_and(|error| matches!(error, HostError::NoSuchNode { .. }));
        self.wait_or_give_up(child.began.elapsed(), gone);
    }

    /// Plans the restart after a death; `gone`: the release in use has no such node.
    fn wait_or_give_up(&mut self, lived: Duration, gone: bool) {
        let now = Instant::now();
        let delay = self.backoff.after_death(now, lived, chance());
        let life = match (gone, self.backoff.failed()) {
            (true, _) => Life::Crashed,
            (false, true) => Life::Failed,
            (false, false) => Life::Backoff,
        };
        self.retry_at = (!gone).then(|| now + delay);
        self.no_process(life);
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        match life {
            Life::Crashed => {
                error!(node = %self.name, "node stays down: the release in use has no such node")
            }
            Life::Failed => error!(node = %self.name, delay_ms, "node fails again and again"),
            _ => warn!(node = %self.name, delay_ms, "node will be restarted"),
        }
    }

    async fn stop(&mut self, timeout: Duration) -> Stopped {
        self.remember(|record| record.desired = false);
        self.retry_at = None;
        let Some(child) = self.child.take() else {
            self.no_process(Life::Stopped);
            return Stopped { ok: true, message: "not running".to_owned() };
        };
        self.view.send_modify(|view| view.life = Life::Terminating);
        info!(node = %self.name, pid = child.note.pid, "stopping node");
        let asked = child.process.signal(Signal::TERM);
        if let Err(error) = &asked {
            warn!(node = %self.name, %error, "cannot signal node");
        }
        if let Ok(exit) = tokio::time::timeout(timeout, child.process.exited_with_group()).await {
            return self.stopped(&child, exit);
        }
        warn!(node = %self.name, pid = child.note.pid, "node did not terminate; killing it");
        let killed = child.process.kill_group();
        match tokio::time::timeout(KILL_PATIENCE, child.process.exited_with_group()).await {
            Ok(exit) => {
                self.remember(|record| record.last_exit = exit.to_string());
                self.no_process(Life::Stopped);
                Stopped { ok: true, message: "did not terminate ... killing ...".to_owned() }
            }
            Err(_) => {
                let reason = killed.err().map_or_else(
                    || "SIGKILL does not end it".to_owned(),
                    |error| error.to_string(),
                );
                error!(
                    node = %self.name,
                    pid = child.note.pid,
                    error = reason,
                    "node cannot be stopped"
                );
                self.hold(child);
                Stopped { ok: false, message: format!("unable to stop: {reason}") }
            }
        }
    }

    /// It ended after SIGTERM and before SIGKILL.
    fn stopped(&mut self, child: &Child, exit: Exit) -> Stopped {
        const SIGTERM: i32 = Signal::TERM.as_raw();
        let message = match exit {
            Exit::Code(0) | Exit::Signal { number: SIGTERM, .. } | Exit::Unknown => {
                self.remember(|record| record.last_exit = exit.to_string());
                String::new()
            }
            Exit::Code(_) | Exit::Signal { .. } => {
                self.keep_crash(child, exit);
                format!("crashed during shutdown: {exit}")
            }
        };
        self.no_process(Life::Stopped);
        info!(node = %self.name, %exit, "node stopped");
        Stopped { ok: true, message }
    }

    fn keep_crash(&mut self, child: &Child, exit: Exit) {
        let last_stderr = output::last_stderr(&self.layout, &self.name, child.note.stderr_from);
        warn!(node = %self.name, pid = child.note.pid, %exit, "node died");
        self.remember(|record| record.last_exit = exit.to_string());
        self.view.send_modify(|view| {
            view.deaths += 1;
            view.failure = format!("terminated: {exit}");
            view.last_stderr.clone_from(&last_stderr);
        });
        let crash = Crash {
            node: self.name.clone(),
            note: child.note.clone(),
            died_ns: clock::now().0,
            exit: exit.to_string(),
            last_stderr,
        };
        let layout = self.layout.clone();
        // On a thread of its own: copying files must not hold up the restart.
        drop(tokio::task::spawn_blocking(move || crash::keep(&layout, &crash)));
    }

    fn no_process(&mut self, life: Life) {
        self.view.send_modify(|view| {
            view.life = life;
            view.pid = 0;
            view.started_ns = 0;
            view.release.clear();
            view.role.clear();
        });
    }

    fn remember(&mut self, change: impl FnOnce(&mut NodeRecord)) {
        self.view.send_modify(|view| change(&mut view.record));
        let record = self.view.borrow().record.clone();
        if let Err(error) = record.store(&self.layout.node_record(&self.name)) {
            error!(node = %self.name, %error, "cannot write down what the operator wants");
        }
    }
}

async fn exited(child: Option<&Child>) -> Exit {
    match child {
        Some(child) => child.process.exited_with_group().await,
        None => pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => pending().await,
    }
}

/// From 0 to 1, different in each call and process: the keys of the standard library's
/// hasher are random.
pub(crate) fn chance() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}
