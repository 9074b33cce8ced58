//! The capture socket of one node, as its task sees it: kept over every death, closed when the
//! operator stops the node, unless the node is to be started again at once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tracing::warn;
use tyto_capture::live::LiveError;
use tyto_capture::socket::CaptureSocket;
use tyto_core::config::runtime::{HostNode, NodeConfig, Role};

use crate::capture_store::{self, CaptureStore};

/// How long the socket of a stopped node stays open for its next start.
const KEPT_MAX: Duration = Duration::from_secs(60);

/// Time between two looks whether a missing interface is there.
pub(crate) const INTERFACE_LOOK: Duration = Duration::from_secs(1);

/// The socket of one node.
#[derive(Debug)]
pub(crate) struct NodeCapture {
    store: Arc<CaptureStore>,
    node: String,
    /// When it is closed, because the node was stopped and nobody started it again.
    close_at: Option<Instant>,
}

impl NodeCapture {
    pub(crate) fn new(store: Arc<CaptureStore>, node: &str) -> Self {
        Self { store, node: node.to_owned(), close_at: None }
    }

    /// When [`NodeCapture::close_late`] is due.
    pub(crate) const fn close_at(&self) -> Option<Instant> {
        self.close_at
    }

    /// The socket for a process that is about to start from `config`; none when the node
    /// captures nothing, or has to open it itself.
    ///
    /// # Errors
    /// When the interface cannot be captured.
    pub(crate) fn hand_over(
        &mut self,
        entry: &HostNode,
        config: &Path,
    ) -> Result<Option<CaptureSocket>, LiveError> {
        self.close_at = None;
        let capture = match entry.role {
            Role::Worker | Role::Standalone => read(config).and_then(|config| config.capture),
            _ => None,
        };
        let Some(capture) = capture else {
            self.close();
            return Ok(None);
        };
        match self.store.for_node(&self.node, &capture) {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if capture_store::not_permitted(&error) => {
                warn!(
                    node = self.node,
                    "the supervisor may not open capture sockets (CAP_NET_RAW); the node tries \
                     itself, and each restart leaves a gap"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A process of the node lives that an earlier supervisor started.
    pub(crate) fn adopt(&mut self, pid: u32) {
        self.close_at = None;
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            self.store.adopt(&self.node, pid);
        }
    }

    /// The node was stopped.
    pub(crate) async fn stopped(&mut self, keep: bool) {
        if !self.store.holds(&self.node) {
            return;
        }
        if keep {
            self.close_at = Some(Instant::now() + KEPT_MAX);
        } else {
            self.close();
            self.store.settled().await;
        }
    }

    /// Nobody started the node again.
    pub(crate) fn close_late(&mut self) {
        warn!(
            node = self.node,
            after_s = KEPT_MAX.as_secs(),
            "node was not started again; its capture socket is closed"
        );
        self.close();
    }

    /// Closes the socket.
    pub(crate) fn close(&mut self) {
        self.close_at = None;
        self.store.forget(&self.node);
    }
}

/// A configuration that cannot be read is the node's to tell.
fn read(config: &Path) -> Option<NodeConfig> {
    serde_yaml::from_str(&std::fs::read_to_string(config).ok()?).ok()
}
