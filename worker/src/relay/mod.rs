//! The way of notes between workers, over the proxies.
//!
//! ```text
//! packet thread ─ told ─▶ Teller ── Tell ──▶ proxy that owns the note's key
//!        ▲                   │ nobody takes a DHCP message: it is this worker's own
//!        └──── heard ◀───────┴─ listeners ◀── Listen ── every proxy
//! ```
//!
//! Notes are sent as they come: an announced connection begins within a round trip. No proxy
//! that answers means that nobody is told, which is counted; DHCP messages then stay here.

mod convert;
mod listen;
mod tell;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use tyto_daemon::health;
use tyto_daemon::peers::Peers;
use tyto_daemon::tls::Identity;
use tyto_proto::v1::Counter;

use crate::neighbours::{Neighbours, OtherEnds};
use tell::Teller;

/// What is counted of notes.
#[derive(Debug, Default)]
pub struct Counters {
    /// Notes that a proxy took.
    told: AtomicU64,
    /// Notes that no proxy took: the other workers do not know.
    untaken: AtomicU64,
    /// Workers that notes were passed on to, of all notes together.
    reached: AtomicU64,
    /// DHCP messages that are put together here, because they are this worker's or nobody else
    /// could be told.
    kept: AtomicU64,
    /// Notes of other workers.
    heard: AtomicU64,
    /// Notes of other workers that could not be read.
    unread: AtomicU64,
}

impl Counters {
    /// The counters of a health report.
    pub fn report(&self) -> Vec<Counter> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            health::counter("notes_told", of(&self.told)),
            health::counter("notes_reached", of(&self.reached)),
            health::counter("notes_untaken", of(&self.untaken)),
            health::counter("notes_kept", of(&self.kept)),
            health::counter("notes_heard", of(&self.heard)),
            health::counter("notes_unread", of(&self.unread)),
        ]
    }

    fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Connects worker `node` with the others over the proxies of `peers`. The tasks end with the
/// neighbours, or when those hear their last. Call it inside of a runtime.
pub fn connect(node: &str, peers: Peers, identity: &Identity) -> (Neighbours, Arc<Counters>) {
    let (neighbours, ends) = Neighbours::of(node);
    let counters = Arc::new(Counters::default());
    tokio::spawn(run(ends, peers, identity.clone(), counters.clone()));
    (neighbours, counters)
}

async fn run(ends: OtherEnds, peers: Peers, identity: Identity, counters: Arc<Counters>) {
    let OtherEnds { told, heard } = ends;
    let leave = CancellationToken::new();
    let listening = tokio::spawn(listen::follow(
        peers.clone(),
        identity.clone(),
        heard.clone(),
        leave.clone(),
        counters.clone(),
    ));
    Teller::new(peers, identity, counters).run(told, heard).await;
    // The worker tells nothing any more: what others tell goes elsewhere from here on.
    leave.cancel();
    if listening.await.is_err() {
        tracing::error!("the task that listens to other workers died");
    }
}
