//! One node of this host, from the operator's first `start` to its last `stop`. A single task
//! owns the node; others send it commands and read its [`View`].
//!
//! ```text
//! Stopped ──start──▶ Up ──dies──▶ Backoff | Failed ──delay over──▶ Up
//!                    └──stop──▶ Terminating ──▶ Stopped
//! Up | start ──interface gone──▶ Waiting ──interface there──▶ Up
//! ```

use std::future::pending;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};
use tyto_capture::live::EXIT_INTERFACE_GONE;
use tyto_core::layout::Layout;
use tyto_daemon::telemetry::chain;

use crate::backoff::Backoff;
use crate::capture_store;
use crate::child::{self, Child, SpawnError};
use crate::death::{self, Death};
use crate::exec_node::EXIT_HELD;
use crate::handle::{Command, Life, Stopped, View};
use crate::host::{self, HostError};
use crate::node_capture::{INTERFACE_LOOK, NodeCapture};
use crate::process::Exit;
use crate::record::NodeRecord;
use crate::watchdog::Heard;

/// How long a process that hangs may write its core after SIGABRT, before SIGKILL.
const CORE_PATIENCE: Duration = Duration::from_secs(10);

/// How long the kernel may take to end a process after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

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
    heard: watch::Receiver<Option<Heard>>,
    /// The process was found to hang and was told to end.
    hung: Option<Hanging>,
    capture: NodeCapture,
}

/// A process that hangs, on its way out.
#[derive(Debug)]
struct Hanging {
    why: String,
    /// When it is killed for good.
    kill_at: Option<Instant>,
}

/// What a node's task waits for.
#[derive(Debug)]
enum Event {
    Died(Exit),
    RetryDue,
    KillDue,
    CloseDue,
    Command(Option<Command>),
}

/// Takes over what runs as this node and starts what should run; when this returns, that is
/// done, and a task of its own goes on with it.
pub(crate) async fn begin(
    layout: Layout,
    name: String,
    capture: NodeCapture,
    view: watch::Sender<View>,
    inbox: mpsc::Receiver<Command>,
    heard: watch::Receiver<Option<Heard>>,
) {
    let mut node = Node {
        layout,
        name,
        view,
        inbox,
        child: None,
        retry_at: None,
        backoff: Backoff::default(),
        heard,
        hung: None,
        capture,
    };
    node.restore().await;
    tokio::spawn(node.run());
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
        } else {
            self.capture.stopped(true).await;
        }
    }

    async fn run(mut self) {
        loop {
            let event = tokio::select! {
                exit = exited(self.child.as_ref()) => Event::Died(exit),
                () = until(self.retry_at) => Event::RetryDue,
                () = until(self.hung.as_ref().and_then(|hung| hung.kill_at)) => Event::KillDue,
                () = until(self.capture.close_at()) => Event::CloseDue,
                command = self.inbox.recv() => Event::Command(command),
            };
            match event {
                Event::Died(exit) => self.died(exit).await,
                Event::RetryDue => {
                    if self.view.borrow().life != Life::Waiting {
                        self.remember(|record| record.restarts = record.restarts.saturating_add(1));
                    }
                    self.spawn();
                }
                Event::KillDue => self.kill_hanging(),
                Event::CloseDue => self.capture.close_late(),
                Event::Command(Some(Command::Hung { pid, why })) => self.end_hanging(pid, why),
                Event::Command(Some(Command::Start(reply))) => {
                    let before = self.view.borrow().clone();
                    self.start();
                    // The caller may have gone meanwhile; the node is wanted all the same.
                    drop(reply.send(before));
                }
                Event::Command(Some(Command::Runs(pid))) => self.runs(pid),
                Event::Command(Some(Command::Stop { timeout, keep_capture, reply })) => {
                    let stopped = self.stop(timeout).await;
                    if stopped.ok {
                        self.capture.stopped(keep_capture).await;
                    }
                    drop(reply.send(stopped));
                }
                Event::Command(None) => return,
            }
        }
    }

    /// The process says that it runs. Then its note is there, also where it was taken over
    /// before it had written one.
    fn runs(&mut self, pid: u32) {
        let Some(mut child) = self.child.take_if(|child| child.note.pid == pid) else { return };
        if child.note.started_ns == 0
            && let Some(note) = child::note_of(&self.layout, &self.name, pid)
        {
            child.note = note;
            self.show(&child);
        }
        let started_ns = child.note.started_ns;
        self.child = Some(child);
        if started_ns != 0 {
            self.remember(|record| record.ran_ns = started_ns);
        }
    }

    fn start(&mut self) {
        self.remember(|record| {
            record.desired = true;
            record.restarts = 0;
            record.watchdog_kills = 0;
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
        match child::spawn(&self.layout, &self.name, &mut self.capture) {
            Ok(child) => {
                info!(
                    node = %self.name,
                    pid = child.note.pid,
                    release = child.note.release,
                    "node started"
                );
                self.hold(child);
            }
            Err(SpawnError::Capture(error)) if error.interface_gone() => {
                self.wait_for_interface(capture_store::reason(&error));
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
                self.capture.adopt(child.note.pid);
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
            view.retry_at = None;
        });
        self.show(&child);
        self.retry_at = None;
        self.hung = None;
        self.child = Some(child);
    }

    fn show(&self, child: &Child) {
        self.view.send_modify(|view| {
            view.pid = child.note.pid;
            view.started_ns = child.note.started_ns;
            view.release.clone_from(&child.note.release);
            view.role.clone_from(&child.note.role);
        });
    }

    async fn died(&mut self, exit: Exit) {
        let Some(child) = self.child.take() else { return };
        // Its place was taken: by a process that an earlier supervisor started and we missed.
        if exit == Exit::Code(EXIT_HELD.into()) && self.adopt().await {
            return;
        }
        let interface_gone = exit == Exit::Code(EXIT_INTERFACE_GONE.into());
        if interface_gone && self.view.borrow().record.desired {
            self.wait_for_interface("waiting: the interface is gone".to_owned());
            return;
        }
        self.keep_crash(&child, exit);
        if !self.view.borrow().record.desired {
            self.capture.close();
            self.no_process(Life::Stopped); // a stop had not been able to end it
            return;
        }
        let gone = host::release(&self.layout)
            .and_then(|release| host::node(&release, &self.name))
            .is_err_and(|error| matches!(error, HostError::NoSuchNode { .. }));
        self.wait_or_give_up(child.began.elapsed(), gone);
    }

    /// No fault of the node: it is started as soon as the interface is there and up.
    fn wait_for_interface(&mut self, reason: String) {
        self.capture.close();
        self.retry_at = Some(Instant::now() + INTERFACE_LOOK);
        let known = self.view.borrow().life == Life::Waiting
            && self.view.borrow().record.last_exit == reason;
        if !known {
            warn!(node = %self.name, reason, "node waits for its interface");
            self.remember(|record| record.last_exit.clone_from(&reason));
            self.view.send_modify(|view| view.failure = reason);
        }
        self.no_process(Life::Waiting);
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
        if gone {
            self.capture.close();
        }
        self.no_process(life);
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        match life {
            Life::Crashed => {
                error!(node = %self.name, "node stays down: the release in use has no such node")
            }
            Life::Failed => {
                let (why, said) = self.last_words();
                error!(
                    node = %self.name,
                    delay_ms,
                    why,
                    said,
                    "node fails again and again; it is tried at long intervals only"
                );
            }
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

    /// The watchdog found that the process of that pid hangs: ends it, with a core where cores
    /// are wanted.
    fn end_hanging(&mut self, pid: u32, why: String) {
        let Some(child) = self.child.as_ref().filter(|child| child.note.pid == pid) else { return };
        if self.hung.is_some() {
            return;
        }
        error!(node = %self.name, pid, why, "node hangs; killing it");
        let wants_core = death::configured(&self.layout, &self.name)
            .is_some_and(|config| config.limits.core_dumps);
        let aborted = wants_core
            && child.process.signal(Signal::ABORT).is_ok()
            // A stopped process takes no signal but SIGKILL.
            && child.process.signal(Signal::CONT).is_ok();
        let patience = if aborted { CORE_PATIENCE } else { Duration::ZERO };
        self.hung = Some(Hanging { why, kill_at: Some(Instant::now() + patience) });
    }

    fn kill_hanging(&mut self) {
        if let Some(hung) = &mut self.hung {
            hung.kill_at = None;
        }
        if let Some(child) = &self.child
            && let Err(error) = child.process.kill_group()
        {
            error!(node = %self.name, %error, "cannot kill a node that hangs");
        }
    }

    fn last_words(&self) -> (String, String) {
        let view = self.view.borrow();
        (view.failure.clone(), view.last_stderr.last().cloned().unwrap_or_default())
    }

    fn keep_crash(&mut self, child: &Child, exit: Exit) {
        let hung = self.hung.take().map(|hung| hung.why);
        let killed = u32::from(hung.is_some());
        let health = self.heard.borrow().as_ref().map(|heard| heard.health.clone());
        let restarts = self.view.borrow().record.restarts;
        let death = Death { note: child.note.clone(), exit, hung, restarts, health };
        let crash = death::examine(&self.layout, &self.name, death);
        let why = crash.cause.as_deref().unwrap_or("unknown");
        warn!(node = %self.name, pid = child.note.pid, %exit, why, "node died");
        self.remember(|record| {
            record.last_exit = exit.to_string();
            record.watchdog_kills = record.watchdog_kills.saturating_add(killed);
        });
        self.view.send_modify(|view| {
            view.deaths += 1;
            view.failure = match &crash.cause {
                Some(cause) => format!("{cause} ({exit})"),
                None => format!("terminated: {exit}"),
            };
            view.last_stderr.clone_from(&crash.last_stderr);
        });
        death::keep(&self.layout, crash);
    }

    fn no_process(&mut self, life: Life) {
        self.view.send_modify(|view| {
            view.life = life;
            view.pid = 0;
            view.started_ns = 0;
            view.release.clear();
            view.role.clear();
            view.retry_at = self.retry_at;
        });
        if life == Life::Stopped {
            death::remove_group(&self.layout, &self.name);
        }
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
