//! The gRPC service of this host, on its unix socket.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tyto_proto::v1;
use tyto_proto::v1::supervisor_server::Supervisor;

use crate::alarms::Alarms;
use crate::boot;
use crate::fleet::{Fleet, Member, Row};
use crate::handle::Ending;
use crate::metrics::Place;
use crate::usage;

/// How old the words on the boot may be.
const BOOT_WORDS_AGE_MAX: Duration = Duration::from_secs(10);

/// How long asking for them may take.
const BOOT_WORDS_PATIENCE: Duration = Duration::from_secs(2);

/// The service.
#[derive(Debug)]
pub(crate) struct SupervisorRpc {
    /// The nodes.
    pub(crate) fleet: Arc<Fleet>,
    /// What starts it at boot, as it was asked for last.
    pub(crate) boot: BootWords,
    /// Alarms of a standalone node.
    pub(crate) alarms: Alarms,
    /// Where metrics are told.
    pub(crate) metrics: Place,
    /// Pid of the guard; 0 while there is none.
    pub(crate) guard_pid: watch::Receiver<u32>,
    /// Cancelled to end the supervisor.
    pub(crate) ending: CancellationToken,
}

/// What starts the supervisor at boot, asked for by a program of the host and so not each time.
#[derive(Debug, Default)]
pub(crate) struct BootWords {
    /// Held while it is asked for, so that calls at once ask once.
    last: Mutex<Option<(Instant, String)>>,
}

impl BootWords {
    async fn shown(&self, fleet: &Fleet) -> String {
        let mut last = self.last.lock().await;
        if let Some((at, words)) = &*last
            && at.elapsed() < BOOT_WORDS_AGE_MAX
        {
            return words.clone();
        }
        let layout = fleet.layout().clone();
        let asked = tokio::task::spawn_blocking(move || boot::shown(&layout));
        // A host whose crontab hangs has an answer about its nodes all the same.
        let asked = tokio::time::timeout(BOOT_WORDS_PATIENCE, asked).await;
        let words = asked.ok().and_then(Result::ok).unwrap_or_default();
        *last = Some((Instant::now(), words.clone()));
        words
    }
}

impl SupervisorRpc {
    /// What is known of this host without asking anybody: all but `boot`.
    pub(crate) async fn snapshot(&self) -> v1::StatusReply {
        // Not within the reply, whose making waits: what borrows must not.
        let guard_pid = *self.guard_pid.borrow();
        v1::StatusReply {
            nodes: self.fleet.rows().await.into_iter().map(status).collect(),
            supervisor_pid: std::process::id(),
            guard_pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            release: self.fleet.release(),
            boot: String::new(),
            departed: self.fleet.departed().await,
            metrics: self.metrics.shown(),
            alarms: self.alarms.now(),
        }
    }

    /// Does the same with all named nodes at once; results in the order of the names.
    async fn with_each<F, Fut>(
        &self,
        names: Vec<String>,
        act: F,
    ) -> Result<Response<v1::NodesResult>, Status>
    where
        F: Fn(Arc<Member>) -> Fut,
        Fut: Future<Output = Result<(bool, String), Ending>> + Send + 'static,
    {
        let mut running = JoinSet::new();
        let mut results = vec![v1::NodeResult::default(); names.len()];
        let members = self.fleet.members().await;
        for (index, name) in names.into_iter().enumerate() {
            match members.iter().find(|member| member.name == name) {
                Some(member) => {
                    let outcome = act(Arc::clone(member));
                    let member = Arc::clone(member);
                    running.spawn(async move { (index, member, outcome.await) });
                }
                None => {
                    let message = "no such node on this host".to_owned();
                    results[index] = v1::NodeResult { node: name, message, ..Default::default() };
                }
            }
        }
        while let Some(done) = running.join_next().await {
            let (index, member, outcome) =
                done.map_err(|error| Status::internal(format!("node task: {error}")))?;
            let (ok, message) = outcome.map_err(|error| Status::unavailable(error.to_string()))?;
            results[index] = v1::NodeResult {
                node: member.name.clone(),
                ok,
                message,
                status: Some(status(member.row(None))),
            };
        }
        Ok(Response::new(v1::NodesResult { results }))
    }
}

/// The same, as tonic takes it: shared with who tells metrics.
#[derive(Debug)]
pub(crate) struct Service(pub(crate) Arc<SupervisorRpc>);

#[tonic::async_trait]
impl Supervisor for Service {
    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let boot = self.0.boot.shown(&self.0.fleet).await;
        Ok(Response::new(v1::StatusReply { boot, ..self.0.snapshot().await }))
    }

    async fn start(
        &self,
        request: Request<v1::StartRequest>,
    ) -> Result<Response<v1::NodesResult>, Status> {
        let v1::StartRequest { nodes, wait_ms } = request.into_inner();
        let wait = Duration::from_millis(wait_ms.into());
        self.0.with_each(nodes, |member| async move { member.start(wait).await }).await
    }

    async fn stop(
        &self,
        request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::NodesResult>, Status> {
        let v1::StopRequest { nodes, timeout_ms, keep_capture } = request.into_inner();
        let timeout = match timeout_ms {
            0 => self.0.fleet.stop_timeout(),
            ms => Duration::from_millis(ms.into()),
        };
        self.0
            .with_each(nodes, |member| async move {
                let stopped = member.stop(timeout, keep_capture).await?;
                Ok((stopped.ok, stopped.message))
            })
            .await
    }

    async fn restart(
        &self,
        request: Request<v1::RestartRequest>,
    ) -> Result<Response<v1::NodesResult>, Status> {
        let v1::RestartRequest { nodes, timeout_ms, wait_ms } = request.into_inner();
        let timeout = Duration::from_millis(timeout_ms.into());
        let wait = Duration::from_millis(wait_ms.into());
        self.0
            .with_each(nodes, |member| async move {
                // A task of its own: it goes on when the call is given up.
                let restarted = tokio::spawn(async move {
                    let stopped = member.stop(timeout, true).await?;
                    if !stopped.ok {
                        return Ok((false, stopped.message));
                    }
                    member.start(wait).await
                });
                restarted.await.unwrap_or(Err(Ending))
            })
            .await
    }

    async fn report(
        &self,
        request: Request<v1::NodeHealth>,
    ) -> Result<Response<v1::ReportReply>, Status> {
        match self.0.fleet.report(request.into_inner()).await {
            Ok(()) => Ok(Response::new(v1::ReportReply {})),
            Err(error) => Err(Status::failed_precondition(error.to_string())),
        }
    }

    async fn shutdown(
        &self,
        request: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownReply>, Status> {
        if !request.into_inner().leave_nodes {
            let rows = self.0.fleet.rows().await;
            let in_use = |row: &&Row| row.view.pid != 0 || row.view.record.desired;
            let names: Vec<&str> =
                rows.iter().filter(in_use).map(|row| row.name.as_str()).collect();
            if !names.is_empty() {
                let message = format!("not stopped: {}", names.join(", "));
                return Ok(Response::new(v1::ShutdownReply { accepted: false, message }));
            }
        }
        tracing::info!("asked to end");
        self.0.ending.cancel();
        Ok(Response::new(v1::ShutdownReply { accepted: true, message: String::new() }))
    }
}

fn status(row: Row) -> v1::NodeStatus {
    let until = |at: Instant| {
        let wait = at.saturating_duration_since(Instant::now());
        u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
    };
    let age = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
    let health_age_ms = row.heard.as_ref().map_or(0, |heard| age(heard.at));
    v1::NodeStatus {
        node: row.name,
        role: row.role,
        state: row.state.to_owned(),
        pid: row.view.pid,
        started_ns: row.view.started_ns,
        desired: row.view.record.desired,
        restarts: row.view.record.restarts,
        last_exit: row.view.record.last_exit,
        health: row.heard.map(|heard| heard.health),
        health_age_ms,
        last_report: row.last_report,
        release: row.view.release,
        last_stderr: row.view.last_stderr,
        failure: row.view.failure,
        watchdog_kills: row.view.record.watchdog_kills,
        retry_in_ms: row.view.retry_at.map_or(0, until),
        usage: usage::of(row.view.pid),
    }
}
