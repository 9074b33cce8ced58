//! One simulated host with its one node, a worker or a logger. The disk, the clock and the page
//! of counts belong to the host and outlive the process.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tyto_capture::account::Page;
use tyto_core::config::runtime::{NodeConfig, Peer};
use tyto_core::time::Ts;
use tyto_daemon::peers::Peers;
use tyto_logger::LoggerTasks;
use tyto_model_disk::{ModelDisk, Random};
use tyto_worker::output::Output;
use tyto_worker::ship::{ShipTasks, Shipped};
use tyto_writer::service::ReportCell;

use crate::network::{self, Cables, Ways};
use crate::rows::{self, STREAMS};

/// When the simulated clocks begin, ns since the Unix epoch: a whole hour.
const BEGIN_NS: u64 = 472_000 * 3_600 * 1_000_000_000;

/// A node that cannot start is tried again after this long.
const START_AGAIN: Duration = Duration::from_secs(1);

/// A worker sees traffic this often.
const TRAFFIC_EVERY: Duration = Duration::from_millis(100);

/// What a machine's node says of its rows, whether it runs or not.
pub(crate) type LedgerOf = Box<dyn Fn() -> BTreeMap<String, Shipped>>;

/// A host.
pub(crate) struct Machine {
    pub(crate) ip: IpAddr,
    pub(crate) config: NodeConfig,
    pub(crate) disk: ModelDisk,
    /// How far its clock is off, ns.
    pub(crate) clock_step: Arc<AtomicI64>,
    /// How often it was booted.
    pub(crate) boots: Cell<u64>,
    /// Ends the process that runs now, in order.
    pub(crate) end: RefCell<CancellationToken>,
    pub(crate) cables: Arc<Cables>,
    pub(crate) kind: Kind,
}

/// What runs on it.
pub(crate) enum Kind {
    Worker(Worker),
    Logger(RefCell<ReportCell>),
}

/// What a worker has besides.
pub(crate) struct Worker {
    pub(crate) place: u64,
    pub(crate) page: RefCell<Page>,
    pub(crate) peers: watch::Receiver<Arc<[Peer]>>,
    /// Tells that certificates were replaced.
    pub(crate) renewal: Arc<Notify>,
    pub(crate) ledger: RefCell<Option<LedgerOf>>,
    /// When each row was made, by log stream.
    pub(crate) made: RefCell<[Vec<Duration>; STREAMS.len()]>,
    pub(crate) random: RefCell<Random>,
    /// Rows of a log stream that come at once, at most, and their longest text.
    pub(crate) load: (usize, usize),
    /// No more traffic.
    pub(crate) is_quiet: Cell<bool>,
}

fn now_of(clock_step: &AtomicI64) -> Ts {
    at(clock_step, turmoil::sim_elapsed().unwrap_or_default())
}

fn at(clock_step: &AtomicI64, passed: Duration) -> Ts {
    let now_ns = BEGIN_NS + u64::try_from(passed.as_nanos()).unwrap();
    Ts(now_ns.saturating_add_signed(clock_step.load(Ordering::Relaxed)))
}

impl Machine {
    /// The time of the host's clock.
    pub(crate) fn now(&self) -> Ts {
        now_of(&self.clock_step)
    }

    /// The same, so long after the simulation began.
    pub(crate) fn at(&self, passed: Duration) -> Ts {
        at(&self.clock_step, passed)
    }

    pub(crate) fn worker(&self) -> Option<&Worker> {
        match &self.kind {
            Kind::Worker(worker) => Some(worker),
            Kind::Logger(_) => None,
        }
    }

    /// The process: what runs from its start to its end.
    pub(crate) async fn run(self: Rc<Self>) -> turmoil::Result {
        let end = CancellationToken::new();
        self.end.replace(end.clone());
        match &self.kind {
            Kind::Worker(worker) => self.clone().run_worker(worker, end).await,
            Kind::Logger(report) => self.run_logger(report, end).await,
        }
        Ok(())
    }

    async fn run_worker(self: Rc<Self>, worker: &Worker, end: CancellationToken) {
        let mut tasks = loop {
            match ShipTasks::open(&self.config, self.ground(worker), self.now().0) {
                Ok(tasks) => break tasks,
                Err(error) => tracing::warn!(node = self.config.node, ?error, "cannot start"),
            }
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = tokio::time::sleep(START_AGAIN) => {}
            }
        };
        worker.ledger.replace(Some(Box::new(tasks.ledger())));
        let output = Output::new(Box::new(tasks.output()));
        let drain = tasks.end();
        let machine = self.clone();
        tokio::task::spawn_local(async move {
            machine.see_traffic(output, &end).await;
            drain.cancel();
        });
        tasks.run().await;
    }

    fn ground(&self, worker: &Worker) -> tyto_worker::ship::Ground {
        let page = worker.page.borrow();
        let ways =
            Ways { cables: self.cables.clone(), worker: self.ip, renewal: worker.renewal.clone() };
        tyto_worker::ship::Ground {
            disk: self.disk.disk(),
            dial: Arc::new(ways),
            peers: Peers::told(worker.peers.clone()),
            boot: format!("boot-{}", self.boots.get()),
            accounts: [page.account().unwrap(), page.account().unwrap()],
        }
    }

    /// Rows as packets would make them, until the end.
    async fn see_traffic(&self, mut output: Output, end: &CancellationToken) {
        let Some(worker) = self.worker() else { return };
        let mut latest = self.now();
        loop {
            if !worker.is_quiet.get() {
                self.make_rows(worker, &mut output);
            }
            // As packets' times: they follow the clock, and time never goes back for a worker.
            latest = latest.max(self.now());
            output.idle(latest);
            tokio::select! {
                biased;
                () = end.cancelled() => break,
                () = tokio::time::sleep(TRAFFIC_EVERY) => {}
            }
        }
        // The last rows have waited long enough for others.
        tokio::time::sleep(Duration::from_millis(self.config.ship.batch_interval_ms)).await;
        output.idle(latest);
    }

    fn make_rows(&self, worker: &Worker, output: &mut Output) {
        let (mut made, mut random) = (worker.made.borrow_mut(), worker.random.borrow_mut());
        let passed = turmoil::sim_elapsed().unwrap_or_default();
        for (stream, made) in made.iter_mut().enumerate() {
            for _ in 0..random.below(worker.load.0 + 1) {
                let text_len = random.below(worker.load.1 + 1);
                rows::write(output, (worker.place, stream, made.len() as u64), text_len);
                made.push(passed);
            }
        }
    }

    async fn run_logger(&self, report: &RefCell<ReportCell>, end: CancellationToken) {
        let tasks = loop {
            let clock_step = self.clock_step.clone();
            let ground = tyto_logger::Ground {
                disk: self.disk.disk(),
                clock: Box::new(move || now_of(&clock_step)),
                admit: network::admit(&self.cables),
            };
            match LoggerTasks::open(&self.config, ground, end.clone()) {
                Ok(tasks) => break tasks,
                Err(error) => tracing::warn!(node = self.config.node, ?error, "cannot start"),
            }
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = tokio::time::sleep(START_AGAIN) => {}
            }
        };
        report.replace(tasks.report());
        let way = (self.cables.clone(), self.ip);
        let serve = |routes| network::serve(routes, way, end.clone());
        if let Err(error) = tasks.run(serve).await {
            tracing::warn!(node = self.config.node, ?error, "not closed in order");
        }
    }
}
