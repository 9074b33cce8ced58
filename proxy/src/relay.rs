//! What workers tell each other: who listens, and who hears what. Announcements that still hold
//! are kept for workers that come later. No I/O and no clock: each call gets the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tyto_core::shard;
use tyto_core::time::Ts;
use tyto_daemon::health;
use tyto_proto::v1;
use tyto_proto::v1::note::About;

/// Notes that wait for one listener. Past it, further ones are dropped for it and counted.
pub(crate) const QUEUE_NOTES_MAX: usize = 8192;
/// Announcements that are kept for workers to come. Past it, the one that would end first is
/// forgotten and counted; workers that listen have heard it.
const KEPT_MAX: usize = 1 << 16;
/// How long an announcement is kept at most, seconds.
const KEPT_S_MAX: u64 = 3600;

/// The listeners and what is kept for them.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    state: Mutex<State>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct State {
    listeners: BTreeMap<String, Listener>,
    kept: BTreeMap<KeptKey, (v1::Note, Ts)>,
    /// The keys of `kept` by the time at which they end.
    ends: BTreeSet<(Ts, KeptKey)>,
    /// Calls so far.
    calls: u64,
    is_closed: bool,
}

/// The key of a note and who is announced as originator.
type KeptKey = (Vec<u8>, Vec<u8>);

#[derive(Debug)]
struct Listener {
    queue: mpsc::Sender<v1::Note>,
    /// Which call it is.
    call: u64,
    /// Tells the call, by its end, that nothing more comes.
    _lasts: oneshot::Sender<()>,
}

/// A worker's call that listens.
#[derive(Debug)]
pub(crate) struct Joined {
    /// To end it with.
    pub(crate) call: u64,
    /// What holds still.
    pub(crate) kept: Vec<v1::Note>,
    /// What comes from now on.
    pub(crate) notes: mpsc::Receiver<v1::Note>,
    /// Ends when nothing more comes.
    pub(crate) over: oneshot::Receiver<()>,
}

#[derive(Debug, Default)]
struct Counters {
    /// Notes that workers told.
    told: AtomicU64,
    /// Times that one was passed on to a worker.
    passed: AtomicU64,
    /// Times that one was not, because the worker was too far behind.
    dropped: AtomicU64,
    /// Announcements that were kept no longer, because there were too many.
    forgotten: AtomicU64,
}

impl Relay {
    /// `worker` listens from now on; a call of its before ends. None once the relay is closed.
    pub(crate) fn join(&self, worker: &str, now: Ts) -> Option<Joined> {
        let mut state = self.state();
        if state.is_closed {
            return None;
        }
        state.expire(now);
        state.calls += 1;
        let call = state.calls;
        let (queue, notes) = mpsc::channel(QUEUE_NOTES_MAX);
        let (lasts, over) = oneshot::channel();
        state.listeners.insert(worker.to_owned(), Listener { queue, call, _lasts: lasts });
        let kept = state.kept.values().map(|(note, _)| note.clone()).collect();
        Some(Joined { call, kept, notes, over })
    }

    /// The call of `worker` ends once it has what waits for it.
    pub(crate) fn leave(&self, worker: &str, call: u64) {
        let listeners = &mut self.state().listeners;
        if listeners.get(worker).is_some_and(|listener| listener.call == call) {
            listeners.remove(worker);
        }
    }

    /// All calls end, and no further one begins.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.listeners.clear();
    }

    /// Passes notes of `worker` on. Gives per note how many workers hear it.
    pub(crate) fn tell(&self, worker: &str, notes: Vec<v1::Note>, now: Ts) -> Vec<u32> {
        self.counters.told.fetch_add(notes.len() as u64, Ordering::Relaxed);
        let mut state = self.state();
        notes.into_iter().map(|note| self.pass(&mut state, worker, note, now)).collect()
    }

    /// Forgets announcements that are over.
    pub(crate) fn expire(&self, now: Ts) {
        self.state().expire(now);
    }

    /// The counters of a health report.
    pub(crate) fn report(&self) -> Vec<v1::Counter> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (listeners, kept) = {
            let state = self.state();
            (state.listeners.len() as u64, state.kept.len() as u64)
        };
        vec![
            health::counter("listeners", listeners),
            health::counter("announcements", kept),
            health::counter("announcements_forgotten", of(&self.counters.forgotten)),
            health::counter("notes_told", of(&self.counters.told)),
            health::counter("notes_passed", of(&self.counters.passed)),
            health::counter("notes_dropped", of(&self.counters.dropped)),
        ]
    }

    fn pass(&self, state: &mut State, from: &str, note: v1::Note, now: Ts) -> u32 {
        match &note.about {
            Some(About::Announced(announced)) => {
                let (orig, timeout_s) = (announced.orig.clone(), announced.timeout_s);
                let end = now.plus_secs(timeout_s.min(KEPT_S_MAX));
                let forgotten = state.keep((note.key.clone(), orig), &note, end, now);
                self.counters.forgotten.fetch_add(forgotten, Ordering::Relaxed);
                self.pass_to_others(state, from, &note)
            }
            Some(About::Attention(_)) => self.pass_to_others(state, from, &note),
            Some(About::Transferred(transferred)) => {
                let to = transferred.session.as_ref().map(|session| session.worker.as_str());
                let listener = to.filter(|to| *to != from).and_then(|to| state.listeners.get(to));
                listener.map_or(0, |listener| self.send(listener, note.clone()))
            }
            Some(About::Dhcp(_)) => self.pass_to_one(state, from, &note),
            None => 0,
        }
    }

    fn pass_to_others(&self, state: &State, from: &str, note: &v1::Note) -> u32 {
        let others = state.listeners.iter().filter(|(worker, _)| *worker != from);
        others.map(|(_, listener)| self.send(listener, note.clone())).sum()
    }

    /// To the first in rank that can take it; the caller keeps what falls to itself.
    fn pass_to_one(&self, state: &State, from: &str, note: &v1::Note) -> u32 {
        let workers: Vec<&str> = state.listeners.keys().map(String::as_str).collect();
        for place in shard::rank(&workers, &note.key) {
            let Some(worker) = workers.get(place).filter(|worker| **worker != from) else { break };
            let listener = state.listeners.get(*worker);
            if listener.is_some_and(|listener| self.send(listener, note.clone()) > 0) {
                return 1;
            }
        }
        0
    }

    fn send(&self, listener: &Listener, note: v1::Note) -> u32 {
        let is_sent = listener.queue.try_send(note).is_ok();
        let counter = if is_sent { &self.counters.passed } else { &self.counters.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
        u32::from(is_sent)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps an announcement until `end`; the same again is kept in its place. Gives how many
    /// were forgotten for it.
    fn keep(&mut self, key: KeptKey, note: &v1::Note, end: Ts, now: Ts) -> u64 {
        self.expire(now);
        if let Some((_, before)) = self.kept.insert(key.clone(), (note.clone(), end)) {
            self.ends.remove(&(before, key.clone()));
        }
        self.ends.insert((end, key));
        let mut forgotten = 0;
        while self.kept.len() > KEPT_MAX
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.kept.remove(&first);
            forgotten += 1;
        }
        forgotten
    }

    fn expire(&mut self, now: Ts) {
        while let Some((end, _)) = self.ends.first()
            && *end <= now
            && let Some((_, key)) = self.ends.pop_first()
        {
            self.kept.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ts = Ts::new(1000, 0);

    fn announced(port: u16, timeout_s: u64) -> v1::Note {
        let resp = vec![192, 0, 2, 1];
        let key = [&resp[..], &port.to_be_bytes()].concat();
        let announced =
            v1::Announced { resp, resp_port: port.into(), timeout_s, ..Default::default() };
        v1::Note { key, about: Some(About::Announced(announced)) }
    }

    fn dhcp(transaction: u32) -> v1::Note {
        let message = v1::DhcpMessage { transaction, ..Default::default() };
        v1::Note { key: transaction.to_be_bytes().into(), about: Some(About::Dhcp(message)) }
    }

    fn transferred(worker: &str) -> v1::Note {
        let session = Some(v1::FtpSession { worker: worker.to_owned(), serial: 7 });
        let about = v1::Transferred { session, ..Default::default() };
        v1::Note { key: vec![1], about: Some(About::Transferred(about)) }
    }

    fn heard(joined: &mut Joined) -> Vec<v1::Note> {
        std::iter::from_fn(|| joined.notes.try_recv().ok()).collect()
    }

    fn counter(relay: &Relay, name: &str) -> u64 {
        relay.report().iter().find(|counter| counter.name == name).map_or(0, |c| c.value)
    }

    #[test]
    fn an_announcement_is_heard_by_all_but_who_made_it_and_by_those_who_come_before_its_end() {
        let relay = Relay::default();
        let [mut one, mut two, mut three] =
            ["worker-1", "worker-2", "worker-3"].map(|worker| relay.join(worker, NOW).unwrap());
        assert_eq!(relay.tell("worker-1", vec![announced(20, 60), announced(21, 90)], NOW), [2, 2]);
        assert_eq!(heard(&mut one), []);
        for other in [&mut two, &mut three] {
            assert_eq!(heard(other), [announced(20, 60), announced(21, 90)]);
        }
        let late = relay.join("worker-4", NOW.plus_secs(60)).unwrap();
        assert_eq!(late.kept, [announced(21, 90)]);
        assert_eq!(counter(&relay, "notes_passed"), 4);
    }

    #[test]
    fn a_dhcp_transaction_has_one_worker_who_keeps_its_own_messages() {
        let relay = Relay::default();
        let names = ["worker-1", "worker-2", "worker-3"];
        let mut joined = names.map(|worker| relay.join(worker, NOW).unwrap());
        for transaction in 0..100_u32 {
            let home = shard::rank(&names, &transaction.to_be_bytes())[0];
            for (place, worker) in names.iter().enumerate() {
                let passed = relay.tell(worker, vec![dhcp(transaction)], NOW);
                assert_eq!(passed, [u32::from(place != home)]);
            }
            for (place, joined) in joined.iter_mut().enumerate() {
                assert_eq!(heard(joined).len(), if place == home { 2 } else { 0 });
            }
        }
        // Nobody else is there: who sees it keeps it.
        for (joined, worker) in joined.iter().zip(names) {
            relay.leave(worker, joined.call);
        }
        assert_eq!(relay.tell("worker-1", vec![dhcp(1)], NOW), [0]);
    }

    #[test]
    fn what_a_transfer_carried_is_told_to_the_worker_of_its_session() {
        let relay = Relay::default();
        let mut two = relay.join("worker-2", NOW).unwrap();
        let notes = vec![transferred("worker-2"), transferred("worker-3")];
        assert_eq!(relay.tell("worker-1", notes, NOW), [1, 0]);
        assert_eq!(heard(&mut two), [transferred("worker-2")]);
    }

    #[test]
    fn who_leaves_has_what_waits_and_hears_no_more() {
        let relay = Relay::default();
        let mut before = relay.join("worker-2", NOW).unwrap();
        let mut again = relay.join("worker-2", NOW).unwrap();
        relay.leave("worker-2", before.call);
        assert_eq!(relay.tell("worker-1", vec![announced(20, 60)], NOW), [1]);
        assert!(before.notes.blocking_recv().is_none(), "the later call took its place");
        relay.leave("worker-2", again.call);
        assert_eq!(relay.tell("worker-1", vec![announced(21, 60)], NOW), [0]);
        assert_eq!(again.notes.blocking_recv(), Some(announced(20, 60)));
        assert_eq!(again.notes.blocking_recv(), None);
        relay.close();
        assert!(relay.join("worker-2", NOW).is_none());
    }

    #[test]
    fn at_its_limit_a_queue_drops_and_counts_and_another_worker_takes_the_transaction() {
        let relay = Relay::default();
        let names = ["worker-1", "worker-2"];
        let mut joined = names.map(|worker| relay.join(worker, NOW).unwrap());
        let mine = |t: &u32| shard::rank(&names, &t.to_be_bytes())[0] == 0;
        let transaction = (0..).find(mine).unwrap();
        for port in 0..u16::try_from(QUEUE_NOTES_MAX).unwrap() {
            relay.tell("worker-2", vec![announced(port, 60)], NOW);
        }
        assert_eq!(relay.tell("worker-3", vec![dhcp(transaction)], NOW), [1]);
        assert_eq!(counter(&relay, "notes_dropped"), 1);
        assert_eq!(heard(&mut joined[1]), [dhcp(transaction)]);
    }

    #[test]
    fn at_the_limit_of_announcements_the_first_to_end_is_forgotten() {
        let relay = Relay::default();
        let port = |at: usize| u16::try_from(at % (1 << 16)).unwrap();
        for at in 0..=KEPT_MAX {
            let mut note = announced(port(at), 60 + at as u64 / 1000);
            note.key.extend((at as u64).to_be_bytes());
            relay.tell("worker-1", vec![note], NOW);
        }
        assert_eq!(counter(&relay, "announcements"), KEPT_MAX as u64);
        assert_eq!(counter(&relay, "announcements_forgotten"), 1);
        relay.expire(NOW.plus_secs(KEPT_S_MAX));
        assert_eq!(counter(&relay, "announcements"), 0);
    }
}
