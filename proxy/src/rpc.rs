//! The State service: claims of workers, copies and handovers of proxies. Messages come in,
//! calls of the table go out; who may call what is decided here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio_stream::Iter;
use tonic::{Request, Response, Status};
use tyto_core::config::runtime::{Peer, Role};
use tyto_core::time::{NANOS, Ts};
use tyto_daemon::health;
use tyto_daemon::tls::{self, Identity};
use tyto_proto::v1;
use tyto_proto::v1::state_server::State;

use crate::handover;
use crate::ownership::Ownership;
use crate::relay::Relay;
use crate::replicate::Partners;
use crate::table::{Answer, Claimant, Grant, Key, Table};

/// Entries of one request at most.
const REQUEST_ENTRIES_MAX: usize = 10_000;
/// Length of a table's name at most, bytes.
const TABLE_LEN_MAX: usize = 64;
/// Length of a key at most, bytes.
const KEY_LEN_MAX: usize = 256;
/// Life of an entry at most, seconds: a year. A longer one would never leave the table.
const EXPIRY_S_MAX: u64 = 366 * 86_400;

/// Tells wall-clock time: entries expire by it.
pub type Clock = Arc<dyn Fn() -> Ts + Send + Sync>;

/// All that the calls of one proxy share.
pub(crate) struct Shared {
    pub(crate) cluster: String,
    pub(crate) node: String,
    /// Replaced when the list of proxies changes.
    pub(crate) members: ArcSwap<Members>,
    pub(crate) table: Table,
    pub(crate) clock: Clock,
    /// Claims are answered: this proxy has gathered its entries.
    pub(crate) ready: AtomicBool,
    pub(crate) counters: Counters,
    /// What workers tell each other.
    pub(crate) relay: Relay,
}

/// The cluster's proxies at one time.
pub(crate) struct Members {
    /// Who holds what.
    pub(crate) ownership: Ownership,
    /// Ways to the others.
    pub(crate) partners: Partners,
}

impl Members {
    /// The members when `proxies` are all, `me` among them.
    ///
    /// # Errors
    /// When `identity` cannot be used.
    pub(crate) fn new(
        proxies: &[Peer],
        me: &str,
        identity: &Identity,
    ) -> Result<Self, tonic::transport::Error> {
        let names = proxies.iter().map(|proxy| proxy.node.clone()).collect();
        let partners = Partners::new(proxies, me, identity)?;
        Ok(Self { ownership: Ownership::new(names, me.to_owned()), partners })
    }
}

/// What a proxy counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Entries that workers asked about.
    claims: AtomicU64,
    /// Of these, entries answered with "first".
    firsts: AtomicU64,
    /// Entries taken from other proxies.
    copies: AtomicU64,
    /// Grants that another proxy had given to another claim before.
    refusals: AtomicU64,
    /// Grants whose other holder did not answer.
    replicate_failures: AtomicU64,
    /// Snapshots that could not be written.
    pub(crate) snapshot_failures: AtomicU64,
}

impl Shared {
    pub(crate) fn now(&self) -> Ts {
        (self.clock)()
    }

    /// The counters of a health report.
    pub(crate) fn report(&self) -> Vec<v1::Counter> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let mut report = vec![
            health::counter("entries", self.table.len() as u64),
            health::counter("claims", of(&counters.claims)),
            health::counter("firsts", of(&counters.firsts)),
            health::counter("copies", of(&counters.copies)),
            health::counter("refusals", of(&counters.refusals)),
            health::counter("evictions", self.table.evictions()),
            health::counter("replicate_failures", of(&counters.replicate_failures)),
            health::counter("snapshot_failures", of(&counters.snapshot_failures)),
        ];
        report.extend(self.relay.report());
        report
    }

    /// Answers the claims of `worker`, in the order of `entries`.
    async fn claim(&self, worker: &str, entries: &[v1::Entry]) -> Result<Vec<bool>, Status> {
        let now = self.now();
        let worker: Arc<str> = worker.into();
        let mut first = Vec::with_capacity(entries.len());
        let mut granted = Vec::new();
        let keys = entries.iter().map(key_from_wire).collect::<Result<Vec<Key>, Status>>()?;
        for (place, (entry, key)) in entries.iter().zip(keys).enumerate() {
            let claimant = Claimant { node: worker.clone(), ts: Ts(entry.ts) };
            let expires_at = expiry_of(entry, now);
            let answer = self.table.claim(&key, &claimant, expires_at, now);
            first.push(answer != Answer::Taken);
            if answer == Answer::Granted {
                granted.push((place, key, claimant, expires_at));
            }
        }
        let refused = self.replicate(&granted, now).await;
        for (place, key, claimant, _) in &granted {
            let refused = refused.contains(place);
            let is_first = self.table.confirm(key, claimant, refused);
            if let Some(answer) = first.get_mut(*place) {
                *answer = is_first;
            }
        }
        let firsts = first.iter().filter(|first| **first).count();
        self.counters.claims.fetch_add(entries.len() as u64, Ordering::Relaxed);
        self.counters.firsts.fetch_add(firsts as u64, Ordering::Relaxed);
        Ok(first)
    }

    /// Copies grants to their other holders. Returns the places of those that another claim
    /// had been granted before.
    async fn replicate(&self, granted: &[(usize, Key, Claimant, Ts)], now: Ts) -> Vec<usize> {
        let members = self.members.load_full();
        let mut shares: HashMap<String, Vec<(usize, v1::Entry)>> = HashMap::new();
        for (place, key, claimant, expires_at) in granted {
            let claimant = Some(claimant.clone());
            let grant = Grant { claimant, expires_at: *expires_at, confirmed: true };
            for holder in members.ownership.other_holders(&key.key) {
                let entry = grant_to_wire(key, &grant, now);
                shares.entry(holder.to_owned()).or_default().push((*place, entry));
            }
        }
        let mut refused = Vec::new();
        for outcome in members.partners.replicate(shares).await {
            let Some(answers) = outcome.refused else {
                let failures = outcome.places.len() as u64;
                self.counters.replicate_failures.fetch_add(failures, Ordering::Relaxed);
                continue;
            };
            let places = outcome.places.into_iter().zip(answers);
            refused.extend(places.filter_map(|(place, refused)| refused.then_some(place)));
        }
        self.counters.refusals.fetch_add(refused.len() as u64, Ordering::Relaxed);
        refused.sort_unstable();
        refused
    }

    /// Takes copies from `proxy`. Returns per entry whether it was refused.
    fn take_copies(&self, proxy: &str, entries: &[v1::Entry]) -> Result<Vec<bool>, Status> {
        let now = self.now();
        let mut refused = Vec::with_capacity(entries.len());
        let members = self.members.load();
        for entry in entries {
            let (key, grant) = grant_from_wire(entry, now)?;
            let outranks_me = members.ownership.outranks_me(proxy, &key.key);
            refused.push(!self.table.accept(&key, grant, outranks_me, now));
        }
        self.counters.copies.fetch_add(entries.len() as u64, Ordering::Relaxed);
        Ok(refused)
    }
}

/// The service of one proxy.
pub(crate) struct StateService {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl State for StateService {
    type HandoverStream = Iter<std::vec::IntoIter<Result<v1::Entry, Status>>>;

    async fn claim(
        &self,
        request: Request<v1::ClaimRequest>,
    ) -> Result<Response<v1::ClaimReply>, Status> {
        let worker = tls::require(&request, &self.shared.cluster, &[Role::Worker])?;
        if !self.shared.ready.load(Ordering::Acquire) {
            return Err(Status::unavailable("this proxy still gathers its entries"));
        }
        let entries = request.into_inner().entries;
        check_count(&entries)?;
        let first = self.shared.claim(&worker.node, &entries).await?;
        Ok(Response::new(v1::ClaimReply { first }))
    }

    async fn replicate(
        &self,
        request: Request<v1::ReplicateRequest>,
    ) -> Result<Response<v1::ReplicateReply>, Status> {
        let proxy = tls::require(&request, &self.shared.cluster, &[Role::Proxy])?;
        let entries = request.into_inner().entries;
        check_count(&entries)?;
        let refused = self.shared.take_copies(&proxy.node, &entries)?;
        Ok(Response::new(v1::ReplicateReply { refused }))
    }

    async fn handover(
        &self,
        request: Request<v1::HandoverRequest>,
    ) -> Result<Response<Self::HandoverStream>, Status> {
        let caller = tls::require(&request, &self.shared.cluster, &[Role::Proxy])?;
        let v1::HandoverRequest { proxy, proxies } = request.into_inner();
        check_count(&proxies)?;
        if proxy != caller.node {
            return Err(Status::permission_denied(format!(
                "`{}` may not take over the entries of `{proxy}`",
                caller.node
            )));
        }
        let shared = self.shared.clone();
        // Walks the whole table: off the threads that answer claims.
        let walk = move || handover::entries_for(&shared, &proxy, proxies, shared.now());
        let entries = tokio::task::spawn_blocking(walk)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let results: Vec<Result<v1::Entry, Status>> = entries.into_iter().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(results)))
    }
}

/// A grant as it goes to another proxy.
pub(crate) fn grant_to_wire(key: &Key, grant: &Grant, now: Ts) -> v1::Entry {
    let left_ns = grant.expires_at.0.saturating_sub(now.0);
    let (ts, claimer) =
        grant.claimant.as_ref().map_or_else(Default::default, |c| (c.ts.0, c.node.to_string()));
    v1::Entry {
        table: key.table.to_string(),
        key: key.key.to_vec(),
        ts,
        expiry_s: left_ns.div_ceil(NANOS),
        claimer,
    }
}

/// A grant of another proxy.
///
/// # Errors
/// `INVALID_ARGUMENT` when a part is too long.
pub(crate) fn grant_from_wire(entry: &v1::Entry, now: Ts) -> Result<(Key, Grant), Status> {
    let key = key_from_wire(entry)?;
    let claimant = (!entry.claimer.is_empty())
        .then(|| Claimant { node: entry.claimer.as_str().into(), ts: Ts(entry.ts) });
    Ok((key, Grant { claimant, expires_at: expiry_of(entry, now), confirmed: true }))
}

fn key_from_wire(entry: &v1::Entry) -> Result<Key, Status> {
    let fits = !entry.table.is_empty()
        && entry.table.len() <= TABLE_LEN_MAX
        && entry.key.len() <= KEY_LEN_MAX
        && entry.claimer.len() <= KEY_LEN_MAX;
    if !fits {
        return Err(Status::invalid_argument(format!(
            "table, key or claimer has a length out of bounds: {} (1 to {TABLE_LEN_MAX}), {}, {} (to {KEY_LEN_MAX})",
            entry.table.len(),
            entry.key.len(),
            entry.claimer.len()
        )));
    }
    Ok(Key { table: entry.table.as_str().into(), key: entry.key.as_slice().into() })
}

fn expiry_of(entry: &v1::Entry, now: Ts) -> Ts {
    now.plus_secs(entry.expiry_s.min(EXPIRY_S_MAX))
}

fn check_count<T>(entries: &[T]) -> Result<(), Status> {
    if entries.len() > REQUEST_ENTRIES_MAX {
        let found = entries.len();
        return Err(Status::invalid_argument(format!(
            "{found} entries; expected {REQUEST_ENTRIES_MAX} at most"
        )));
    }
    Ok(())
}
