//! One run of the simulated cluster: faults for a time, then none, until everything is delivered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use turmoil::Sim;
use tyto_core::time::NANOS;
use tyto_model_disk::{Faults, Random};

use crate::check;
use crate::cluster::Cluster;
use crate::faults::{Direction, Fate, Fault};
use crate::machine::{Kind, Machine};
use crate::rows::STREAMS;

/// How far simulated time goes at once. Messages come at its multiples.
const TICK: Duration = Duration::from_millis(10);

/// How long things go wrong.
const FAULTS_TIME: Duration = Duration::from_secs(20);

/// With everything well again, all rows are delivered within this time.
const DELIVERY_MAX: Duration = Duration::from_secs(60);

/// How long everybody is connected and nothing waits before the end: each logger was heard.
const CALM: Duration = Duration::from_secs(4);

/// Counts of a node are on its disk after so long without a fault: a start that failed is tried
/// again, and then what changed is saved five times a second.
const SAVED_AFTER: Duration = Duration::from_secs(2);

/// An orderly end that takes longer becomes a kill, as a supervisor does it.
const STOP_MAX: Duration = Duration::from_secs(10);

/// When something that goes on ends.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// A machine's process starts again.
    Start(usize),
    /// A machine's orderly end has taken too long.
    Kill(usize),
    /// A machine's disk is well again.
    Heal(usize),
    /// What was between two hosts is over.
    Mend(usize),
    /// A logger is back in the list.
    Join(usize),
}

/// How a machine's process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Stopping { away: Duration },
    Down,
}

/// What passes between two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Held,
    Parted(Direction),
}

/// What a host crash may have cost a worker: rows made between these.
pub(crate) struct Risk {
    pub(crate) worker: usize,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

pub(crate) struct Run<'a> {
    sim: Sim<'a>,
    pub(crate) cluster: Cluster,
    fate: Fate,
    states: Vec<State>,
    /// Of each pair of worker and logger.
    ways: Vec<Way>,
    /// Whose planned death is one of the host, and how long it takes.
    deaths: Vec<Option<(bool, Duration)>>,
    /// Whose disk refuses something just now.
    is_ill: Vec<bool>,
    /// Until when a machine was last without a sound process on a sound disk.
    unsound: Vec<Duration>,
    /// When it last was so sound for so long that all counts were saved.
    saved: Vec<Duration>,
    /// Whose disk has refused something at any time.
    pub(crate) was_ill: Vec<bool>,
    due: BTreeMap<(Duration, u64), Due>,
    events: u64,
    pub(crate) risks: Vec<Risk>,
    trace: Trace,
}

/// A hash of everything that happened (FNV-1a).
struct Trace(u64);

impl Trace {
    fn add(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Runs the cluster of `seed` to its end and checks what is left of it. Returns a hash of all
/// that happened.
pub(crate) fn run(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let cluster = Cluster::new(&mut random);
    let mut builder = turmoil::Builder::new();
    builder
        .tick_duration(TICK)
        .simulation_duration(FAULTS_TIME + DELIVERY_MAX * 10)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(1 + random.between(0, 50)))
        .tcp_capacity(1 << 14)
        .epoch(UNIX_EPOCH)
        .rng_seed(random.number());
    if random.chance() {
        builder.enable_random_order();
    }
    let mut sim = builder.build();
    for machine in cluster.machines() {
        let at = machine.ip;
        let machine = machine.clone();
        sim.host(at, move || machine.clone().run());
    }
    let machines = cluster.machines().count();
    let pairs = cluster.workers.len() * cluster.loggers.len();
    let run = Run {
        sim,
        cluster,
        fate: Fate::new(random.fork()),
        states: vec![State::Up; machines],
        ways: vec![Way::Open; pairs],
        deaths: vec![None; machines],
        is_ill: vec![false; machines],
        unsound: vec![Duration::ZERO; machines],
        saved: vec![Duration::ZERO; machines],
        was_ill: vec![false; machines],
        due: BTreeMap::new(),
        events: 0,
        risks: Vec::new(),
        trace: Trace(0xcbf2_9ce4_8422_2325),
    };
    run.finish()
}

impl Run<'_> {
    fn finish(mut self) -> u64 {
        let mut next = self.fate.pause();
        while self.sim.elapsed() < FAULTS_TIME {
            self.step();
            if self.sim.elapsed() >= next {
                if let Some(fault) = self.fate.fault() {
                    self.happen(fault);
                }
                next = self.sim.elapsed() + self.fate.pause();
            }
        }
        self.make_well();
        self.deliver();
        let workers = 0..self.cluster.workers.len();
        self.stop_all(workers);
        let loggers = self.cluster.workers.len()..self.states.len();
        self.stop_all(loggers);
        check::all(&self);
        for machine in self.cluster.machines() {
            for (_, bytes) in machine.disk.files() {
                self.trace.add(crc32fast::hash(&bytes).into());
            }
        }
        self.trace.0
    }

    fn machine(&self, at: usize) -> Rc<Machine> {
        self.cluster.machines().nth(at).unwrap().clone()
    }

    fn step(&mut self) {
        self.sim.step().unwrap();
        let now = self.sim.elapsed();
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= now
        {
            let due = entry.remove();
            self.come_due(due);
        }
        for at in 0..self.states.len() {
            let machine = self.machine(at);
            self.trace.add(machine.disk.calls());
            tracing::trace!(?now, node = machine.config.node, calls = machine.disk.calls());
            machine.disk.set_time(Duration::from_nanos(machine.at(now).0));
            if self.is_ill[at] || self.states[at] != State::Up {
                self.unsound[at] = now;
            } else if now - self.unsound[at] > SAVED_AFTER {
                self.saved[at] = now;
            }
            if machine.disk.is_down() {
                let (is_host, away) = self.deaths[at].take().unwrap();
                self.die(at, is_host, away);
            }
            if let State::Stopping { away } = self.states[at]
                && !self.sim.is_host_running(machine.ip)
            {
                self.states[at] = State::Down;
                self.later(away, Due::Start(at));
            }
        }
    }

    fn later(&mut self, after: Duration, due: Due) {
        self.events += 1;
        self.due.insert((self.sim.elapsed() + after, self.events), due);
    }

    fn come_due(&mut self, due: Due) {
        tracing::debug!(?due, at = ?self.sim.elapsed(), "over");
        match due {
            Due::Start(at) if self.states[at] == State::Down => {
                let machine = self.machine(at);
                tracing::info!(node = machine.config.node, "starts");
                self.pairs_of(at).for_each(|pair| self.set_way(pair, Way::Open));
                self.in_order(at, |run| run.sim.bounce(machine.ip));
                self.states[at] = State::Up;
            }
            Due::Kill(at) if matches!(self.states[at], State::Stopping { .. }) => {
                self.die(at, false, TICK);
            }
            Due::Start(_) | Due::Kill(_) => {}
            Due::Heal(at) => {
                self.machine(at).disk.set_faults(Faults::default());
                tracing::info!(node = self.machine(at).config.node, "disk is well");
                self.is_ill[at] = false;
            }
            Due::Mend(pair) => self.set_way(pair, Way::Open),
            Due::Join(logger) => self.list(logger, true),
        }
    }

    /// The addresses of a pair of worker and logger.
    fn pair(&self, pair: usize) -> (IpAddr, IpAddr) {
        let (workers, loggers) = (&self.cluster.workers, &self.cluster.loggers);
        let worker = &workers[pair % workers.len()];
        (worker.ip, loggers[pair / workers.len() % loggers.len()].ip)
    }

    /// Numbers of a machine's pairs.
    fn pairs_of(&self, at: usize) -> std::vec::IntoIter<usize> {
        let ip = self.machine(at).ip;
        let is_its = |pair: &usize| self.pair(*pair).0 == ip || self.pair(*pair).1 == ip;
        (0..self.ways.len()).filter(is_its).collect::<Vec<_>>().into_iter()
    }

    fn set_way(&mut self, pair: usize, way: Way) {
        let (worker, logger) = self.pair(pair);
        // What was held comes now.
        self.sim.release(worker, logger);
        match way {
            Way::Open => {}
            Way::Held => self.sim.hold(worker, logger),
            Way::Parted(Direction::Both) => self.sim.partition(worker, logger),
            Way::Parted(Direction::ToLogger) => self.sim.partition_oneway(worker, logger),
            Way::Parted(Direction::ToWorker) => self.sim.partition_oneway(logger, worker),
        }
        self.ways[pair] = way;
    }

    /// Ends what runs on a machine. Its tasks end in an order that is not the seed's, and say
    /// goodbye to their peers: that must neither draw from the seed's chance nor be heard in that
    /// order.
    fn in_order(&mut self, at: usize, end: impl FnOnce(&mut Self)) {
        let before: Vec<(usize, Way)> = self.pairs_of(at).map(|p| (p, self.ways[p])).collect();
        for (pair, way) in &before {
            match way {
                Way::Open => self.set_way(*pair, Way::Held),
                Way::Parted(_) => self.set_way(*pair, Way::Parted(Direction::Both)),
                Way::Held => {}
            }
        }
        end(self);
        before
            .into_iter()
            .filter(|(_, way)| *way != Way::Held)
            .for_each(|(pair, way)| self.set_way(pair, way));
    }

    fn list(&self, logger: usize, is_there: bool) {
        let name = format!("logger-{}", logger + 1);
        let peer = |at: &Rc<Machine>| tyto_core::config::runtime::Peer {
            node: at.config.node.clone(),
            role: at.config.role,
            addr: (at.ip, crate::network::PORT).into(),
        };
        self.cluster.peers.send_modify(|listed| {
            let mut now: Vec<_> = listed.iter().filter(|peer| peer.node != name).cloned().collect();
            if is_there {
                now.push(peer(&self.cluster.loggers[logger]));
            }
            *listed = now.into();
        });
    }

    fn happen(&mut self, fault: Fault) {
        tracing::info!(?fault, at = ?self.sim.elapsed(), "fault");
        self.events += 1;
        self.trace.add(self.events);
        let machines = self.states.len();
        match fault {
            Fault::Kill { machine, away } => self.die(machine % machines, false, away),
            Fault::Crash { machine, away } => self.die(machine % machines, true, away),
            Fault::Stop { machine, away } => self.stop(machine % machines, away),
            Fault::Death { machine, calls, is_host, away } => {
                let at = machine % machines;
                if self.states[at] == State::Up && self.deaths[at].is_none() {
                    self.deaths[at] = Some((is_host, away));
                    self.was_ill[at] = true;
                    self.machine(at).disk.plan(calls, tyto_model_disk::Fault::Death);
                }
            }
            Fault::Part { pair, direction, time } => {
                self.set_way(pair % self.ways.len(), Way::Parted(direction));
                self.later(time, Due::Mend(pair % self.ways.len()));
            }
            Fault::Hold { pair, time } => {
                self.set_way(pair % self.ways.len(), Way::Held);
                self.later(time, Due::Mend(pair % self.ways.len()));
            }
            Fault::Cut { pair } => {
                let (worker, logger) = self.pair(pair);
                self.cluster.cables.cut(worker, logger);
            }
            Fault::Slow { pair, latency } => {
                let (worker, logger) = self.pair(pair);
                self.sim.set_link_max_message_latency(worker, logger, latency);
            }
            Fault::Disk { machine, faults, time } => self.harm(machine % machines, faults, time),
            Fault::Full { machine, room_bytes, time } => {
                let at = machine % machines;
                let room_bytes = Some(self.machine(at).disk.used_bytes() + room_bytes);
                self.harm(at, Faults { room_bytes, ..Faults::default() }, time);
            }
            Fault::Clock { machine, by_s } => {
                let by_ns = by_s * NANOS as i64;
                self.machine(machine % machines).clock_step.fetch_add(by_ns, Ordering::Relaxed);
            }
            Fault::Renew { worker } => {
                let workers = &self.cluster.workers;
                let machine = &workers[worker % workers.len()];
                machine.worker().unwrap().renewal.notify_waiters();
            }
            Fault::Leave { logger, time } => {
                let logger = logger % self.cluster.loggers.len();
                self.list(logger, false);
                self.later(time, Due::Join(logger));
            }
        }
    }

    fn harm(&mut self, at: usize, faults: Faults, time: Duration) {
        let (node, now) = (&self.machine(at).config.node, self.sim.elapsed());
        tracing::info!(node, ?now, "disk is ill");
        self.machine(at).disk.set_faults(faults);
        self.is_ill[at] = true;
        self.was_ill[at] = true;
        self.later(time, Due::Heal(at));
    }

    fn stop(&mut self, at: usize, away: Duration) {
        if self.states[at] == State::Up {
            self.states[at] = State::Stopping { away };
            self.machine(at).end.borrow().cancel();
            self.later(STOP_MAX, Due::Kill(at));
        }
    }

    /// The process dies, or its host, and comes back some time.
    fn die(&mut self, at: usize, is_host: bool, away: Duration) {
        if self.states[at] == State::Down {
            return;
        }
        let machine = self.machine(at);
        let ip = machine.ip;
        let (node, now) = (&machine.config.node, self.sim.elapsed());
        tracing::info!(node, is_host, ?away, ?now, "dies");
        if is_host {
            // Nobody hears of it.
            let parted = Way::Parted(Direction::Both);
            self.pairs_of(at).for_each(|pair| self.set_way(pair, parted));
            machine.disk.crash_host();
            machine.boots.set(machine.boots.get() + 1);
            if let Kind::Worker(worker) = &machine.kind {
                worker.page.replace(tyto_capture::account::Page::new().unwrap());
                let to = self.sim.elapsed();
                let from = self.saved[at].saturating_sub(check::AT_RISK);
                self.risks.push(Risk { worker: at, from, to });
            }
        } else {
            machine.disk.kill();
        }
        self.in_order(at, |run| run.sim.crash(ip));
        self.states[at] = State::Down;
        self.later(away, Due::Start(at));
    }

    /// Everything that went wrong is over, and nobody makes rows any more.
    fn make_well(&mut self) {
        self.due.clear();
        for at in 0..self.states.len() {
            let machine = self.machine(at);
            machine.disk.heal();
            (self.deaths[at], self.is_ill[at]) = (None, false);
            if matches!(self.states[at], State::Stopping { .. }) {
                self.die(at, false, TICK);
            }
            self.later(TICK, Due::Start(at));
        }
        (0..self.ways.len()).for_each(|pair| self.set_way(pair, Way::Open));
        (0..self.cluster.loggers.len()).for_each(|logger| self.list(logger, true));
        for worker in &self.cluster.workers {
            for logger in &self.cluster.loggers {
                let latency = Duration::from_millis(20);
                self.sim.set_link_max_message_latency(worker.ip, logger.ip, latency);
            }
            worker.worker().unwrap().is_quiet.set(true);
        }
    }

    fn deliver(&mut self) {
        let begun = self.sim.elapsed();
        let mut calm_since = begun;
        loop {
            self.step();
            let now = self.sim.elapsed();
            let mut waiting = self.waiting();
            if !waiting.is_empty() {
                calm_since = now;
            } else if now - calm_since >= CALM {
                // A logger whose welcome was lost is dialled again much later.
                waiting = self.copies();
                if waiting.is_empty() {
                    return;
                }
            }
            assert!(now - begun < DELIVERY_MAX, "rows wait, though nothing is wrong: {waiting:?}");
        }
    }

    /// Copies of batches in doubt that loggers keep, though nothing is.
    fn copies(&self) -> Vec<(String, String, u64)> {
        let mut copies = Vec::new();
        for logger in &self.cluster.loggers {
            let is_copy =
                |path: &std::path::Path| path.parent().is_some_and(|p| p.ends_with("doubt"));
            let files = logger.disk.files();
            let count = files.iter().filter(|(path, _)| is_copy(path)).count() as u64;
            if count > 0 {
                copies.push((logger.config.node.clone(), "copies".to_owned(), count));
            }
        }
        copies
    }

    /// Rows that wait, by worker and log stream.
    fn waiting(&self) -> Vec<(String, String, u64)> {
        let mut waiting = Vec::new();
        for (at, worker) in self.cluster.workers.iter().enumerate() {
            let name = &worker.config.node;
            let ledger = check::ledger_of(worker);
            if self.states[at] != State::Up || ledger.is_none() {
                waiting.push((name.clone(), "not up".to_owned(), 1));
            }
            let ledger = ledger.unwrap_or_default();
            for stream in STREAMS {
                let rows = ledger.get(stream).map_or(0, |shipped| shipped.waiting);
                if rows > 0 {
                    waiting.push((name.clone(), stream.to_owned(), rows));
                }
            }
        }
        waiting
    }

    fn stop_all(&mut self, machines: std::ops::Range<usize>) {
        for at in machines.clone() {
            self.stop(at, DELIVERY_MAX);
        }
        let begun = self.sim.elapsed();
        while machines.clone().any(|at| self.states[at] != State::Down) {
            self.step();
            assert!(self.sim.elapsed() - begun < STOP_MAX, "no orderly end in time");
        }
    }
}
