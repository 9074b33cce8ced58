//! The calls that ctl makes to supervisors and to the manager, each with its deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tonic::{Response, Status};
use tyto_core::layout::Layout;
use tyto_proto::v1;
use tyto_proto::v1::manager_client::ManagerClient;
use tyto_proto::v1::supervisor_client::SupervisorClient;

use super::Remote;
use super::channel::{Link, Peer};
use super::error::RemoteError;

/// How long a question may take that needs no waiting on the host.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// Added to the time that a host was told to wait for its nodes.
const WAIT_SLACK: Duration = Duration::from_secs(15);
/// Most that an answer may hold, bytes: a host of thousands of nodes stays below it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The supervisor of one host.
#[derive(Debug)]
pub struct Supervisor {
    link: Link,
    client: SupervisorClient<tonic::transport::Channel>,
}

impl Supervisor {
    /// Opens a channel to it.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub async fn open(remote: Arc<dyn Remote>, layout: &Layout) -> Result<Self, RemoteError> {
        let link = Link::open(remote, layout, Peer::Supervisor).await?;
        let client =
            SupervisorClient::new(link.channel()).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { link, client })
    }

    /// How its nodes are.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&mut self) -> Result<v1::StatusReply, RemoteError> {
        let call = self.client.status(v1::StatusRequest {});
        within(&mut self.link, "status", ASK_DEADLINE, call).await
    }

    /// Starts nodes and waits up to `wait` for them to run.
    ///
    /// # Errors
    /// When it does not answer; what became of each node is in the reply.
    pub async fn start(
        &mut self,
        nodes: Vec<String>,
        wait: Duration,
    ) -> Result<v1::NodesResult, RemoteError> {
        let call = self.client.start(v1::StartRequest { nodes, wait_ms: millis(wait) });
        within(&mut self.link, "start", wait + WAIT_SLACK, call).await
    }

    /// Ends nodes, those by force that still run after `patience`.
    ///
    /// # Errors
    /// When it does not answer; what became of each node is in the reply.
    pub async fn stop(
        &mut self,
        nodes: Vec<String>,
        patience: Duration,
    ) -> Result<v1::NodesResult, RemoteError> {
        let call = self.client.stop(v1::StopRequest { nodes, timeout_ms: millis(patience) });
        within(&mut self.link, "stop", patience + WAIT_SLACK, call).await
    }

    /// Ends the supervisor itself.
    ///
    /// # Errors
    /// When it does not answer, or refuses because a node still runs.
    pub async fn shutdown(&mut self, leave_nodes: bool) -> Result<v1::ShutdownReply, RemoteError> {
        let call = self.client.shutdown(v1::ShutdownRequest { leave_nodes });
        within(&mut self.link, "end the supervisor", ASK_DEADLINE, call).await
    }
}

/// The manager of the cluster.
#[derive(Debug)]
pub struct Manager {
    link: Link,
    client: ManagerClient<tonic::transport::Channel>,
}

impl Manager {
    /// Opens a channel to it.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub async fn open(remote: Arc<dyn Remote>, layout: &Layout) -> Result<Self, RemoteError> {
        let link = Link::open(remote, layout, Peer::Manager).await?;
        let client = ManagerClient::new(link.channel()).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { link, client })
    }

    /// What it knows of all nodes.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn nodes(&mut self) -> Result<v1::NodesReply, RemoteError> {
        let call = self.client.nodes(v1::NodesRequest {});
        within(&mut self.link, "ask the manager", ASK_DEADLINE, call).await
    }
}

async fn within<T>(
    link: &mut Link,
    what: &'static str,
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, RemoteError> {
    match timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(link.explain(&status).await),
        Err(_) => Err(link.timed_out(what, deadline)),
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
