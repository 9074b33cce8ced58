//! What becomes of batches in single cases: in doubt, of a logger that is gone, refused unheard, too old.

use super::super::spool::Record;
use super::*;

impl World {
    /// Segments of a later release that are kept, and that were removed.
    fn later(&mut self) -> (u64, u64) {
        let counters = self.backlog().counters();
        let of = |name| counters.iter().find(|(is, _)| *is == name).unwrap().1;
        (of("spool_kept_segments"), of("spool_kept_removed"))
    }
}

#[test]
fn a_batch_in_doubt_for_long_is_copied_and_the_copy_goes_when_its_logger_is_back() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Up { logger: 0 });
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    world.run(&Step::CommitWithoutAck { logger: 0, batches: 9 });
    world.run(&Step::Up { logger: 1 });
    (0..2).for_each(|_| world.run(&Step::Housekeep));
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!(world.loggers[1].copies.len(), 0, "not yet");
    (0..2).for_each(|_| world.run(&Step::Housekeep));
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!(world.loggers[1].copies.len(), 1);
    assert_eq!((world.backlog().doubt_rows(), world.backlog().copied_rows()), (3, 3));
    // The next life of the worker, and of the logger, know that it is in doubt still.
    world.run(&Step::Kill);
    world.run(&Step::Up { logger: 1 });
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!(world.loggers[1].copies.len(), 1);
    // It had written the rows: they are there once, and the copy is not needed.
    world.run(&Step::Up { logger: 0 });
    world.run(&Step::Housekeep);
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!((world.written(), world.loggers[1].copies.len()), (3, 0));
    assert_eq!(world.sum(|row| row.tally.acked), 3);
}

#[test]
fn what_is_bound_to_a_logger_that_is_gone_for_good_goes_to_another_one() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Up { logger: 0 });
    (0..3).for_each(|_| world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 }));
    world.run(&Step::Commit { logger: 0, batches: 1 });
    world.run(&Step::Down { logger: 0 });
    world.run(&Step::Retire { logger: 0 });
    world.run(&Step::Kill);
    world.run(&Step::Retire { logger: 0 });
    world.run(&Step::Up { logger: 1 });
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!(world.loggers[1].written.len(), 0, "they wait for logger-1");
    world.backlog().logger_gone(LOGGERS[0]);
    world.run(&Step::Housekeep);
    world.run(&Step::Kill);
    world.run(&Step::Up { logger: 1 });
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!((world.written(), world.loggers[1].written.len()), (9, 6));
    assert_eq!(world.sum(|row| row.tally.acked), 9);
    assert_eq!(world.sum(|row| row.tally.produced), 9);
}

#[test]
fn a_refusal_that_nobody_heard_is_found_at_the_next_welcome() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Up { logger: 0 });
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    world.run(&Step::Take { stream: 0, rows: 4, bytes: 10 });
    world.run(&Step::RefuseWithoutWord { logger: 0 });
    world.run(&Step::Up { logger: 0 });
    world.run(&Step::Kill);
    assert_eq!(world.sum(|row| row.tally.acked), 4);
    assert_eq!(world.sum(|row| row.tally.dropped[&Reason::Refused]), 3);
}

#[test]
fn a_logger_that_lost_its_disk_is_counted_as_that() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Up { logger: 0 });
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    world.run(&Step::Commit { logger: 0, batches: 9 });
    world.run(&Step::Down { logger: 0 });
    world.loggers[0] = Logger::default();
    world.run(&Step::Up { logger: 0 });
    assert_eq!(world.sum(|row| row.tally.dropped[&Reason::LoggerLost]), 3);
}

#[test]
fn rows_that_a_logger_has_and_a_crashed_spool_forgot_are_in_the_ledger_and_lost_ones_too() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Up { logger: 0 });
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    // The crash of the host takes the segment along, and what was written of two more batches:
    // the logger has the second.
    world.run(&Step::Commit { logger: 0, batches: 9 });
    let name = (world.backlog().oldest_epoch(), Arc::from("conn"));
    world.loggers[0].positions.insert(name.clone(), 12);
    world.loggers[0].written.extend((7..12).map(|seq| (name.0, "conn".to_owned(), seq)));
    world.backlog = None;
    world.open();
    for logger in 0..LOGGERS.len() {
        world.up(logger);
    }
    assert_eq!(world.sum(|row| row.tally.acked), 8);
    assert_eq!(world.sum(|row| row.tally.dropped[&Reason::HostCrash]), 4);
    assert_eq!(world.sum(|row| row.tally.produced), 12);
}

#[test]
fn rows_go_when_they_are_older_than_the_spool_may_keep_them() {
    let mut world = World::new(1 << 30);
    world.bounds.spool_age_max = Some(TURN * 4);
    world.open();
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    (0..3).for_each(|_| world.run(&Step::Housekeep));
    world.run(&Step::Take { stream: 1, rows: 4, bytes: 10 });
    (0..2).for_each(|_| world.run(&Step::Housekeep));
    assert_eq!(world.sum(|row| row.spooled), 4);
    assert_eq!(world.sum(|row| row.tally.dropped.get(&Reason::SpoolAge).copied().unwrap_or(0)), 3);
}

#[test]
fn a_full_spool_gives_up_the_less_precious_stream_though_the_other_is_older() {
    let mut world = World::new(1 << 20);
    for stream in [0, 1] {
        (0..300).for_each(|_| world.run(&Step::Take { stream, rows: 1, bytes: 1_500 }));
    }
    (0..400).for_each(|_| world.run(&Step::Take { stream: 0, rows: 1, bytes: 1_000 }));
    let standing = world.backlog().standing();
    assert_eq!(standing["dns"].tally.dropped[&Reason::SpoolFull], 300);
    let dropped = standing["conn"].tally.dropped_rows();
    assert!(dropped < 200, "{dropped} rows of conn were given up");
    assert!(world.backlog().spool_bytes() <= 1 << 20);
}

/// After a rollback: records that only the release before the rollback knows.
#[test]
fn a_segment_of_a_later_release_gives_what_is_known_and_is_kept() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    world.backlog = None;
    let path = world.dir.path().join("000000000000.seg");
    let mut bytes = fs::read(&path).unwrap();
    tyto_writer::frame::append(&mut bytes, |body| body.extend_from_slice(b"\xc8of tomorrow"));
    fs::write(&path, &bytes).unwrap();
    world.open();
    world.settle();
    assert_eq!(world.written(), 3);
    assert!(!path.exists());
    assert_eq!(fs::read(path.with_extension("seg.kept")).unwrap(), bytes);
    assert_eq!(world.later(), (1, 0));
    world.run(&Step::Kill);
    assert_eq!(world.sum(|row| row.tally.acked), 3);
    assert_eq!(world.later(), (1, 0), "the next life tells it, too");
    fs::remove_file(path.with_extension("seg.kept")).unwrap();
    world.run(&Step::Housekeep);
    assert_eq!(world.later(), (0, 0));
}

#[test]
fn of_many_segments_of_a_later_release_some_are_kept_and_the_rest_is_counted() {
    let mut world = World::new(1 << 30);
    world.backlog = None;
    let mut bytes = b"TytoSpl1".to_vec();
    tyto_writer::frame::append(&mut bytes, |body| body.extend_from_slice(b"\xc8of tomorrow"));
    for number in 1..=20 {
        fs::write(world.dir.path().join(format!("{number:012}.seg")), &bytes).unwrap();
    }
    world.open();
    world.run(&Step::Housekeep);
    assert_eq!(world.later(), (16, 4));
}

#[test]
fn what_a_logger_that_ends_in_order_did_not_write_goes_to_the_other() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Up { logger: 0 });
    for _ in 0..3 {
        world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    }
    world.run(&Step::End { logger: 0, batches: 1 });
    assert_eq!((world.sum(|row| row.tally.acked), world.sum(|row| row.spooled)), (3, 6));
    world.run(&Step::Retire { logger: 0 });
    assert!(world.ends[0].is_cancelled(), "nothing is left to wait for");
    world.run(&Step::Up { logger: 1 });
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!(world.loggers[1].written.len(), 6);
    world.settle();
    assert_eq!(world.written(), 9);
}

/// As a crash of the host may leave it, which loses what it likes of what was not synced.
#[test]
fn batches_before_one_that_is_bound_go_where_it_goes_and_before_it() {
    let mut world = World::new(1 << 30);
    for rows in 1..5 {
        world.run(&Step::Take { stream: 0, rows, bytes: 10 });
    }
    let mark = Record::Bound { number: 2, logger: LOGGERS[0].into() };
    world.backlog().spool.append_mark(&mark).unwrap();
    world.run(&Step::Kill);
    world.run(&Step::Up { logger: 1 });
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!(world.loggers[1].written.len(), 4, "what came after it goes to anybody");
    world.settle();
    assert_eq!((world.loggers[0].written.len(), world.written()), (6, 10));
}
