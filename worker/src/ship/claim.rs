//! Rows that count only when nobody in the cluster wrote the like before (known_hosts): the
//! proxy that owns the key says so, and the row goes on its way when it was first.
//!
//! The owner is the first in rank among the configured proxies that answers. Without any
//! proxy (standalone) a table in this process decides. Claims wait for their answer in a
//! bounded queue; what does not fit is dropped by the packet thread and counted.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tyto_capture::account::Account;
use tyto_core::config::runtime::{Peer, Role};
use tyto_core::shard;
use tyto_core::time::Ts;
use tyto_daemon::channel;
use tyto_daemon::channel::PeerChannel;
use tyto_daemon::peers::Peers;
use tyto_daemon::tls::Identity;
use tyto_proto::v1::state_client::StateClient;
use tyto_proto::v1::{ClaimRequest, Entry};
use tyto_writer::RowTimes;

use super::batch::{Intake, RowBatch};
use super::ledger::Reason;
use crate::output::{Claim, ClaimKey, StreamRef};

/// Claims that may wait for an answer.
pub(crate) const CLAIMS_MAX: usize = 10_000;
/// Claims asked for in one call.
const CALL_CLAIMS_MAX: usize = 512;
/// A claim waits this long for company.
const GATHER: Duration = Duration::from_millis(20);
/// How long a proxy may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// A proxy that did not answer is passed over for this long.
const AVOID: Duration = Duration::from_secs(1);
/// When no proxy answers, all are asked again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(300);
/// Claims that the table of a node without proxies remembers. Past it, and when none of them
/// has run out, further ones are granted without being remembered.
const TABLE_MAX: usize = 1 << 20;

/// A row and the claim that it hangs on.
#[derive(Clone, Debug)]
pub(crate) struct ClaimedRow {
    pub(crate) claim: Claim,
    pub(crate) stream: StreamRef,
    /// The row as a batch carries it.
    pub(crate) row: Bytes,
}

/// Who decides claims.
#[derive(Debug)]
pub(crate) enum Court {
    /// The cluster's proxies, and where they come from.
    Proxies(Vec<Proxy>, Option<Roster>),
    /// This process, alone.
    Table(Table),
}

/// A proxy and when it may be asked again.
#[derive(Debug)]
pub(crate) struct Proxy {
    node: String,
    addr: SocketAddr,
    client: StateClient<PeerChannel>,
    avoid_until: Option<Instant>,
}

/// The list of proxies, which a deploy may change while the node runs.
#[derive(Debug)]
pub(crate) struct Roster {
    peers: Peers,
    identity: Identity,
}

/// Claims of this process: when they run out, packet time.
#[derive(Debug, Default)]
pub(crate) struct Table {
    claims: HashMap<(&'static str, ClaimKey), Ts>,
}

impl Court {
    /// The proxies of `peers` for a node with an identity, else a table.
    ///
    /// # Errors
    /// When our certificate or key cannot be used.
    pub(crate) fn new(
        mut peers: Peers,
        identity: Option<&Identity>,
    ) -> Result<Self, tonic::transport::Error> {
        let listed = peers.of(Role::Proxy);
        let Some(identity) = identity.filter(|_| !listed.is_empty()) else {
            return Ok(Self::Table(Table::default()));
        };
        let proxies = listed.iter().map(|peer| Proxy::new(identity, peer));
        let proxies = proxies.collect::<Result<_, _>>()?;
        Ok(Self::Proxies(proxies, Some(Roster { peers, identity: identity.clone() })))
    }

    /// Decides claims until their senders are gone, or until `end`: then what has no answer
    /// is counted as dropped.
    pub(crate) async fn run(
        mut self,
        mut claims: mpsc::Receiver<ClaimedRow>,
        rows: mpsc::Sender<Intake>,
        end: CancellationToken,
        account: Option<Account>,
    ) {
        let mut waiting = Vec::new();
        while claims.recv_many(&mut waiting, CALL_CLAIMS_MAX).await > 0 {
            if waiting.len() < CALL_CLAIMS_MAX {
                tokio::time::sleep(GATHER).await;
                while waiting.len() < CALL_CLAIMS_MAX
                    && let Ok(claim) = claims.try_recv()
                {
                    waiting.push(claim);
                }
            }
            let mut granted = Vec::new();
            while !waiting.is_empty() {
                let mut decided = streams(&waiting);
                self.decide(&mut waiting, &mut granted).await;
                count(account.as_ref(), &streams(&granted), Account::add_row);
                if !forward(&mut granted, &rows).await {
                    return;
                }
                for wanted in &waiting {
                    if let Some(i) = decided.iter().position(|name| *name == wanted.stream.name) {
                        decided.swap_remove(i);
                    }
                }
                count(account.as_ref(), &decided, Account::claim_done);
                if waiting.is_empty() {
                    break;
                }
                if end.is_cancelled() {
                    while let Ok(claim) = claims.try_recv() {
                        waiting.push(claim);
                    }
                    count(account.as_ref(), &streams(&waiting), Account::add_row);
                    give_up(&waiting, &rows).await;
                    return count(account.as_ref(), &streams(&waiting), Account::claim_done);
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Moves what is decided out of `waiting`, and of that what was first to `granted`.
    async fn decide(&mut self, waiting: &mut Vec<ClaimedRow>, granted: &mut Vec<ClaimedRow>) {
        match self {
            Self::Table(table) => {
                granted.extend(waiting.drain(..).filter(|wanted| table.is_first(&wanted.claim)));
            }
            Self::Proxies(proxies, roster) => {
                if let Some(roster) = roster {
                    roster.follow(proxies);
                }
                // Each round asks the first in rank that is not avoided; who does not answer
                // is avoided, so that the rounds end.
                for _ in 0..=proxies.len() {
                    let Some((proxy, asked)) = pick(proxies, waiting) else { return };
                    match ask(&mut proxies[proxy], &asked).await {
                        Some(first) => granted.extend(
                            asked
                                .into_iter()
                                .zip(first)
                                .filter(|(_, first)| *first)
                                .map(|(c, _)| c),
                        ),
                        None => waiting.extend(asked),
                    }
                    if waiting.is_empty() {
                        return;
                    }
                }
            }
        }
    }
}

impl Proxy {
    fn new(identity: &Identity, peer: &Peer) -> Result<Self, tonic::transport::Error> {
        let client = StateClient::new(channel::to_peer(identity, peer)?);
        Ok(Self { node: peer.node.clone(), addr: peer.addr, client, avoid_until: None })
    }
}

impl Roster {
    /// Makes `proxies` those of the list, if that has changed. A list without proxies changes
    /// nothing: somebody has to decide.
    fn follow(&mut self, proxies: &mut Vec<Proxy>) {
        if !self.peers.has_changed() {
            return;
        }
        let listed = self.peers.of(Role::Proxy);
        let mut fresh = Vec::with_capacity(listed.len());
        for peer in &listed {
            let known = proxies.iter().position(|p| p.node == peer.node && p.addr == peer.addr);
            match known.map_or_else(
                || Proxy::new(&self.identity, peer),
                |place| Ok(proxies.swap_remove(place)),
            ) {
                Ok(proxy) => fresh.push(proxy),
                Err(error) => {
                    tracing::error!(peer = peer.node, %error, "cannot ask this proxy");
                }
            }
        }
        if !fresh.is_empty() {
            *proxies = fresh;
        }
    }
}

impl Table {
    fn is_first(&mut self, claim: &Claim) -> bool {
        let key = (claim.table, claim.key);
        if self.claims.get(&key).is_some_and(|until| claim.ts < *until) {
            return false;
        }
        if self.claims.len() >= TABLE_MAX {
            self.claims.retain(|_, until| claim.ts < *until);
        }
        if self.claims.len() < TABLE_MAX {
            self.claims.insert(key, claim.ts.plus_secs(claim.expiry_s));
        }
        true
    }
}

/// Takes the claims of one proxy out of `waiting`: those that rank it first among the proxies
/// that are not avoided.
fn pick(proxies: &[Proxy], waiting: &mut Vec<ClaimedRow>) -> Option<(usize, Vec<ClaimedRow>)> {
    let now = Instant::now();
    let open: Vec<usize> = (0..proxies.len())
        .filter(|&i| proxies[i].avoid_until.is_none_or(|until| until <= now))
        .collect();
    let names: Vec<&str> = open.iter().map(|&i| proxies[i].node.as_str()).collect();
    let owner = |wanted: &ClaimedRow| {
        shard::rank(&names, wanted.claim.key.as_bytes()).first().map(|&place| open[place])
    };
    let proxy = waiting.first().and_then(owner)?;
    let (asked, rest) =
        waiting.drain(..).partition(|wanted: &ClaimedRow| owner(wanted) == Some(proxy));
    *waiting = rest;
    Some((proxy, asked))
}

async fn ask(proxy: &mut Proxy, asked: &[ClaimedRow]) -> Option<Vec<bool>> {
    let entries = asked.iter().map(|wanted| Entry {
        table: wanted.claim.table.to_owned(),
        key: wanted.claim.key.as_bytes().to_vec(),
        ts: wanted.claim.ts.0,
        expiry_s: wanted.claim.expiry_s,
        ..Entry::default()
    });
    let request = ClaimRequest { entries: entries.collect() };
    let fault = match tokio::time::timeout(CALL_TIMEOUT, proxy.client.claim(request)).await {
        Ok(Ok(reply)) => {
            let first = reply.into_inner().first;
            if first.len() == asked.len() {
                return Some(first);
            }
            "answer to another number of claims".to_owned()
        }
        Ok(Err(status)) => status.message().to_owned(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(peer = %proxy.node, error = %fault, "proxy passed over");
    proxy.avoid_until = Some(Instant::now() + AVOID);
    None
}

fn streams(claims: &[ClaimedRow]) -> Vec<&'static str> {
    claims.iter().map(|wanted| wanted.stream.name).collect()
}

/// Notes where the next life finds it what became of claims, one per entry of `streams`.
fn count(account: Option<&Account>, streams: &[&'static str], how: fn(&Account, &str)) {
    if let Some(account) = account {
        streams.iter().for_each(|stream| how(account, stream));
    }
}

/// Granted rows of one log stream.
struct RowBatchDraft {
    stream: StreamRef,
    rows: u32,
    payload: Vec<u8>,
    times: RowTimes,
}

/// Hands granted rows to the ship thread, a batch per stream. False when that has ended.
async fn forward(granted: &mut Vec<ClaimedRow>, rows: &mpsc::Sender<Intake>) -> bool {
    let mut batches: BTreeMap<&'static str, RowBatchDraft> = BTreeMap::new();
    for wanted in granted.drain(..) {
        let stream = wanted.stream;
        let ts = wanted.claim.ts.0;
        let times = RowTimes { first_ns: ts, last_ns: ts };
        let batch = batches.entry(stream.name).or_insert_with(|| RowBatchDraft {
            stream,
            rows: 0,
            payload: Vec::new(),
            times,
        });
        batch.rows += 1;
        batch.payload.extend_from_slice(&wanted.row);
        batch.times.first_ns = batch.times.first_ns.min(ts);
        batch.times.last_ns = batch.times.last_ns.max(ts);
    }
    for RowBatchDraft { stream, rows: count, payload, times } in batches.into_values() {
        let batch = RowBatch { stream, rows: count, payload: payload.into(), times };
        if rows.send(Intake::Rows(batch)).await.is_err() {
            return false;
        }
    }
    true
}

async fn give_up(waiting: &[ClaimedRow], rows: &mpsc::Sender<Intake>) {
    let mut dropped: BTreeMap<&'static str, u64> = BTreeMap::new();
    for wanted in waiting {
        *dropped.entry(wanted.stream.name).or_default() += 1;
    }
    tracing::error!(rows = waiting.len(), "no proxy decided on rows; dropped");
    for (stream, rows_dropped) in dropped {
        let told = Intake::Dropped { stream, rows: rows_dropped, reason: Reason::Unclaimed };
        if rows.send(told).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tyto_core::record::schema::Schema;

    use super::*;

    const HOSTS: StreamRef = StreamRef {
        name: "known_hosts",
        schema: || Schema { stream: "known_hosts".into(), fields: Vec::new() },
    };

    fn wanted(last: u8, secs: u64) -> ClaimedRow {
        let key = IpAddr::from([192, 0, 2, last]).into();
        let claim = Claim { table: "known_hosts", key, ts: Ts::new(secs, 0), expiry_s: 60 };
        ClaimedRow { claim, stream: HOSTS, row: Bytes::from_static(b"row") }
    }

    fn proxies() -> Vec<Proxy> {
        let proxy = |node: &str| Proxy {
            node: node.to_owned(),
            addr: ([127, 0, 0, 1], 1).into(),
            // Never dialled here.
            client: StateClient::new(channel::to_socket(std::path::Path::new("/nowhere")).into()),
            avoid_until: None,
        };
        ["proxy-1", "proxy-2", "proxy-3"].map(proxy).into()
    }

    /// The owner of the first claim, and the hosts asked of it.
    fn first_call(proxies: &[Proxy]) -> (usize, Vec<ClaimKey>, usize) {
        let mut waiting: Vec<_> = (0..60).map(|last| wanted(last, 1)).collect();
        let (proxy, asked) = pick(proxies, &mut waiting).unwrap();
        (proxy, asked.iter().map(|wanted| wanted.claim.key).collect(), waiting.len())
    }

    #[tokio::test]
    async fn claims_go_to_the_proxy_that_ranks_first_for_their_key() {
        let proxies = proxies();
        let (owner, asked, left) = first_call(&proxies);
        let names = ["proxy-1", "proxy-2", "proxy-3"];
        let owns = |key: &ClaimKey| shard::rank(&names, key.as_bytes())[0] == owner;
        let of_all = (0..60).map(|last| IpAddr::from([192, 0, 2, last]).into()).filter(owns);
        assert_eq!(asked, of_all.collect::<Vec<_>>());
        assert_eq!(asked.len() + left, 60);
        assert!(left > 0);
    }

    #[tokio::test]
    async fn a_proxy_that_did_not_answer_is_passed_over_and_none_left_means_waiting() {
        let mut proxies = proxies();
        let (owner, ..) = first_call(&proxies);
        proxies[owner].avoid_until = Some(Instant::now() + Duration::from_secs(60));
        assert_ne!(first_call(&proxies).0, owner);
        for proxy in &mut proxies {
            proxy.avoid_until = Some(Instant::now() + Duration::from_secs(60));
        }
        let mut waiting = vec![wanted(1, 1)];
        assert!(pick(&proxies, &mut waiting).is_none());
        assert_eq!(waiting.len(), 1);
    }

    #[tokio::test]
    async fn without_proxies_a_row_counts_once_within_its_expiry() {
        let (claims, asked) = mpsc::channel(8);
        let (rows, mut intake) = mpsc::channel(8);
        for (last, secs) in [(1, 100), (1, 159), (2, 100), (1, 160)] {
            claims.send(wanted(last, secs)).await.unwrap();
        }
        drop(claims);
        Court::Table(Table::default()).run(asked, rows, CancellationToken::new(), None).await;
        let Some(Intake::Rows(batch)) = intake.recv().await else { panic!("no rows") };
        assert_eq!((batch.rows, &batch.payload[..]), (3, &b"rowrowrow"[..]));
    }

    #[tokio::test]
    async fn what_no_proxy_decided_before_the_end_is_counted_as_dropped() {
        let (claims, asked) = mpsc::channel(8);
        let (rows, mut intake) = mpsc::channel(8);
        claims.send(wanted(1, 1)).await.unwrap();
        claims.send(wanted(2, 1)).await.unwrap();
        let end = CancellationToken::new();
        end.cancel();
        Court::Proxies(proxies(), None).run(asked, rows, end, None).await;
        let told = intake.recv().await;
        assert!(matches!(
            told,
            Some(Intake::Dropped { stream: "known_hosts", rows: 2, reason: Reason::Unclaimed })
        ));
    }
}
