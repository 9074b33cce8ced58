//! Tells the other holder of a key what this proxy granted, and hears whether it had granted it
//! to another before. A holder that does not answer in time does not hold up the worker: it
//! will ask for what it missed when it comes back (`handover`).

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::debug;
use tyto_core::config::runtime::Peer;
use tyto_daemon::channel;
use tyto_daemon::channel::PeerChannel;
use tyto_daemon::tls::Identity;
use tyto_proto::v1;
use tyto_proto::v1::state_client::StateClient;

/// How long the other holder may take; a worker's claim waits for it.
const REPLICATE_TIMEOUT: Duration = Duration::from_millis(500);

/// Channels to the other proxies.
#[derive(Clone, Debug)]
pub(crate) struct Partners {
    clients: HashMap<String, StateClient<PeerChannel>>,
}

/// What became of one proxy's share of the copies.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Places of the entries in the claim.
    pub(crate) places: Vec<usize>,
    /// Per entry: granted to another before. None when the proxy did not answer.
    pub(crate) refused: Option<Vec<bool>>,
}

impl Partners {
    /// Channels to all of `proxies` but `me`; they connect when first used.
    ///
    /// # Errors
    /// When `identity` cannot be used.
    pub(crate) fn new(
        proxies: &[Peer],
        me: &str,
        identity: &Identity,
    ) -> Result<Self, tonic::transport::Error> {
        let mut clients = HashMap::new();
        for peer in proxies.iter().filter(|peer| peer.node != me) {
            let client = StateClient::new(channel::to_peer(identity, peer)?)
                .max_decoding_message_size(channel::MESSAGE_BYTES_MAX);
            clients.insert(peer.node.clone(), client);
        }
        Ok(Self { clients })
    }

    /// The proxies and their clients.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &StateClient<PeerChannel>)> {
        self.clients.iter()
    }

    /// Sends each proxy its share of entries, all at once, each with its place in the claim.
    pub(crate) async fn replicate(
        &self,
        shares: HashMap<String, Vec<(usize, v1::Entry)>>,
    ) -> Vec<Outcome> {
        let mut calls = JoinSet::new();
        let mut outcomes = Vec::with_capacity(shares.len());
        for (proxy, share) in shares {
            let (places, entries): (Vec<usize>, Vec<v1::Entry>) = share.into_iter().unzip();
            let Some(client) = self.clients.get(&proxy).cloned() else {
                outcomes.push(Outcome { places, refused: None });
                continue;
            };
            calls.spawn(send(proxy, client, places, entries));
        }
        while let Some(outcome) = calls.join_next().await {
            outcomes.extend(outcome);
        }
        outcomes
    }
}

async fn send(
    proxy: String,
    mut client: StateClient<PeerChannel>,
    places: Vec<usize>,
    entries: Vec<v1::Entry>,
) -> Outcome {
    let call = client.replicate(v1::ReplicateRequest { entries });
    let refused = match tokio::time::timeout(REPLICATE_TIMEOUT, call).await {
        Ok(Ok(reply)) => Some(reply.into_inner().refused),
        Ok(Err(status)) => {
            debug!(peer = proxy, error = status.message(), "other holder did not take the copies");
            None
        }
        Err(_) => {
            debug!(peer = proxy, "other holder did not answer in time");
            None
        }
    };
    Outcome { places, refused }
}
