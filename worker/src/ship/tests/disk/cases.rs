//! Random sequences of events, and single cases: what a disk may do to a worker's rows.

use super::*;

fn bounds(is_small: bool, is_aged: bool) -> Bounds {
    Bounds {
        spool_bytes_max: if is_small { 200_000 } else { 1 << 30 },
        disk_free_min: 0,
        spool_age_max: is_aged.then_some(TURN * 4),
        order: Preciousness::new(&["dns".to_owned()]),
        doubt_timeout: Some(TURN * 3),
    }
}

fn faults() -> impl Strategy<Value = Faults> {
    (0..200_u32, 0..500_u32, any::<bool>()).prop_map(|(errors, short_writes, read_only)| Faults {
        errors,
        short_writes,
        room_bytes: None,
        is_read_only: read_only && errors % 4 == 0,
    })
}

/// `can_crash`: the host may die too.
fn events(can_crash: bool) -> impl Strategy<Value = Vec<Event>> {
    let fault = prop_oneof![Just(Fault::Error), Just(Fault::Full), Just(Fault::Death)];
    let event = prop_oneof![
        20 => step().prop_map(Event::Step),
        1 => (0..2_usize, 1..50_u64).prop_map(|(stream, rows)| Event::Drop { stream, rows }),
        8 => Just(Event::Sync),
        4 => Just(Event::Step(Step::Housekeep)),
        1 => Just(if can_crash { Event::Crash } else { Event::Heal }),
        3 => (1..20_u64, fault, any::<bool>()).prop_map(move |(calls, fault, is_host)| {
            Event::Plan { calls, fault, is_host: is_host && can_crash }
        }),
        1 => faults().prop_map(Event::Bad),
        1 => (0..9_000_u64).prop_map(|room_bytes| Event::Fill { room_bytes }),
        2 => Just(Event::Heal),
    ];
    prop::collection::vec(event, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Faults were found here that one case in some thousands has.
        cases: ProptestConfig::default().cases * 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_the_disk_does_each_row_is_written_once_or_counted(
        seed in any::<u64>(),
        is_small in any::<bool>(),
        is_aged in any::<bool>(),
        events in events(false),
    ) {
        let mut host = Host::new(seed, bounds(is_small, is_aged));
        events.iter().for_each(|event| host.run(event));
        host.end();
    }

    #[test]
    fn a_crash_of_the_host_costs_what_was_not_synced_and_doubles_nothing(
        seed in any::<u64>(),
        is_small in any::<bool>(),
        events in events(true),
    ) {
        let mut host = Host::new(seed, bounds(is_small, false));
        events.iter().for_each(|event| host.run(event));
        host.end();
    }
}

/// What the ledger says was dropped for that reason, rows of conn.
fn dropped(host: &Host, reason: Reason) -> u64 {
    let standing = host.backlog.as_ref().unwrap().standing();
    standing["conn"].tally.dropped.get(&reason).copied().unwrap_or(0)
}

/// A worker goes on analysing when its disk takes nothing: rows that came before are delivered,
/// those that come are counted, memory does not grow, and afterwards all is as before.
#[test]
fn a_full_or_read_only_disk_costs_the_rows_of_that_time_which_are_counted() {
    let read_only = Faults { is_read_only: true, ..Faults::default() };
    let full = Faults { room_bytes: Some(0), ..Faults::default() };
    for faults in [read_only, full] {
        let mut host = Host::new(1, bounds(false, false));
        let take = Event::Step(Step::Take { stream: 0, rows: 3, bytes: 300 });
        let commit = Event::Step(Step::Commit { logger: 0, batches: 100 });
        (0..5).for_each(|_| host.run(&take));
        host.run(&Event::Sync);
        host.run(&Event::Step(Step::Up { logger: 0 }));
        host.run(&Event::Sync);
        host.run(&Event::Bad(faults));
        (0..1_000).for_each(|_| host.run(&take));
        assert_eq!(dropped(&host, Reason::SpoolFault), 3_000);
        assert_eq!(host.waiting.len(), 5);
        host.run(&commit);
        assert_eq!(host.loggers[0].written.len(), 5, "what was bound before is delivered");
        // Killed by then, its next life cannot begin before the disk is well, and knows the rows.
        host.run(&Event::Step(Step::Kill));
        assert!(host.backlog.is_none());
        host.run(&Event::Heal);
        assert_eq!(dropped(&host, Reason::Killed), 3_000);
        host.run(&take);
        host.end();
        assert_eq!(host.loggers.iter().map(|logger| logger.written.len()).sum::<usize>(), 6);
    }
}

/// Smaller than the spool may be: what fills it is the spool itself, down to the last byte. It
/// gets well by what is acked alone, at once or in the next life, and nobody makes room by hand.
#[test]
fn a_disk_that_the_spool_itself_has_filled_is_free_again_when_its_rows_are_acked() {
    for is_killed in [false, true] {
        let bounds = Bounds { disk_free_min: 60_000, ..bounds(false, false) };
        let mut host = Host::new(7, bounds);
        host.run(&Event::Fill { room_bytes: 360_000 });
        host.run(&Event::Step(Step::Housekeep));
        for _ in 0..600 {
            host.run(&Event::Step(Step::Take { stream: 0, rows: 2, bytes: 1_000 }));
        }
        host.run(&Event::Sync);
        let dropped = |host: &Host| {
            let standing = host.backlog.as_ref().unwrap().standing();
            standing["conn"].tally.dropped.get(&Reason::SpoolFault).copied().unwrap_or(0)
        };
        let before = dropped(&host);
        assert!(before > 0, "the disk never was full");
        if is_killed {
            host.run(&Event::Step(Step::Kill));
            assert!(host.backlog.is_some(), "no life begins on a full disk");
        }
        for _ in 0..20 {
            host.run(&Event::Step(Step::Up { logger: 0 }));
            host.run(&Event::Step(Step::Commit { logger: 0, batches: 1_000 }));
            host.run(&Event::Step(Step::Take { stream: 0, rows: 2, bytes: 1_000 }));
            host.run(&Event::Step(Step::Housekeep));
            host.run(&Event::Sync);
        }
        let after = dropped(&host);
        for _ in 0..100 {
            host.run(&Event::Step(Step::Take { stream: 0, rows: 2, bytes: 1_000 }));
        }
        assert_eq!(dropped(&host), after, "rows are refused though there is room");
        host.end();
    }
}

/// A batch was sent under a lease that a life which was killed had written and not synced; then the
/// host crashes and loses that lease, and not the older ones before it. The ledger has it.
#[test]
fn a_lease_that_only_the_ledger_remembers_holds() {
    let take = |stream, rows, bytes| Event::Step(Step::Take { stream, rows, bytes });
    let up = |logger| Event::Step(Step::Up { logger });
    let commit = Event::Step(Step::Commit { logger: 0, batches: 1 });
    let death_at = |calls| Event::Plan { calls, fault: Fault::Death, is_host: false };
    let events = [
        take(0, 1, 1_596),
        up(1),
        Event::Sync,
        Event::Step(Step::Kill),
        take(1, 1, 33),
        up(0),
        death_at(1),
        Event::Step(Step::Housekeep),
        up(0),
        commit,
        Event::Step(Step::Kill),
        Event::Crash,
    ];
    for seed in 0..300 {
        let mut host = Host::new(seed, bounds(false, false));
        events.iter().for_each(|event| host.run(event));
        host.end();
    }
}

/// A life that follows a kill reads what may be in memory only: a crash of the host would lose to
/// whom it was bound, and another logger would get it too.
#[test]
fn nothing_of_earlier_lives_is_sent_before_it_is_on_the_disk() {
    let mut host = Host::new(1, bounds(false, false));
    let up = Event::Step(Step::Up { logger: 0 });
    host.run(&Event::Step(Step::Take { stream: 0, rows: 1, bytes: 1 }));
    host.run(&up);
    // Of what stood there before the lease was asked for, then of the lease.
    (0..2).for_each(|_| host.run(&Event::Sync));
    assert!(host.next_parcel(0).is_some(), "its lease is synced");
    host.run(&Event::Step(Step::Kill));
    host.run(&up);
    assert!(host.next_parcel(0).is_none(), "sent before a sync of this life");
    host.run(&Event::Sync);
    assert!(host.next_parcel(0).is_some());
    host.end();
}
