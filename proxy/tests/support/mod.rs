//! A cluster of proxies on loopback, with a real CA and a runtime per proxy, so that killing
//! one ends all of it at once, as SIGKILL would.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tonic::{Code, Status};
use tyto_core::config::runtime::{NodeConfig, Peer, PeersConfig, Role};
use tyto_core::layout::Layout;
use tyto_core::time::Ts;
use tyto_daemon::channel::PeerChannel;
use tyto_daemon::shutdown::CancellationToken;
use tyto_daemon::tls::{self, Identity};
use tyto_daemon::{channel, telemetry};
use tyto_proto::v1;
use tyto_proto::v1::relay_client::RelayClient;
use tyto_proto::v1::state_client::StateClient;
use tyto_proxy::node;

const CLUSTER: &str = "test";
/// How long a proxy may take to answer claims.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a proxy may take to follow another list of proxies: it looks each second.
const FOLLOW_TIME: Duration = Duration::from_millis(2_500);
/// Life of the entries claimed here, seconds.
pub(crate) const EXPIRY_S: u64 = 86_400;

/// A cluster of configured proxies, of which some run.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    peers: Vec<Peer>,
    /// Wall-clock time of all proxies.
    clock: Arc<AtomicU64>,
}

/// One running proxy.
pub(crate) struct Running {
    runtime: tokio::runtime::Runtime,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    shutdown: CancellationToken,
}

impl Cluster {
    /// A cluster with the proxies `names`, none of them running.
    pub(crate) fn new(names: &[&str]) -> Self {
        telemetry::init();
        tls::install_crypto();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        std::fs::create_dir_all(layout.tls()).unwrap();
        std::fs::write(layout.ca_cert(), ca_pem).unwrap();
        let peers = names
            .iter()
            .map(|name| Peer { node: (*name).into(), role: Role::Proxy, addr: free_address() })
            .collect();
        let clock = Arc::new(AtomicU64::new(Ts::new(1_000_000, 0).0));
        let cluster = Self { folder, issuer: Issuer::new(params, key), peers, clock };
        for name in names {
            cluster.issue(name, Role::Proxy);
        }
        cluster
    }

    /// Starts a proxy; returns when it answers claims.
    pub(crate) fn start(&self, name: &str) -> Running {
        let runtime = runtime();
        let shutdown = CancellationToken::new();
        let clock = self.clock.clone();
        let task = runtime.spawn(node::run_with(
            self.config(name, Role::Proxy),
            Arc::new(move || Ts(clock.load(Ordering::Relaxed))),
            shutdown.clone(),
        ));
        self.wait_until_ready(name);
        Running { runtime, task, shutdown }
    }

    /// Returns when the proxy answers claims.
    pub(crate) fn wait_until_ready(&self, name: &str) {
        let worker = self.worker("worker-ready");
        let until = std::time::Instant::now() + READY_TIMEOUT;
        while let Err(status) = worker.claim(name, &[]) {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            assert!(std::time::Instant::now() < until, "{name} never answered: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets time pass for all proxies.
    pub(crate) fn pass(&self, secs: u64) {
        self.clock.fetch_add(Ts::new(secs, 0).0, Ordering::Relaxed);
    }

    /// Makes `names` the proxies of the release in use, as a deploy does, and waits until the
    /// running ones have seen it.
    pub(crate) fn release(&self, names: &[&str]) {
        let peers = self.peers.iter().filter(|peer| names.contains(&peer.node.as_str()));
        let list = PeersConfig { peers: peers.cloned().collect(), ..PeersConfig::default() };
        let path = Layout::new(self.folder.path()).peers();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, serde_yaml::to_string(&list).unwrap()).unwrap();
        std::fs::rename(fresh, path).unwrap();
        std::thread::sleep(FOLLOW_TIME);
    }

    /// Loses a proxy's disk.
    pub(crate) fn empty_disk(&self, name: &str) {
        let spool = Layout::new(self.folder.path()).node_spool(name);
        std::fs::remove_dir_all(spool).unwrap();
    }

    /// Where a proxy keeps its snapshot.
    pub(crate) fn snapshot(&self, name: &str) -> PathBuf {
        Layout::new(self.folder.path()).node_spool(name).join("snapshot")
    }

    /// A worker that can call the proxies.
    pub(crate) fn worker(&self, name: &str) -> Caller {
        self.caller(name, Role::Worker)
    }

    /// A node of `role` that can call the proxies.
    pub(crate) fn caller(&self, name: &str, role: Role) -> Caller {
        self.issue(name, role);
        let identity = Identity::load(&self.config(name, role)).unwrap();
        let runtime = runtime();
        let guard = runtime.enter();
        let channels = self
            .peers
            .iter()
            .map(|peer| {
                let channel = channel::to_peer(&identity, peer).unwrap();
                (peer.node.clone(), channel)
            })
            .collect();
        drop(guard);
        Caller { runtime, channels }
    }

    /// The configuration of a node.
    pub(crate) fn config(&self, name: &str, role: Role) -> NodeConfig {
        NodeConfig {
            listen: self.peers.iter().find(|peer| peer.node == name).map(|peer| peer.addr),
            peers: self.peers.clone(),
            ..NodeConfig::new(CLUSTER, name, role, self.folder.path())
        }
    }

    fn issue(&self, name: &str, role: Role) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let uri = format!("spiffe://{CLUSTER}/{role}/{name}");
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let layout = Layout::new(self.folder.path());
        std::fs::write(layout.node_cert(name), cert.pem()).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(layout.node_key(name))
            .unwrap();
        std::io::Write::write_all(&mut file, key.serialize_pem().as_bytes()).unwrap();
    }
}

impl Running {
    /// Ends the proxy at once, without its orderly end.
    pub(crate) fn kill(self) {
        // Each task ends where it waits; the time is for the threads to get there.
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }

    /// Ends the proxy as SIGTERM does.
    pub(crate) fn stop(self) {
        self.shutdown.cancel();
        self.runtime.block_on(self.task).unwrap().unwrap();
    }
}

/// A node that calls proxies.
pub(crate) struct Caller {
    runtime: tokio::runtime::Runtime,
    channels: Vec<(String, PeerChannel)>,
}

impl Caller {
    /// Claims `keys` at `proxy`, seen at packet time 1.
    pub(crate) fn claim(&self, proxy: &str, keys: &[&[u8]]) -> Result<Vec<bool>, Status> {
        let entries = keys
            .iter()
            .map(|key| v1::Entry {
                table: "known_hosts".into(),
                key: key.to_vec(),
                ts: 1,
                expiry_s: EXPIRY_S,
                claimer: String::new(),
            })
            .collect();
        let mut client = self.client(proxy);
        let call = client.claim(v1::ClaimRequest { entries });
        Ok(self.runtime.block_on(call)?.into_inner().first)
    }

    /// Asks `proxy` for the entries of `of`.
    pub(crate) fn handover(&self, proxy: &str, of: &str) -> Result<Vec<v1::Entry>, Status> {
        let mut client = self.client(proxy);
        self.runtime.block_on(async {
            let request = v1::HandoverRequest { proxy: of.into(), proxies: Vec::new() };
            let mut stream = client.handover(request).await?.into_inner();
            let mut entries = Vec::new();
            while let Some(entry) = stream.message().await? {
                entries.push(entry);
            }
            Ok(entries)
        })
    }

    /// Sends `proxy` a copy.
    pub(crate) fn replicate(&self, proxy: &str) -> Result<(), Status> {
        let mut client = self.client(proxy);
        let call = client.replicate(v1::ReplicateRequest { entries: Vec::new() });
        self.runtime.block_on(call).map(drop)
    }

    /// Tells `proxy` a note with a key of `key_len` bytes. Gives how many workers hear it.
    pub(crate) fn tell(&self, proxy: &str, key_len: usize) -> Result<Vec<u32>, Status> {
        let about = v1::note::About::Attention(v1::Attention { ts: 1 });
        let note = v1::Note { key: vec![0; key_len], about: Some(about) };
        let mut client = RelayClient::new(self.channel(proxy));
        let call = client.tell(v1::TellRequest { notes: vec![note] });
        Ok(self.runtime.block_on(call)?.into_inner().listeners)
    }

    /// Listens at `proxy`.
    pub(crate) fn listen(&self, proxy: &str) -> Result<Heard, Status> {
        let mut client = RelayClient::new(self.channel(proxy));
        let (own, words) = tokio::sync::mpsc::channel(1);
        own.try_send(v1::Listening {}).unwrap();
        let words = tokio_stream::wrappers::ReceiverStream::new(words);
        let notes = self.runtime.block_on(client.listen(words))?.into_inner();
        Ok(Heard { own: Some(own), notes })
    }

    /// What a listener hears next; None when the proxy has ended its call.
    pub(crate) fn hear(&self, heard: &mut Heard) -> Result<Option<v1::Notes>, Status> {
        self.runtime.block_on(heard.notes.message())
    }

    fn client(&self, proxy: &str) -> StateClient<PeerChannel> {
        StateClient::new(self.channel(proxy))
    }

    fn channel(&self, proxy: &str) -> PeerChannel {
        self.channels.iter().find(|(name, _)| name == proxy).unwrap().1.clone()
    }
}

/// A call that listens; it leaves when `own` is dropped.
pub(crate) struct Heard {
    pub(crate) own: Option<tokio::sync::mpsc::Sender<v1::Listening>>,
    notes: tonic::Streaming<v1::Notes>,
}

/// A runtime with a thread of its own, so that connections are tended between calls.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
