//! A cluster that a seed decides: how many workers and loggers, how they are configured, how much
//! traffic there is, which kinds of faults happen.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tyto_capture::account::Page;
use tyto_core::config::logs::{Compression, LogsConfig};
use tyto_core::config::runtime::{NodeConfig, Peer, Role, ShipConfig};
use tyto_core::layout::Layout;
use tyto_model_disk::{ModelDisk, Random};
use tyto_writer::service::ReportCell;

use crate::machine::{Kind, Machine, Worker};
use crate::network::{Cables, PORT};

/// Where everything of a node is on its host.
const PREFIX: &str = "/tyto";

/// The hosts of a cluster.
pub(crate) struct Cluster {
    pub(crate) workers: Vec<Rc<Machine>>,
    pub(crate) loggers: Vec<Rc<Machine>>,
    pub(crate) cables: Arc<Cables>,
    /// Who is a logger of the cluster just now.
    pub(crate) peers: watch::Sender<Arc<[Peer]>>,
}

/// One of `choices`.
pub(crate) fn one<T: Clone>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len())].clone()
}

impl Cluster {
    pub(crate) fn new(random: &mut Random) -> Self {
        let ip = |net: u8, n: usize| IpAddr::V4(Ipv4Addr::new(10, 0, net, n.try_into().unwrap()));
        let worker_ips: Vec<IpAddr> = (1..=1 + random.below(3)).map(|n| ip(1, n)).collect();
        let logger_ips: Vec<IpAddr> = (1..=1 + random.below(3)).map(|n| ip(2, n)).collect();
        let named = |(n, ip): (usize, &IpAddr)| (*ip, Arc::from(format!("worker-{}", n + 1)));
        let names: Vec<(IpAddr, Arc<str>)> = worker_ips.iter().enumerate().map(named).collect();
        let cables = Arc::new(Cables::new(&names, &logger_ips));
        let listed = logger_ips.iter().enumerate().map(|(n, ip)| Peer {
            node: format!("logger-{}", n + 1),
            role: Role::Logger,
            addr: SocketAddr::new(*ip, PORT),
        });
        let peers = watch::Sender::new(listed.collect::<Arc<[Peer]>>());
        let config = config(random, logger_ips.len());
        let workers = names.iter().enumerate().map(|(place, (ip, name))| {
            let worker = worker(random, place as u64, &peers);
            let config = NodeConfig { node: name.to_string(), ..config.clone() };
            machine(random, (*ip, config), &cables, Kind::Worker(worker))
        });
        let workers = workers.collect();
        let listed = peers.borrow().clone();
        let loggers = logger_ips.iter().zip(listed.iter()).map(|(ip, peer)| {
            let config =
                NodeConfig { node: peer.node.clone(), role: Role::Logger, ..config.clone() };
            let report = RefCell::new(ReportCell::default());
            machine(random, (*ip, config), &cables, Kind::Logger(report))
        });
        let loggers = loggers.collect();
        Self { workers, loggers, cables, peers }
    }

    /// All hosts, in one order.
    pub(crate) fn machines(&self) -> impl Iterator<Item = &Rc<Machine>> {
        self.workers.iter().chain(&self.loggers)
    }
}

fn machine(
    random: &mut Random,
    (ip, config): (IpAddr, NodeConfig),
    cables: &Arc<Cables>,
    kind: Kind,
) -> Rc<Machine> {
    let disk = ModelDisk::new(random.number());
    // The node's folder is there before it is.
    let folder = Layout::new(PREFIX).node_spool(&config.node);
    disk.disk().create_dir_all(&folder).unwrap();
    for above in folder.ancestors().skip(1) {
        disk.disk().sync_folder(above).unwrap();
    }
    Rc::new(Machine {
        ip,
        config,
        disk,
        clock_step: Arc::new(AtomicI64::new(0)),
        boots: Cell::new(1),
        end: RefCell::new(CancellationToken::new()),
        cables: cables.clone(),
        kind,
    })
}

fn worker(random: &mut Random, place: u64, peers: &watch::Sender<Arc<[Peer]>>) -> Worker {
    Worker {
        place,
        page: RefCell::new(Page::new().unwrap()),
        peers: peers.subscribe(),
        renewal: Arc::default(),
        ledger: RefCell::new(None),
        made: RefCell::default(),
        random: RefCell::new(random.fork()),
        load: (one(random, &[1, 3, 8]), one(random, &[5, 50, 500])),
        is_quiet: Cell::new(false),
    }
}

fn config(random: &mut Random, loggers: usize) -> NodeConfig {
    NodeConfig {
        logs: LogsConfig {
            rotation_interval_s: one(random, &[0, 5, 20]),
            compress: one(random, &[Compression::Off, Compression::Gzip, Compression::Zstd]),
            commit_interval_ms: one(random, &[10, 50, 400]),
            name_in_archive: loggers > 1,
            ..LogsConfig::default()
        },
        ship: ShipConfig {
            batch_rows_max: one(random, &[1, 10, 100]),
            batch_interval_ms: one(random, &[50, 200]),
            spool_bytes_max: one(random, &[256 << 10, 64 << 20, 64 << 20]),
            spool_age_max_s: one(random, &[0, 0, 0, 5]),
            doubt_timeout_s: one(random, &[0, 1, 3]),
            ..ShipConfig::default()
        },
        ..NodeConfig::new("simulated", "", Role::Worker, PREFIX)
    }
}
