//! What goes wrong, by a seed: each seed has kinds of faults of its own, so that some runs meet
//! one kind often and others all of them.

use std::time::Duration;

use tyto_model_disk::{Faults, Random};

/// Something that happens to the cluster. Machines and pairs are numbers that any count of them
/// is a modulus for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// kill -9; the process is started again after the time.
    Kill { machine: usize, away: Duration },
    /// Power is lost.
    Crash { machine: usize, away: Duration },
    /// An orderly end.
    Stop { machine: usize, away: Duration },
    /// The process or host dies within a call of the disk.
    Death { machine: usize, calls: u64, is_host: bool, away: Duration },
    /// Nothing passes between two hosts, in one direction or both.
    Part { pair: usize, direction: Direction, time: Duration },
    /// Everything between two hosts is late.
    Hold { pair: usize, time: Duration },
    /// Their connections break.
    Cut { pair: usize },
    /// Their messages take up to so long from now on.
    Slow { pair: usize, latency: Duration },
    /// A disk refuses.
    Disk { machine: usize, faults: Faults, time: Duration },
    /// There is room for so many bytes more.
    Full { machine: usize, room_bytes: u64, time: Duration },
    /// A clock is set.
    Clock { machine: usize, by_s: i64 },
    /// Certificates are replaced.
    Renew { worker: usize },
    /// A logger leaves the cluster's list for a time.
    Leave { logger: usize, time: Duration },
}

/// Which way nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Both,
    ToLogger,
    ToWorker,
}

/// Kinds of faults.
const KINDS: usize = 13;

/// Decides what goes wrong and when.
pub(crate) struct Fate {
    random: Random,
    /// A bit for each kind.
    kinds: u32,
    /// Longest time between two faults.
    pause_max_ms: u64,
}

impl Fate {
    pub(crate) fn new(mut random: Random) -> Self {
        let mut kinds = 0;
        for kind in 0..KINDS {
            kinds |= u32::from(random.chance()) << kind;
        }
        // A run without any faults proves that the checks can pass.
        let pause_max_ms = [300, 1_000, 3_000][random.below(3)];
        Self { random, kinds, pause_max_ms }
    }

    /// When the next fault comes.
    pub(crate) fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.between(20, self.pause_max_ms))
    }

    /// What it is; none: nothing goes wrong after all.
    pub(crate) fn fault(&mut self) -> Option<Fault> {
        let kind = self.random.below(KINDS);
        if self.kinds >> kind & 1 == 0 {
            return None;
        }
        let random = &mut self.random;
        // Any count of machines or pairs is met evenly enough.
        let any = random.below(720_720);
        let (machine, pair) = (any, any);
        let mut ms = |first, last| Duration::from_millis(random.between(first, last));
        let (away, time) = (ms(10, 4_000), ms(50, 12_000));
        Some(match kind {
            0 => Fault::Kill { machine, away },
            1 => Fault::Crash { machine, away },
            2 => Fault::Stop { machine, away },
            3 => {
                let (calls, is_host) = (random.between(1, 200), random.chance());
                Fault::Death { machine, calls, is_host, away }
            }
            4 => {
                let directions = [Direction::Both, Direction::ToLogger, Direction::ToWorker];
                Fault::Part { pair, direction: directions[random.below(3)], time }
            }
            5 => Fault::Hold { pair, time },
            6 => Fault::Cut { pair },
            7 => Fault::Slow { pair, latency: ms(1, 1_500) },
            8 => {
                let errors = [5, 50, 500][random.below(3)];
                let faults = Faults { errors, short_writes: 200, ..Faults::default() };
                Fault::Disk { machine, faults, time }
            }
            9 => {
                let faults = Faults { is_read_only: true, ..Faults::default() };
                Fault::Disk { machine, faults, time }
            }
            10 => Fault::Full { machine, room_bytes: random.between(0, 20_000), time },
            11 => Fault::Clock { machine, by_s: [-3_600, -5, 5, 3_600][random.below(4)] },
            _ if random.chance() => Fault::Renew { worker: machine },
            _ => Fault::Leave { logger: machine, time },
        })
    }
}
