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

    /// Ends nodes, those by force that still run after `patience`. `keep_capture`: they are started
    /// again at once, and their capture goes on meanwhile.
    ///
    /// # Errors
    /// When it does not answer; what became of each node is in the reply.
    pub async fn stop(
        &mut self,
        nodes: Vec<String>,
        patience: Duration,
        keep_capture: bool,
    ) -> Result<v1::NodesResult, RemoteError> {
        let request = v1::StopRequest { nodes, timeout_ms: millis(patience), keep_capture };
        let call = self.client.stop(request);
        within(&mut self.link, "stop", patience + WAIT_SLACK, call).await
    }

    /// Ends nodes as [`Supervisor::stop`] does and starts each again at once, waiting up to
    /// `wait` for it to run. Carried out whole even when this end goes away.
    ///
    /// # Errors
    /// When it does not answer; what became of each node is in the reply.
    pub async fn restart(
        &mut self,
        nodes: Vec<String>,
        patience: Duration,
        wait: Duration,
    ) -> Result<v1::NodesResult, RemoteError> {
        let request =
            v1::RestartRequest { nodes, timeout_ms: millis(patience), wait_ms: millis(wait) };
        let call = self.client.restart(request);
        within(&mut self.link, "restart", patience + wait + WAIT_SLACK, call).await
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::DuplexStream;
    use tonic::{Request, Response};
    use tyto_proto::v1::supervisor_server::{Supervisor as Service, SupervisorServer};

    use super::*;
    use crate::remote::{ByteStream, Call, Input, Output};

    /// A host behind SSH whose relay is `relay`, with nothing or a complaint on standard error.
    #[derive(Debug)]
    struct Far {
        relay: Mutex<Option<DuplexStream>>,
        complaint: &'static str,
        probe_code: i32,
    }

    impl Remote for Far {
        fn host(&self) -> &str {
            "far"
        }

        fn is_local(&self) -> bool {
            false
        }

        fn run<'a>(&'a self, _: &'a str, _: Input<'a>, _: Duration) -> Call<'a, Output> {
            let code = self.probe_code;
            Box::pin(async move { Ok(Output { code, stdout: Vec::new(), stderr: Vec::new() }) })
        }

        fn open<'a>(&'a self, _: &'a str, _: Duration) -> Call<'a, ByteStream> {
            Box::pin(async move {
                let relay = self.relay.lock().unwrap().take().unwrap();
                let (reader, writer) = tokio::io::split(relay);
                Ok(ByteStream {
                    reader: Box::new(reader),
                    writer: Box::new(writer),
                    errors: Some(Box::new(self.complaint.as_bytes())),
                    keep: Box::new(()),
                })
            })
        }
    }

    /// Knows its pid and nothing else.
    struct OfPid(u32);

    #[tonic::async_trait]
    impl Service for OfPid {
        async fn status(
            &self,
            _: Request<v1::StatusRequest>,
        ) -> Result<Response<v1::StatusReply>, Status> {
            let supervisor_pid = self.0;
            Ok(Response::new(v1::StatusReply { supervisor_pid, ..Default::default() }))
        }

        async fn start(
            &self,
            _: Request<v1::StartRequest>,
        ) -> Result<Response<v1::NodesResult>, Status> {
            Err(Status::failed_precondition("no release in use"))
        }

        async fn stop(
            &self,
            _: Request<v1::StopRequest>,
        ) -> Result<Response<v1::NodesResult>, Status> {
            std::future::pending().await
        }

        async fn restart(
            &self,
            _: Request<v1::RestartRequest>,
        ) -> Result<Response<v1::NodesResult>, Status> {
            Err(Status::unimplemented("restart"))
        }

        async fn report(
            &self,
            _: Request<v1::NodeHealth>,
        ) -> Result<Response<v1::ReportReply>, Status> {
            Err(Status::unimplemented("report"))
        }

        async fn shutdown(
            &self,
            _: Request<v1::ShutdownRequest>,
        ) -> Result<Response<v1::ShutdownReply>, Status> {
            Err(Status::unimplemented("shutdown"))
        }
    }

    async fn supervisor_behind(far: Far) -> Result<Supervisor, RemoteError> {
        Supervisor::open(Arc::new(far), &Layout::new("/opt/tyto")).await
    }

    /// Whether the end of the relay is seen when it is opened or at the first call is a race.
    async fn error_of(far: Far) -> RemoteError {
        match supervisor_behind(far).await {
            Ok(mut supervisor) => supervisor.status().await.unwrap_err(),
            Err(error) => error,
        }
    }

    fn serving() -> Far {
        let (near, far) = tokio::io::duplex(64 << 10);
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(far));
        let server = tonic::transport::Server::builder()
            .add_service(SupervisorServer::new(OfPid(42)))
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        Far { relay: Mutex::new(Some(near)), complaint: "", probe_code: 0 }
    }

    fn broken(complaint: &'static str, probe_code: i32) -> Far {
        let (near, _) = tokio::io::duplex(1024);
        Far { relay: Mutex::new(Some(near)), complaint, probe_code }
    }

    #[tokio::test]
    async fn calls_go_through_the_relay_and_a_refusal_comes_back_in_its_own_words() {
        let mut supervisor = supervisor_behind(serving()).await.unwrap();
        assert_eq!(supervisor.status().await.unwrap().supervisor_pid, 42);
        let refused = supervisor.start(vec!["w".into()], Duration::ZERO).await.unwrap_err();
        assert_eq!(refused.to_string(), "host `far`: the supervisor said: no release in use");
        // As one of an earlier release answers.
        let unknown = supervisor.shutdown(false).await.unwrap_err().to_string();
        assert!(unknown.contains("it is of an earlier release than ctl"), "{unknown}");
    }

    #[tokio::test]
    async fn a_relay_that_ends_at_once_is_told_by_what_the_host_lacks() {
        let error = error_of(broken("", 3)).await;
        assert!(matches!(error, RemoteError::NotInstalled { .. }), "{error}");
        for far in [broken("", 4), broken("cannot relay: Connection refused", 0)] {
            let error = error_of(far).await;
            assert!(matches!(error, RemoteError::NoSupervisor { .. }), "{error}");
        }
        let error = error_of(broken("sh: out of memory", 0)).await;
        assert!(error.to_string().contains("out of memory"), "{error}");
    }
}
