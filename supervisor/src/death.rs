//! What is known at the moment of a node's death, put together before its next life begins.

use tracing::warn;
use tyto_core::config::runtime::{HostNode, WatchConfig};
use tyto_core::layout::Layout;
use tyto_daemon::clock;
use tyto_proto::v1::NodeHealth;

use crate::crash::{self, Crash};
use crate::exec_node::NodeNote;
use crate::host;
use crate::limits::{self, MemoryGroup};
use crate::output;
use crate::pid_lock;
use crate::process::Exit;

/// A death, with what the node's task knows of it.
#[derive(Debug)]
pub(crate) struct Death {
    /// What the supervisor noted at the start.
    pub(crate) note: NodeNote,
    /// How it ended.
    pub(crate) exit: Exit,
    /// Why it was killed, if it hung.
    pub(crate) hung: Option<String>,
    /// Its restarts before.
    pub(crate) restarts: u32,
    /// The node's last report, of this process or an earlier one.
    pub(crate) health: Option<NodeHealth>,
}

/// What the release in use says of a node.
pub(crate) fn configured(layout: &Layout, node: &str) -> Option<HostNode> {
    host::node(&host::release(layout).ok()?, node).ok()
}

/// Looks at what the dead process left.
pub(crate) fn examine(layout: &Layout, node: &str, death: Death) -> Crash {
    let Death { note, exit, hung, restarts, health } = death;
    // What the process itself wrote down says how its memory was bounded.
    let note = own_note(layout, node).filter(|own| own.pid == note.pid).unwrap_or(note);
    let last_stderr = output::last_stderr(layout, node, note.stderr_from);
    let stderr = layout.node_spool(node).join("stderr.log");
    let watch = host::release(layout).and_then(|release| host::config(&release));
    Crash {
        node: node.to_owned(),
        died_ns: clock::now().0,
        exit: exit.to_string(),
        cause: hung.or_else(|| limits::out_of_memory(&note, &last_stderr)),
        last_stderr,
        stderr_to: std::fs::metadata(stderr).map_or(0, |file| file.len()),
        health: health.filter(|health| health.pid == note.pid),
        config: configured(layout, node),
        restarts,
        watch: watch.map_or_else(|_| WatchConfig::default(), |config| config.watch),
        note,
    }
}

/// Keeps the crash for `ctl diag`: what the next life could write over at once, all else on a
/// thread of its own, because copying files must not hold up the restart.
pub(crate) fn keep(layout: &Layout, crash: Crash) {
    match crash::secure(layout, &crash) {
        Ok((dir, core)) => {
            let layout = layout.clone();
            drop(tokio::task::spawn_blocking(move || {
                crash::keep(&layout, &crash, &dir, core.as_deref());
            }));
        }
        Err(error) => warn!(node = %crash.node, %error, "cannot keep what is left of a crash"),
    }
}

/// Removes the memory group of a node that is not wanted any more.
pub(crate) fn remove_group(layout: &Layout, node: &str) {
    if let Some(group) = own_note(layout, node).and_then(|note| note.memory_group) {
        MemoryGroup::at(group).remove();
    }
}

/// What the node's last process wrote about itself.
fn own_note(layout: &Layout, node: &str) -> Option<NodeNote> {
    pid_lock::note(&layout.node_lock(node))
}
