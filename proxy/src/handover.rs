//! What a proxy does before it answers claims: asks the others for the entries that it is to
//! hold. While it was away, they were granted elsewhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;
use tracing::{info, warn};
use tyto_core::time::Ts;
use tyto_proto::v1;
use tyto_proto::v1::state_client::StateClient;

use crate::rpc::{self, Shared};

/// How long one proxy may take to hand over. Past it, what did not come yet may be granted
/// a second time.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Gathers this proxy's entries from all others that live, all at once.
pub(crate) async fn gather(shared: &Arc<Shared>) {
    let mut calls = JoinSet::new();
    for (proxy, client) in shared.peers.iter() {
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
async fn take(shared: &Shared, mut client: StateClient<Channel>) -> Result<u64, Status> {
    let request = v1::HandoverRequest { proxy: shared.node.clone() };
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

/// The entries that `proxy` is to hold, as they go over the wire.
pub(crate) fn entries_for(shared: &Shared, proxy: &str, now: Ts) -> Vec<v1::Entry> {
    let mut entries = Vec::new();
    shared.table.for_each(now, |key, grant| {
        if shared.ownership.holds(proxy, &key.key) {
            entries.push(rpc::grant_to_wire(key, grant, now));
        }
    });
    entries
}
