//! The hosts of some nodes, and questions asked of all of them at once. A host that does not
//! answer costs its own result only.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_core::layout::Layout;
use tyto_proto::v1::StatusReply;

use crate::context::Context;
use crate::remote::Remote;
use crate::remote::error::RemoteError;
use crate::remote::fanout;
use crate::remote::peers::Supervisor;
use crate::remote::pool::Pool;

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
        let settings = &ctx.cluster.settings;
        let mut pool = Pool::new(settings.ssh.clone());
        let mut hosts = Vec::new();
        for name in ctx.cluster.hosts() {
            if nodes.iter().any(|node| node.host == *name) {
                hosts.push(Host {
                    name: name.clone(),
                    remote: pool.host(name)?,
                    layout: ctx.layout.clone(),
                    deadline: Duration::from_secs(settings.command_timeout_s),
                });
            }
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
    /// What the supervisor says of its nodes; an empty answer where none is installed or runs.
    ///
    /// # Errors
    /// When the host cannot be reached or its supervisor does not answer.
    pub async fn status(&self) -> Result<StatusReply, RemoteError> {
        let asked = match Supervisor::open(Arc::clone(&self.remote), &self.layout).await {
            Ok(mut supervisor) => supervisor.status().await,
            Err(error) => Err(error),
        };
        match asked {
            Err(RemoteError::NoSupervisor { .. } | RemoteError::NotInstalled { .. }) => {
                Ok(StatusReply::default())
            }
            other => other,
        }
    }
}
