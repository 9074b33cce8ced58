//! The hosts of some nodes, and questions asked of all of them at once. A host that does not
//! answer costs its own result only.

use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_core::layout::Layout;
use tyto_proto::v1::{NodeStatus, StatusReply};

use crate::context::Context;
use crate::remote::error::RemoteError;
use crate::remote::fanout;
use crate::remote::peers::Supervisor;
use crate::remote::shell::quote_path;
use crate::remote::{Input, Remote};

/// State of a node that runs while no supervisor does.
pub const UNWATCHED: &str = "unwatched";

/// One host of the cluster.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name in node.cfg.
    pub name: HostName,
    /// The way to it.
    pub remote: Arc<dyn Remote>,
    /// Paths on it.
    pub layout: Layout,
    /// How long a command on it may take.
    pub deadline: Duration,
}

/// Hosts in node.cfg order. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Hosts {
    hosts: Vec<Host>,
    parallel_max: u32,
}

impl Hosts {
    /// The hosts of `nodes`, each once.
    ///
    /// # Errors
    /// When SSH cannot be prepared on this machine.
    pub fn of(ctx: &Context, nodes: &[&Node]) -> Result<Self, RemoteError> {
        let mut names = ctx.cluster.hosts();
        names.retain(|name| nodes.iter().any(|node| node.host == **name));
        Self::named(ctx, names.into_iter().cloned().collect())
    }

    /// The hosts of these names, in node.cfg or not.
    ///
    /// # Errors
    /// When SSH cannot be prepared on this machine.
    pub fn named(ctx: &Context, names: Vec<HostName>) -> Result<Self, RemoteError> {
        let settings = &ctx.cluster.settings;
        // A thread that panicked over it left it as good as it was.
        let mut pool = ctx.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hosts = Vec::new();
        for name in names {
            hosts.push(Host {
                remote: pool.host(&name)?,
                name,
                layout: ctx.layout.clone(),
                deadline: Duration::from_secs(settings.command_timeout_s),
            });
        }
        Ok(Self { hosts, parallel_max: settings.ssh.parallel_max })
    }

    /// The host of that name, when it is one of these.
    pub fn find(&self, name: &HostName) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter()
    }

    /// Keeps those for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&Host) -> bool) {
        self.hosts.retain(keep);
    }

    /// Calls `call` for every host, a bounded number at once; results in node.cfg order.
    pub async fn each<R, F, Fut>(&self, call: F) -> Vec<(HostName, Result<R, RemoteError>)>
    where
        F: Fn(Host) -> Fut,
        Fut: Future<Output = Result<R, RemoteError>> + Send + 'static,
        R: Send + 'static,
    {
        let results = fanout::each(self.parallel_max, self.hosts.clone(), call).await;
        let broken = |host: &Host| RemoteError::Failed {
            host: host.name.to_string(),
            what: "finish the call",
            said: "it broke off; please report this".to_owned(),
        };
        let pairs = self.hosts.iter().zip(results);
        pairs.map(|(h, r)| (h.name.clone(), r.unwrap_or_else(|| Err(broken(h))))).collect()
    }

    /// What every supervisor says of its nodes; nothing at all where none is installed or runs.
    pub async fn statuses(&self) -> Vec<(HostName, Result<StatusReply, RemoteError>)> {
        self.each(|host| async move { host.status().await }).await
    }
}

impl Host {
    /// What the supervisor says of its nodes. Where none runs, that is no node, or those that
    /// outlived it ([`UNWATCHED`]).
    ///
    /// # Errors
    /// When the host cannot be reached or its supervisor does not answer.
    pub async fn status(&self) -> Result<StatusReply, RemoteError> {
        let asked = match Supervisor::open(Arc::clone(&self.remote), &self.layout).await {
            Ok(mut supervisor) => supervisor.status().await,
            Err(error) => Err(error),
        };
        match asked {
            Err(RemoteError::NotInstalled { .. }) => Ok(StatusReply::default()),
            Err(RemoteError::NoSupervisor { .. }) => {
                Ok(StatusReply { nodes: self.unwatched().await?, ..StatusReply::default() })
            }
            other => other,
        }
    }

    /// Nodes that live on a host without a supervisor, as their lock files tell: both it and its
    /// guard were killed. The next one takes them over.
    ///
    /// # Errors
    /// When the host cannot be reached.
    pub async fn unwatched(&self) -> Result<Vec<NodeStatus>, RemoteError> {
        // A pid counts only when its process runs a program of ours: numbers are used again.
        let script = format!(
            "cd {prefix} 2>/dev/null || exit 0; p=$(pwd -P); for f in run/nodes/*.lock; do\n\
               [ -s \"$f\" ] || continue; i=$(sed -n 's/.*\"pid\":\\([0-9]*\\).*/\\1/p' \"$f\")\n\
               case $(readlink \"/proc/$i/exe\" 2>/dev/null) in \"$p\"/releases/*)\n\
                 n=${{f##*/}}; printf '%s %s\\n' \"${{n%.lock}}\" \"$(cat \"$f\")\" ;; esac\n\
             done; exit 0",
            prefix = quote_path(self.layout.prefix()),
        );
        let output = self.remote.run(&script, Input::None, self.deadline).await?;
        Ok(output.stdout_text().lines().filter_map(unwatched_node).collect())
    }
}

/// A line of the answer: the node and the note that its process left in its lock file.
fn unwatched_node(line: &str) -> Option<NodeStatus> {
    let (node, note) = line.split_once(' ')?;
    let note: serde_json::Value = serde_json::from_str(note).ok()?;
    let text = |key: &str| note.get(key)?.as_str().map(str::to_owned);
    Some(NodeStatus {
        node: node.to_owned(),
        role: text("role").unwrap_or_default(),
        state: UNWATCHED.to_owned(),
        pid: u32::try_from(note.get("pid")?.as_u64()?).ok()?,
        started_ns: note.get("started_ns")?.as_u64()?,
        desired: true,
        release: text("release").unwrap_or_default(),
        ..NodeStatus::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_in_a_lock_file_is_a_node() {
        let line = r#"worker-1 {"pid":7,"started_ns":9,"release":"aa","role":"worker"}"#;
        let node = unwatched_node(line).unwrap();
        assert_eq!((node.node.as_str(), node.pid, node.started_ns), ("worker-1", 7, 9));
        assert_eq!((node.state.as_str(), node.release.as_str()), (UNWATCHED, "aa"));
        assert!(unwatched_node("worker-1 half a no").is_none());
    }
}
