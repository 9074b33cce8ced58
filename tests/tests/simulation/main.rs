//! Workers and loggers in a simulated cluster (turmoil): the shipping of real workers and the
//! service of real loggers, over HTTP/2 and simulated TCP, each on a model of a disk. A seed decides
//! what goes wrong: kills, crashes of hosts, orderly ends, partitions, delays, resets, disks that
//! refuse or are full, clocks that are set, loggers that leave. When all is over, each row is in
//! the files once or counted as lost with a reason, and the ledgers add up.
//!
//! `TYTO_SEEDS=N` runs the first N seeds, `TYTO_SEED=S` one of them again (with `RUST_LOG=debug`:
//! and tells all of it).
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![allow(clippy::print_stdout, reason = "a failing seed is told at once")]

mod check;
mod cluster;
mod faults;
mod machine;
mod network;
mod rows;
mod run;

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::thread;

/// Seeds that a run without any wish takes.
const SEEDS: u64 = 200;

/// Of so many seeds, one runs twice and has to do the same.
const TWICE_EVERY: u64 = 20;

thread_local! {
    /// What panicked on this thread, be it in a task that nobody waits for.
    static PANICKED: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// The run of a seed, on a thread of its own: a hash of what happened, or what was wrong.
fn try_seed(seed: u64) -> Result<u64, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let text = panicked.to_string();
            PANICKED.with(|first| first.borrow_mut().get_or_insert(text).len());
            before(panicked);
        }));
    });
    let run = thread::spawn(move || {
        let hash = panic::catch_unwind(|| run::run(seed)).unwrap_or_default();
        match PANICKED.with(|first| first.borrow_mut().take()) {
            None => Ok(hash),
            Some(text) => Err(text),
        }
    });
    run.join().unwrap()
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`; expected a number")))
}

/// Runs what the environment wishes and returns the failed seeds.
fn run_seeds(seeds: std::ops::Range<u64>) -> Vec<(u64, String)> {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(text) = try_seed(seed) {
                        println!(
                            "seed {seed} fails; again: TYTO_SEED={seed} cargo test -p tyto-tests \
                             --test simulation"
                        );
                        failed.lock().unwrap().push((seed, text));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

#[test]
fn whatever_goes_wrong_each_row_is_in_the_files_once_or_counted() {
    let seeds = match number_of("TYTO_SEED") {
        Some(seed) => {
            let wished = tracing_subscriber::EnvFilter::from_default_env();
            tracing_subscriber::fmt().with_env_filter(wished).with_test_writer().init();
            seed..seed + 1
        }
        None => 0..number_of("TYTO_SEEDS").unwrap_or(SEEDS),
    };
    let failed = run_seeds(seeds);
    assert!(failed.is_empty(), "{} seeds fail: {failed:#?}", failed.len());
}

#[test]
fn the_same_seed_is_the_same_run() {
    let seeds = match number_of("TYTO_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("TYTO_SEEDS").unwrap_or(SEEDS) / TWICE_EVERY,
    };
    let ran_in_two_ways = |seed: &u64| try_seed(*seed) != try_seed(*seed);
    let differing: Vec<u64> = seeds.filter(ran_in_two_ways).collect();
    assert!(differing.is_empty(), "seeds that ran in two ways: {differing:?}");
}
