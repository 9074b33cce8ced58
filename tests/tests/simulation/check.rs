//! What has to be true when everything is delivered and everybody has ended in order.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tyto_worker::ship::Shipped;

use crate::machine::{Kind, Machine};
use crate::rows::{self, RowName, STREAMS};
use crate::run::Run;

/// Rows made so long before a crash of their host may be lost without being counted: they were
/// not synced.
pub(crate) const AT_RISK: Duration = Duration::from_secs(3);

/// Reasons that nothing that happens here is good for.
const NEVER: [&str; 3] = ["logger_lost", "queue_full", "unclaimed"];

/// What a logger keeps besides the archive when it has ended in order.
const KEPT: [&str; 3] = ["journal", "index", "schemas"];

/// What a worker's ledger says, per log stream; none before its first start.
pub(crate) fn ledger_of(machine: &Machine) -> Option<BTreeMap<String, Shipped>> {
    machine.worker()?.ledger.borrow().as_ref().map(|ledger| ledger())
}

/// Checks files and ledgers of a cluster that has ended.
pub(crate) fn all(run: &Run<'_>) {
    let mut files = BTreeMap::new();
    for logger in &run.cluster.loggers {
        read_files(logger, &mut files);
    }
    let twice: Vec<_> = files.iter().filter(|(_, count)| **count > 1).take(10).collect();
    assert!(twice.is_empty(), "rows that are there more than once: {twice:?}");
    for (at, worker) in run.cluster.workers.iter().enumerate() {
        for stream in 0..STREAMS.len() {
            check_stream(run, (at, worker), stream, &files);
        }
    }
}

fn check_stream(
    run: &Run<'_>,
    (at, worker): (usize, &Rc<Machine>),
    stream: usize,
    files: &BTreeMap<RowName, u32>,
) {
    let (node, name) = (&worker.config.node, STREAMS[stream]);
    let place = worker.worker().unwrap().place;
    let made = &worker.worker().unwrap().made.borrow()[stream];
    let in_files = files.range((place, stream, 0)..=(place, stream, u64::MAX));
    let in_files: Vec<u64> = in_files.map(|((_, _, number), _)| *number).collect();
    assert!(
        in_files.last().is_none_or(|last| *last < made.len() as u64),
        "{node}: {name}: a row that nobody made"
    );
    let shipped = ledger_of(worker).unwrap().get(name).cloned().unwrap_or_default();
    let dropped: u64 = shipped.dropped.values().sum();
    assert_eq!(
        (shipped.produced, shipped.waiting),
        (shipped.acked + dropped, 0),
        "{node}: {name}: the ledger does not add up: {shipped:?}"
    );
    let written: u64 = run.cluster.loggers.iter().map(|logger| written(logger, node, name)).sum();
    let count = in_files.len() as u64;
    assert_eq!(
        (shipped.acked, written),
        (count, count),
        "{node}: {name}: {shipped:?}: acked, written, in files"
    );
    // A batch that was given up is called refused when the disk refused to note that.
    let refused = (!run.was_ill[at]).then_some("refused");
    let never = NEVER.into_iter().chain(refused).find(|word| shipped.dropped.contains_key(*word));
    assert_eq!(never, None, "{node}: {name}: {shipped:?}");
    let missing = made.len() as u64 - count;
    let is_at_risk = |number: &u64| {
        let made_at = made[usize::try_from(*number).unwrap()];
        let mut risks = run.risks.iter().filter(|risk| risk.worker == at);
        risks.any(|risk| risk.from <= made_at && made_at <= risk.to)
    };
    let lost = (0..made.len() as u64).filter(|number| in_files.binary_search(number).is_err());
    let (at_risk, sure): (Vec<u64>, Vec<u64>) = lost.partition(is_at_risk);
    let sure: Vec<_> = sure.iter().map(|n| (n, made[usize::try_from(*n).unwrap()])).collect();
    assert!(
        dropped <= missing && missing <= dropped + at_risk.len() as u64,
        "{node}: {name}: {missing} rows are missing, {dropped} counted as dropped, {} of the \
         missing were at risk in a host crash: {shipped:?}; missing without that risk, with the \
         time they were made: {sure:?}",
        at_risk.len(),
    );
}

fn written(logger: &Machine, node: &str, stream: &str) -> u64 {
    let Kind::Logger(report) = &logger.kind else { return 0 };
    let written = report.borrow().latest().written;
    let its = written.iter().filter(|(of, by, _)| **of == *stream && **by == *node);
    its.map(|(_, _, rows)| rows).sum()
}

/// Everything is in the archive, and no rows are left anywhere else.
fn read_files(logger: &Machine, rows: &mut BTreeMap<RowName, u32>) {
    let prefix = &logger.config.prefix;
    for (path, bytes) in logger.disk.files() {
        if path.starts_with(prefix.join("logs")) {
            rows::read(&path, &bytes, rows);
        } else {
            let spool = prefix.join("spool").join(&logger.config.node);
            let name = path.strip_prefix(spool).unwrap();
            let is_kept = KEPT.iter().any(|kept| name.starts_with(kept));
            assert!(is_kept, "{} is left", path.display());
        }
    }
}
