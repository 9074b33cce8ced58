//! Notes of this worker go to the proxies that own their keys; what the owner does not take goes
//! to the next in rank.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tyto_core::config::runtime::{Peer, Role};
use tyto_core::shard;
use tyto_daemon::channel;
use tyto_daemon::channel::PeerChannel;
use tyto_daemon::peers::Peers;
use tyto_daemon::tls::Identity;
use tyto_proto::v1;
use tyto_proto::v1::relay_client::RelayClient;

use super::{Counters, convert};
use crate::neighbours::Note;

/// Notes of one call at most.
const CALL_NOTES_MAX: usize = 256;
/// How long a proxy may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_millis(500);
/// A proxy that did not answer is passed over for this long.
const AVOID: Duration = Duration::from_secs(1);

/// Who tells the others.
#[derive(Debug)]
pub(super) struct Teller {
    peers: Peers,
    identity: Identity,
    counters: Arc<Counters>,
    proxies: Vec<Proxy>,
}

/// A proxy and when it may be asked again.
#[derive(Debug)]
struct Proxy {
    peer: Peer,
    client: RelayClient<PeerChannel>,
    avoid_until: Option<Instant>,
}

impl Teller {
    pub(super) fn new(mut peers: Peers, identity: Identity, counters: Arc<Counters>) -> Self {
        let listed = peers.of(Role::Proxy);
        let mut teller = Self { peers, identity, counters, proxies: Vec::new() };
        teller.follow(&listed);
        teller
    }

    /// Tells until the packet thread's end of the queue is gone. What this worker is to keep
    /// itself goes `back` to it.
    pub(super) async fn run(mut self, mut told: mpsc::Receiver<Note>, back: mpsc::Sender<Note>) {
        let mut waiting = Vec::new();
        while told.recv_many(&mut waiting, CALL_NOTES_MAX).await > 0 {
            if self.peers.has_changed() {
                let listed = self.peers.of(Role::Proxy);
                self.follow(&listed);
            }
            let left = self.tell(std::mem::take(&mut waiting)).await;
            for note in left {
                if matches!(note, Note::Dhcp(_)) {
                    Counters::add(&self.counters.kept, 1);
                    // Its end is gone: the packet thread is, too.
                    if back.send(note).await.is_err() {
                        return;
                    }
                } else {
                    Counters::add(&self.counters.untaken, 1);
                }
            }
        }
    }

    /// Gives what nobody took, and what falls to this worker.
    async fn tell(&mut self, mut notes: Vec<Note>) -> Vec<Note> {
        let mut own = Vec::new();
        // Who does not answer is avoided, so that the rounds end.
        for _ in 0..=self.proxies.len() {
            let mut calls = JoinSet::new();
            for (proxy, share) in self.shares(&mut notes) {
                let Some(known) = self.proxies.get(proxy) else { continue };
                let client = known.client.clone();
                calls.spawn(async move { (proxy, call(client, share).await) });
            }
            while let Some(called) = calls.join_next().await {
                match called {
                    Ok((_, Ok(answer))) => {
                        Counters::add(&self.counters.told, answer.taken);
                        Counters::add(&self.counters.reached, answer.reached);
                        own.extend(answer.left);
                    }
                    Ok((proxy, Err((fault, share)))) => {
                        notes.extend(share);
                        self.avoid(proxy, &fault);
                    }
                    Err(error) => tracing::error!(%error, "a call to a proxy ended by a fault"),
                }
            }
            if notes.is_empty() {
                break;
            }
        }
        own.extend(notes);
        own
    }

    /// Takes from `notes` what the proxies that are not avoided own.
    fn shares(&self, notes: &mut Vec<Note>) -> BTreeMap<usize, Vec<Note>> {
        let now = Instant::now();
        let is_open = |proxy: &Proxy| proxy.avoid_until.is_none_or(|until| until <= now);
        let open = || self.proxies.iter().enumerate().filter(|(_, proxy)| is_open(proxy));
        let names: Vec<&str> = open().map(|(_, proxy)| proxy.peer.node.as_str()).collect();
        let places: Vec<usize> = open().map(|(place, _)| place).collect();
        let mut shares: BTreeMap<usize, Vec<Note>> = BTreeMap::new();
        if names.is_empty() {
            return shares;
        }
        for note in notes.drain(..) {
            let ranked = shard::rank(&names, &convert::key(&note));
            let first = ranked.first().and_then(|first| places.get(*first)).copied();
            shares.entry(first.unwrap_or_default()).or_default().push(note);
        }
        shares
    }

    fn avoid(&mut self, proxy: usize, fault: &str) {
        if let Some(proxy) = self.proxies.get_mut(proxy) {
            tracing::warn!(peer = %proxy.peer.node, error = fault, "proxy passed over for notes");
            proxy.avoid_until = Some(Instant::now() + AVOID);
        }
    }

    fn follow(&mut self, listed: &[Peer]) {
        self.proxies.retain(|proxy| listed.contains(&proxy.peer));
        for peer in listed {
            if self.proxies.iter().any(|proxy| proxy.peer == *peer) {
                continue;
            }
            match channel::to_peer(&self.identity, peer) {
                Ok(channel) => self.proxies.push(Proxy {
                    peer: peer.clone(),
                    client: RelayClient::new(channel),
                    avoid_until: None,
                }),
                Err(error) => {
                    tracing::error!(peer = peer.node, %error, "cannot tell this proxy");
                }
            }
        }
    }
}

/// What became of the notes of a call.
#[derive(Debug, Default)]
struct Answer {
    /// Notes that the proxy took.
    taken: usize,
    /// Workers that hear them, of each note.
    reached: usize,
    /// Notes for one worker that nobody took.
    left: Vec<Note>,
}

/// Passes notes on. When that went wrong, gives why, and the notes.
async fn call(
    mut client: RelayClient<PeerChannel>,
    share: Vec<Note>,
) -> Result<Answer, (String, Vec<Note>)> {
    let request = v1::TellRequest { notes: share.iter().map(convert::to_wire).collect() };
    let listeners = match tokio::time::timeout(CALL_TIMEOUT, client.tell(request)).await {
        Ok(Ok(reply)) => reply.into_inner().listeners,
        Ok(Err(status)) => return Err((status.message().to_owned(), share)),
        Err(_) => return Err(("no answer in time".to_owned(), share)),
    };
    if listeners.len() != share.len() {
        return Err(("answer to another number of notes".to_owned(), share));
    }
    let mut answer = Answer::default();
    for (note, listeners) in share.into_iter().zip(listeners) {
        let is_for_one = matches!(note, Note::Dhcp(_) | Note::Transferred(_));
        if is_for_one && listeners == 0 {
            answer.left.push(note);
        } else {
            answer.taken += 1;
            answer.reached += listeners as usize;
        }
    }
    Ok(answer)
}
