//! What a proxy does before it answers claims, and when the list of proxies has changed: asks
//! the others for the entries that it is to hold. They were granted elsewhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Status;
use tracing::{info, warn};
use tyto_core::time::Ts;
use tyto_daemon::channel::PeerChannel;
use tyto_proto::v1;
use tyto_proto::v1::state_client::StateClient;

use crate::ownership::Ownership;
use crate::rpc::{self, Shared};

/// How long one proxy may take to hand over. Past it, what did not come yet may be granted
/// a second time.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Gathers this proxy's entries from all others that live, all at once.
pub(crate) async fn gather(shared: &Arc<Shared>) {
    let mut calls = JoinSet::new();
    for (proxy, client) in shared.members.load().partners.iter() {
        let (proxy, client, shared) = (proxy.clone(), client.clone(), shared.clone());
        calls.spawn(async move {
            let taken = tokio::time::timeout(HANDOVER_TIMEOUT, take(&shared, client)).await;
            (proxy, taken)
        });
    }
    while let Some(joined) = calls.join_next().await {
        match joined {
            Ok((peer, Ok(Ok(entries)))) => info!(peer, entries, "entries taken over"),
            // The usual case when the cluster starts: the other proxy is not there yet.
            Ok((peer, Ok(Err(status)))) => {
                info!(peer, error = status.message(), "no entries from this proxy");
            }
            Ok((peer, Err(_))) => warn!(peer, "handover was cut off; it took too long"),
            Err(error) => warn!(%error, "handover ended by a fault"),
        }
    }
}

/// Takes all entries that one proxy hands over and returns how many were new here.
async fn take(shared: &Shared, mut client: StateClient<PeerChannel>) -> Result<u64, Status> {
    let proxies = shared.members.load().ownership.proxies().to_vec();
    let request = v1::HandoverRequest { proxy: shared.node.clone(), proxies };
    let mut entries = client.handover(request).await?.into_inner();
    let mut taken = 0;
    while let Some(entry) = entries.message().await? {
        let now = shared.now();
        let (key, grant) = rpc::grant_from_wire(&entry, now)?;
        // Whatever we hold of our own is from before we were away: it does not outrank.
        taken += u64::from(shared.table.accept(&key, grant, false, now));
    }
    Ok(taken)
}

/// The entries that `proxy` is to hold among `proxies`, as they go over the wire. With an empty
/// list, among those that this proxy knows.
pub(crate) fn entries_for(
    shared: &Shared,
    proxy: &str,
    proxies: Vec<String>,
    now: Ts,
) -> Vec<v1::Entry> {
    let mut entries = Vec::new();
    let ownership = if proxies.is_empty() {
        shared.members.load().ownership.clone()
    } else {
        Ownership::new(proxies, shared.node.clone())
    };
    shared.table.for_each(now, |key, grant| {
        if ownership.holds(proxy, &key.key) {
            entries.push(rpc::grant_to_wire(key, grant, now));
        }
    });
    entries
}
