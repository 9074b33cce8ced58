//! The life of a live node, worker or standalone: capture, analyse, deliver, until SIGTERM.
//!
//! ```text
//! packet thread (capture ▶ pipeline) ── rows ──▶ Shipper ──▶ loggers, or the own log files
//!        └── Gauges ──▶ health reports, each second
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use tokio::sync::oneshot;
use tracing::{info, warn};
use tyto_core::config::runtime::{AnalysisConfig, CaptureConfig, ExtractTo, NodeConfig, Role};
use tyto_core::layout::Layout;
use tyto_daemon::health::{self, Phase};
use tyto_daemon::peers::Peers;
use tyto_daemon::shutdown::CancellationToken;
use tyto_daemon::tls::Identity;

use crate::neighbours::Neighbours;
use crate::nic::Nic;
use crate::output::Output;
use crate::packet_thread::{Gauges, InterfaceWatch, PacketThread};
use crate::pipeline::Pipeline;
use crate::relay;
use crate::ship::{Overflow, Shipper};
use crate::x509::TrustStore;
use tyto_capture::Offloads;
use tyto_capture::account::Account;
use tyto_capture::live::AfPacket;
use tyto_capture::socket::CaptureSocket;

/// Threads of the runtime, besides packet thread and shipping: mostly TLS.
pub const RUNTIME_THREADS: usize = 2;

/// Runs the node that `config` is for until `shutdown`. It captures from the socket `given`, or
/// opens one of its own.
///
/// # Errors
/// When the node cannot begin (identity, spool, interface), or capture ended by a fault. What
/// was captured before is logged all the same.
pub async fn run(
    config: NodeConfig,
    given: Option<CaptureSocket>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let identity = match config.role {
        Role::Standalone => None,
        Role::Worker => Some(Identity::load(&config).context("this node has no identity")?),
        other => bail!("a worker cannot run a {other}"),
    };
    let trust = trust(&config)?;
    // First, so that a wrong interface is told before anything else begins.
    let capture = config.capture.as_ref().map(|capture| open(capture, given)).transpose()?;
    let epoch = health::epoch_now();
    let of_ship = capture.as_ref().map(accounts).transpose()?;
    let [of_rows, account] =
        capture.as_ref().map(accounts).transpose()?.map_or([None, None], |a| a.map(Some));
    let shipper = Shipper::start(&config, identity.as_ref(), epoch, of_ship)
        .context("cannot deliver rows")?;
    let gauges = Arc::new(Gauges::default());
    let (neighbours, notes) = neighbours(&config, identity.as_ref()).unzip();
    let nic = config.capture.as_ref().and_then(open_nic);
    let merges = capture.as_ref().map(|capture| capture.offloads().merges_received());
    let fill = {
        let (gauges, ship) = (gauges.clone(), shipper.health());
        move |report: &mut tyto_proto::v1::NodeHealth| {
            report.counters = gauges.report();
            report.counters.extend(notes.iter().flat_map(|notes| notes.report()));
            report.counters.extend(nic.iter().flat_map(Nic::report));
            let merges = merges.map(|merges| health::counter("nic_merges", merges.into()));
            report.counters.extend(merges);
            ship(report);
        }
    };
    let reporter = health::spawn_reporter(&config, identity.as_ref(), epoch, fill)
        .context("cannot report health")?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut ended = match capture {
        Some(capture) => {
            let output = Output::new(Box::new(shipper.output(Overflow::Drop).counted(of_rows)));
            let analysis = analysis_of(&config);
            let mut pipeline = Pipeline::new(&analysis, uid_seed(&config.node, epoch), output);
            trust.into_iter().for_each(|store| pipeline.validate_against(store));
            pipeline.report_itself();
            neighbours.into_iter().for_each(|others| pipeline.has_neighbours(others));
            let (stop, interface) = (stop.clone(), InterfaceWatch::default());
            let thread = PacketThread { capture, pipeline, stop, gauges, interface, account };
            Some(spawn(&config.node, thread)?)
        }
        None => {
            info!("no interface to capture; idle");
            None
        }
    };
    reporter.set_phase(Phase::Running);
    let early = tokio::select! {
        result = wait_for(&mut ended) => Some(result),
        () = shutdown.cancelled() => None,
    };
    reporter.set_phase(Phase::Terminating);
    stop.store(true, Ordering::Relaxed);
    let result = match early {
        Some(result) => result,
        None if ended.is_some() => wait_for(&mut ended).await,
        None => Ok(()),
    };
    shipper.stop().await;
    reporter.stop().await;
    result
}

/// The other workers of the cluster, and what is counted of them; a node without an interface
/// has nothing to tell.
fn neighbours(
    config: &NodeConfig,
    identity: Option<&Identity>,
) -> Option<(Neighbours, Arc<relay::Counters>)> {
    config.capture.as_ref()?;
    Some(relay::connect(&config.node, Peers::follow(config), identity?))
}

/// The certificates that servers' are validated against, if they are to be.
fn trust(config: &NodeConfig) -> anyhow::Result<Option<TrustStore>> {
    let trust = TrustStore::of(&config.analysis)?;
    if let Some(skipped) = trust.as_ref().map(|store| store.skipped).filter(|skipped| *skipped > 0)
    {
        warn!(skipped, "some of the trusted certificates cannot be read; the others count");
    }
    Ok(trust)
}

/// What counts rows, claims and open connections where the next life finds it, for two threads.
fn accounts(capture: &AfPacket) -> anyhow::Result<[Account; 2]> {
    let account = || capture.account().context("cannot count rows");
    Ok([account()?, account()?])
}

fn open(capture: &CaptureConfig, given: Option<CaptureSocket>) -> anyhow::Result<AfPacket> {
    let opened = match given {
        Some(socket) => AfPacket::resume(&capture.interface, socket),
        None => AfPacket::open(capture),
    };
    let opened = opened.context("cannot capture")?;
    info!(
        iface = capture.interface,
        fanout_id = capture.fanout_id,
        buffer_bytes = capture.buffer_size_bytes,
        life = opened.readers(),
        "capturing"
    );
    warn_of_offloads(capture, opened.offloads());
    Ok(opened)
}

/// The card's counters are a help, not a need.
fn open_nic(capture: &CaptureConfig) -> Option<Nic> {
    let opened = Nic::open(&capture.interface);
    if let Err(error) = &opened {
        warn!(iface = capture.interface, %error, "the network card's counters cannot be read");
    }
    opened.ok()
}

/// Merged packets have sizes and numbers that were never on the wire.
fn warn_of_offloads(capture: &CaptureConfig, offloads: Offloads) {
    let Offloads { gro, lro, tso } = offloads;
    if offloads.merges_received() {
        let hint = format!("ethtool -K {} gro off lro off", capture.interface);
        warn!(
            iface = capture.interface,
            gro, lro, tso, hint, "packets are merged before they are captured"
        );
    }
}

/// Starts the packet thread; what it ended with comes out of the channel, or nothing when it
/// panicked.
fn spawn(
    node: &str,
    thread: PacketThread,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new()
        .name(node.to_owned())
        .spawn(move || {
            if tell.send(thread.run()).is_err() {
                warn!("nobody waits for the packet thread");
            }
        })
        .context("cannot start the packet thread")?;
    Ok(told)
}

/// How the node analyses: as configured, under its own name, files into its own folder.
fn analysis_of(config: &NodeConfig) -> AnalysisConfig {
    let spool = Layout::new(&config.prefix).node_spool(&config.node);
    let extract_to = match config.analysis.extract_files {
        true => ExtractTo::Queued(spool.join("extract_files")),
        false => ExtractTo::Nowhere,
    };
    AnalysisConfig { peer: config.node.clone(), extract_to, ..config.analysis.clone() }
}

/// What the packet thread ended with; waits for ever when there is none.
async fn wait_for(ended: &mut Option<oneshot::Receiver<anyhow::Result<()>>>) -> anyhow::Result<()> {
    match ended {
        Some(ended) => ended.await.context("the packet thread died")?,
        None => std::future::pending().await,
    }
}

/// A seed that no other node and no other life of this one has.
fn uid_seed(node: &str, epoch: u64) -> u64 {
    let mut bytes = node.as_bytes().to_vec();
    bytes.extend(epoch.to_le_bytes());
    rapidhash::v3::rapidhash_v3(&bytes)
}
