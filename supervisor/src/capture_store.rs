//! The capture sockets of this host's nodes. The supervisor opens them and keeps them for as long
//! as a node is wanted, so that a worker that dies leaves no gap: packets wait in the ring, its
//! place in the fanout group stays taken, and the next process of the node reads on.
//!
//! What the store holds the guard has too. A supervisor that starts gets it back from there; what
//! the guard does not have, it takes from the living workers.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};
use tyto_capture::live::LiveError;
use tyto_capture::passing;
use tyto_capture::socket::{CaptureSocket, Fit};
use tyto_core::config::runtime::CaptureConfig;
use tyto_core::layout::Layout;
use tyto_daemon::telemetry::chain;

use crate::capture_guard::{self, Captures};

/// Time between two tries to reach the guard, which may just be starting.
const GUARD_RETRY: Duration = Duration::from_millis(20);

/// How long a stop waits for the guard.
const GUARD_PATIENCE: Duration = Duration::from_millis(500);

/// Tries after which it is told that the guard cannot be reached; they go on.
const GUARD_TRIES_QUIET: u32 = 100;

/// The store.
#[derive(Debug)]
pub(crate) struct CaptureStore {
    layout: Layout,
    /// Held for single look-ups: by the tasks of the nodes, and by the one that tells the guard.
    held: Mutex<Captures>,
    changed: Notify,
    /// Grows with each change; see [`CaptureStore::settled`].
    changes: AtomicU64,
    /// Of these, how many the guard knows.
    told: watch::Sender<u64>,
}

impl CaptureStore {
    /// What the guard kept of an earlier supervisor. Blocks.
    pub(crate) fn restore(layout: Layout) -> Self {
        let held = match capture_guard::give(&layout.guard_sock()) {
            Ok(captures) => {
                if !captures.is_empty() {
                    info!(nodes = captures.len(), "capture sockets back from the guard");
                }
                captures
            }
            // The first supervisor of this host has no guard yet.
            Err(error) => {
                info!(%error, "no capture sockets from a guard");
                Captures::new()
            }
        };
        let (changes, told) = (AtomicU64::new(0), watch::Sender::new(0));
        Self { layout, held: Mutex::new(held), changed: Notify::new(), changes, told }
    }

    /// The socket of a node that is about to start: the one that is open if it does, else a new
    /// one. Blocks.
    ///
    /// # Errors
    /// When it cannot be opened, or be made what `config` says.
    pub(crate) fn for_node(
        &self,
        node: &str,
        config: &CaptureConfig,
    ) -> Result<CaptureSocket, LiveError> {
        let open = self.held().get(node).and_then(|socket| socket.try_clone().ok());
        if let Some(open) = open {
            match open.fit(config).unwrap_or(Fit::No("it is broken")) {
                Fit::Good => {
                    open.apply(config)?;
                    return Ok(open);
                }
                Fit::Renamed(name) => {
                    warn!(
                        node,
                        iface = config.interface,
                        now = name,
                        "the interface was renamed; capturing it all the same"
                    );
                    open.apply(config)?;
                    return Ok(open);
                }
                Fit::No(reason) => info!(node, reason, "capture socket is not used again"),
            }
            // It goes first: two sockets of one node would share its packets.
            drop(open);
            self.forget(node);
        }
        let socket = CaptureSocket::open(config)?;
        let copy = socket.try_clone().map_err(|source| LiveError::Open {
            interface: config.interface.clone(),
            step: "keep its socket",
            source,
        })?;
        info!(node, iface = config.interface, "capture socket opened");
        self.hold(node, copy);
        Ok(socket)
    }

    /// Takes the socket of a node from its living process, unless it is here. Blocks.
    pub(crate) fn adopt(&self, node: &str, pid: Pid) {
        if self.holds(node) {
            return;
        }
        match passing::of_process(pid) {
            Ok(Some(socket)) => {
                info!(node, pid = pid.as_raw_pid(), "capture socket back from its process");
                self.hold(node, socket);
            }
            Ok(None) => {}
            Err(error) => warn!(
                node,
                %error,
                "cannot get the capture socket from its process; its next restart leaves a gap"
            ),
        }
    }

    /// Closes the socket of a node, as soon as its process has ended.
    pub(crate) fn forget(&self, node: &str) {
        if self.held().remove(node).is_some() {
            self.note_change();
        }
    }

    /// Waits until the guard knows of all changes up to now: a socket that was closed here is
    /// open, and takes packets, until the guard has closed its copy too. Not for long.
    pub(crate) async fn settled(&self) {
        let changes = self.changes.load(Ordering::Relaxed);
        let mut told = self.told.subscribe();
        let settled = told.wait_for(|told| *told >= changes);
        if tokio::time::timeout(GUARD_PATIENCE, settled).await.is_err() {
            warn!("the guard did not close its copy of a capture socket in time");
        }
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Whether a socket of this node is open.
    pub(crate) fn holds(&self, node: &str) -> bool {
        self.held().contains_key(node)
    }

    /// Closes sockets of nodes of which `known` is false.
    pub(crate) fn forget_unknown(&self, known: impl Fn(&str) -> bool) {
        let names: Vec<String> = self.held().keys().cloned().collect();
        for name in names.iter().filter(|name| !known(name)) {
            warn!(node = name, "closing the capture socket of a node that is not of this host");
            self.forget(name);
        }
    }

    /// Has each guard keep what is here; never ends. `guard`: its process, 0 while there is none.
    pub(crate) async fn tell_guard(&self, mut guard: watch::Receiver<u32>) {
        loop {
            let pid = *guard.borrow_and_update();
            if pid != 0 {
                self.tell_until_kept(pid, &guard).await;
            }
            tokio::select! {
                changed = guard.changed() => {
                    if changed.is_err() {
                        // The supervisor is ending; nothing changes any more.
                        return std::future::pending().await;
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }

    async fn tell_until_kept(&self, pid: u32, guard: &watch::Receiver<u32>) {
        for attempt in 0_u32.. {
            match self.tell(pid).await {
                Ok(()) => return,
                Err(error) if attempt == GUARD_TRIES_QUIET => {
                    error!(%error, "the guard keeps no capture sockets");
                }
                Err(_) => {}
            }
            tokio::time::sleep(GUARD_RETRY).await;
            if *guard.borrow() != pid {
                return;
            }
        }
    }

    async fn tell(&self, pid: u32) -> io::Result<()> {
        let changes = self.changes.load(Ordering::Relaxed);
        let mut captures = Captures::new();
        for (node, socket) in self.held().iter() {
            captures.insert(node.clone(), socket.try_clone()?);
        }
        let socket = self.layout.guard_sock();
        let told =
            tokio::task::spawn_blocking(move || capture_guard::keep(&socket, pid, &captures));
        told.await.map_err(io::Error::other)??;
        self.told.send_replace(changes);
        Ok(())
    }

    fn hold(&self, node: &str, socket: CaptureSocket) {
        self.held().insert(node.to_owned(), socket);
        self.note_change();
    }

    fn held(&self) -> MutexGuard<'_, Captures> {
        // No panic leaves the map half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether opening a socket failed because we may not: the node may try by itself.
pub(crate) fn not_permitted(error: &LiveError) -> bool {
    matches!(error, LiveError::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

/// The reason why a node waits for its interface.
pub(crate) fn reason(error: &LiveError) -> String {
    format!("waiting: {}", chain(error))
}
