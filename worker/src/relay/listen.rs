//! Listens at every proxy for what other workers tell.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tyto_core::config::runtime::{Peer, Role};
use tyto_daemon::channel;
use tyto_daemon::peers::Peers;
use tyto_daemon::tls::Identity;
use tyto_proto::v1;
use tyto_proto::v1::relay_client::RelayClient;

use super::{Counters, convert};
use crate::neighbours::Note;

/// A proxy that does not let us listen is asked again after this long.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// How long the last notes may take after we left.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// What every listener needs.
#[derive(Clone, Debug)]
struct Ear {
    heard: mpsc::Sender<Note>,
    leave: CancellationToken,
    counters: Arc<Counters>,
}

/// Listens at the proxies of `peers`, also when they change, until `leave`; then as long as
/// proxies still have notes, within bounds.
pub(super) async fn follow(
    mut peers: Peers,
    identity: Identity,
    heard: mpsc::Sender<Note>,
    leave: CancellationToken,
    counters: Arc<Counters>,
) {
    let ear = Ear { heard, leave, counters };
    let mut tasks = JoinSet::new();
    let mut running: HashMap<String, (Peer, CancellationToken)> = HashMap::new();
    loop {
        let listed = peers.of(Role::Proxy);
        running.retain(|_, (peer, end)| {
            let stays = listed.contains(peer);
            if !stays {
                end.cancel();
            }
            stays
        });
        for peer in listed {
            if running.contains_key(&peer.node) {
                continue;
            }
            let end = ear.leave.child_token();
            running.insert(peer.node.clone(), (peer.clone(), end.clone()));
            let ear = Ear { leave: end, ..ear.clone() };
            tasks.spawn(listen(peer, identity.clone(), ear));
        }
        tokio::select! {
            () = peers.changed() => {}
            () = ear.leave.cancelled() => break,
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn listen(peer: Peer, identity: Identity, ear: Ear) {
    let client = match channel::to_peer(&identity, &peer) {
        Ok(channel) => {
            RelayClient::new(channel).max_decoding_message_size(channel::MESSAGE_BYTES_MAX)
        }
        Err(error) => {
            tracing::error!(peer = peer.node, %error, "cannot listen at this proxy");
            return;
        }
    };
    let mut was_there = true;
    while !ear.leave.is_cancelled() && !ear.heard.is_closed() {
        let begun = Instant::now();
        match hear(client.clone(), &identity, &ear).await {
            Ok(()) => tracing::debug!(peer = peer.node, "listening ended"),
            // Told once: it is asked again several times a second.
            Err(status) if was_there => {
                tracing::warn!(peer = peer.node, error = status.message(), "not listening");
            }
            Err(_) => {}
        }
        was_there = begun.elapsed() > AGAIN_AFTER;
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            () = ear.leave.cancelled() => {}
        }
    }
}

/// Hears what one proxy passes on until that ends, or until we left, or have other certificates
/// than those of this call, and have what waited.
async fn hear(
    mut client: RelayClient<channel::PeerChannel>,
    identity: &Identity,
    ear: &Ear,
) -> Result<(), Status> {
    let over = async {
        tokio::select! {
            () = ear.leave.cancelled() => {}
            () = identity.changed() => {}
        }
    };
    tokio::pin!(over);
    let (own, words) = mpsc::channel(1);
    if own.send(v1::Listening {}).await.is_err() {
        return Ok(());
    }
    let mut own = Some(own);
    let mut notes = tokio::select! {
        listening = client.listen(ReceiverStream::new(words)) => listening?.into_inner(),
        () = ear.leave.cancelled() => return Ok(()),
    };
    let mut deadline = Instant::now();
    loop {
        tokio::select! {
            () = &mut over, if own.is_some() => {
                own = None;
                deadline = Instant::now() + LEAVE_MAX;
            }
            () = tokio::time::sleep_until(deadline), if own.is_none() => return Ok(()),
            said = notes.message() => {
                let Some(said) = said? else { return Ok(()) };
                for note in said.notes {
                    let Some(note) = convert::from_wire(note) else {
                        Counters::add(&ear.counters.unread, 1);
                        continue;
                    };
                    Counters::add(&ear.counters.heard, 1);
                    // The packet thread is behind: the rest waits at the proxy.
                    if ear.heard.send(note).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
