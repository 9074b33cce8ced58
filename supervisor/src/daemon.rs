//! `supervisor run` and `supervisor guard`: the two processes that make up a host's supervisor.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tracing::{info, warn};
use tyto_core::layout::Layout;
use tyto_daemon::shutdown::CancellationToken;
use tyto_daemon::{channel, shutdown};
use tyto_proto::v1::supervisor_server::SupervisorServer;

use crate::alarms::Alarms;
use crate::capture_guard::{self, Captures};
use crate::capture_store::CaptureStore;
use crate::fleet::Fleet;
use crate::metrics::{Metrics, Place};
use crate::partner::Partner;
use crate::pid_lock::{PidLock, PidLockError};
use crate::rpc::{BootWords, Service, SupervisorRpc};

/// How long a predecessor that is ending may still hold the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// How long calls under way at the end may take.
const SERVER_PATIENCE: Duration = Duration::from_secs(2);

/// Threads of the runtime: nodes are few, and each event is short.
const THREADS: usize = 2;

/// The supervisor of this host, until it is told to end. Ends at once, without a fault, when
/// there is one already.
///
/// # Errors
/// When it cannot be the supervisor: folders, lock, socket.
pub(crate) fn run(layout: &Layout) -> anyhow::Result<()> {
    own_session();
    prepare(layout)?;
    let Some(_lock) = be_the_only(Partner::Supervisor, layout)? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(layout))
}

/// The guard of this host's supervisor, until it is told to end. Ends at once, without a
/// fault, when there is one already.
///
/// # Errors
/// When it cannot be the guard: folders, lock.
pub(crate) fn guard(layout: &Layout) -> anyhow::Result<()> {
    own_session();
    prepare(layout)?;
    let Some(_lock) = be_the_only(Partner::Guard, layout)? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let socket = layout.guard_sock();
    capture_guard::serve(&socket, Captures::new())
        .with_context(|| format!("cannot listen on `{}`", socket.display()))?;
    runtime.block_on(async {
        let end = shutdown::on_signal().context("cannot take signals")?;
        Partner::Supervisor.keep(layout.clone(), watch::Sender::new(0), end).await;
        Ok(())
    })
}

/// Makes the folders of the supervisor, open to its user alone.
///
/// # Errors
/// When that is not possible.
pub(crate) fn prepare(layout: &Layout) -> anyhow::Result<()> {
    let made = || -> io::Result<()> {
        fs::create_dir_all(layout.run_nodes())?;
        fs::set_permissions(layout.run(), Permissions::from_mode(0o700))
    };
    made().with_context(|| format!("cannot make `{}`", layout.run_nodes().display()))
}

async fn serve(layout: &Layout) -> anyhow::Result<()> {
    let ending = shutdown::on_signal().context("cannot take signals")?;
    info!(prefix = %layout.prefix().display(), version = env!("CARGO_PKG_VERSION"), "supervisor starting");
    let socket = layout.supervisor_sock();
    let listener = channel::listen_socket(&socket)
        .with_context(|| format!("cannot listen on `{}`", socket.display()))?;

    // Before the guard may be replaced: it has what an earlier supervisor held.
    let captures = Arc::new(CaptureStore::restore(layout.clone()));
    let (guard_pid, guard_seen) = watch::channel(0);
    let guard = tokio::spawn(Partner::Guard.keep(layout.clone(), guard_pid, ending.clone()));

    // Calls wait in the socket's queue until then: a report must find its node taken over.
    let fleet = Arc::new(Fleet::restore(layout.clone(), Arc::clone(&captures)).await);
    let guard_tells = guard_seen.clone();
    tokio::spawn(async move { captures.tell_guard(guard_tells).await });
    let tended = Arc::clone(&fleet);
    let kept = Arc::clone(&fleet);
    tokio::spawn(async move { tokio::join!(tended.tidy(), tended.watch(), kept.keep_reports()) });
    let boot = BootWords::default();
    let (alarms, metrics, ending_too) = (Alarms::default(), Place::default(), ending.clone());
    tokio::spawn(alarms.clone().watch(Arc::clone(&fleet)));
    let rpc =
        SupervisorRpc { fleet, boot, alarms, metrics, guard_pid: guard_seen, ending: ending_too };
    let rpc = Arc::new(rpc);
    tokio::spawn(Metrics::new(Arc::clone(&rpc)).serve());
    // After a fault the guard stays, and starts us again.
    answer(listener, rpc, &ending).await?;

    // After an order the guard goes first: it would take our end for a fault.
    guard.await.context("the watch over the guard failed")?;
    if let Err(error) = Partner::Guard.dismiss(layout).await {
        warn!(%error, "cannot end the guard");
    }
    fs::remove_file(&socket).with_context(|| format!("cannot remove `{}`", socket.display()))?;
    info!("supervisor ended");
    Ok(())
}

async fn answer(
    listener: UnixListener,
    rpc: Arc<SupervisorRpc>,
    ending: &CancellationToken,
) -> anyhow::Result<()> {
    let server = channel::server()
        .add_service(SupervisorServer::new(Service(rpc)))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), ending.cancelled());
    let too_late = async {
        ending.cancelled().await;
        tokio::time::sleep(SERVER_PATIENCE).await;
    };
    tokio::select! {
        served = server => served.context("the server failed"),
        () = too_late => Ok(()),
    }
}

/// Takes the partner's lock; `None` when another process is that partner already.
fn be_the_only(partner: Partner, layout: &Layout) -> anyhow::Result<Option<PidLock>> {
    match PidLock::acquire(&partner.lock(layout), LOCK_PATIENCE) {
        Ok(lock) => Ok(Some(lock)),
        Err(PidLockError::Held { pid, .. }) => {
            info!(?partner, pid, "runs already");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Leaves the session of whoever started us, so that its end is not ours.
fn own_session() {
    // Fails only for the leader of a process group, as when run by hand in a shell.
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "no new session");
    }
}
