//! mTLS between real servers and clients on the loopback: who is refused, what both sides say
//! of it, and that certificates and CAs are replaced under calls that go on.

#![allow(clippy::unwrap_used, reason = "a fixture that fails is a test that fails")]

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Response, Status};
use tyto_core::config::runtime::{AnalysisConfig, LogsConfig, NodeConfig, Peer, Role, ShipConfig};
use tyto_core::layout::Layout;
use tyto_daemon::channel::PeerChannel;
use tyto_daemon::shutdown::CancellationToken;
use tyto_daemon::tls::{self, Identity};
use tyto_daemon::{channel, stream};
use tyto_proto::v1::manager_client::ManagerClient;
use tyto_proto::v1::manager_server::{Manager, ManagerServer};
use tyto_proto::v1::{self, RefusalCount};

const CLUSTER: &str = "lab";
const HOUR_S: i64 = 3600;
/// Bound for what has to happen by itself.
const SOON: Duration = Duration::from_secs(20);

/// A certificate authority. All have the same name, as those of one cluster do.
struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A node's folder and what it is.
struct Enrolled {
    prefix: PathBuf,
    role: Role,
    node: &'static str,
    cluster: &'static str,
    /// First and last moment of its certificate, seconds from now.
    valid_s: (i64, i64),
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Tyto cluster lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Key and certificate for a node, in place as `supervisor cert` puts them.
    fn issue(&self, to: &Enrolled) {
        let (key, pem) = self.sign(to);
        let layout = Layout::new(&to.prefix);
        fs::create_dir_all(layout.tls()).unwrap();
        write_key(&layout.next_node_key(to.node), &key);
        put(&layout.node_cert(to.node), &pem);
        fs::rename(layout.next_node_key(to.node), layout.node_key(to.node)).unwrap();
    }

    fn sign(&self, to: &Enrolled) -> (KeyPair, String) {
        let mut params = CertificateParams::new(vec![to.node.to_owned()]).unwrap();
        let uri = format!("spiffe://{}/{}/{}", to.cluster, to.role, to.node);
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let at = |offset_s: i64| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(tyto_daemon::clock::now().0);
            let offset = Duration::from_secs(offset_s.unsigned_abs());
            if offset_s < 0 { now - offset } else { now + offset }
        };
        params.not_before = at(to.valid_s.0).into();
        params.not_after = at(to.valid_s.1).into();
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (key, pem)
    }
}

impl Enrolled {
    fn new(dir: &Path, role: Role, node: &'static str) -> Self {
        let prefix = dir.join(node);
        Self { prefix, role, node, cluster: CLUSTER, valid_s: (-HOUR_S, HOUR_S) }
    }

    fn trust(&self, cas: &[&Ca]) {
        let layout = Layout::new(&self.prefix);
        fs::create_dir_all(layout.tls()).unwrap();
        let bundle: String = cas.iter().map(|ca| ca.pem.as_str()).collect();
        put(&layout.ca_cert(), &bundle);
    }

    fn identity(&self) -> Identity {
        tls::install_crypto();
        Identity::load(&self.config()).unwrap()
    }

    fn config(&self) -> NodeConfig {
        NodeConfig {
            cluster: self.cluster.into(),
            node: self.node.into(),
            role: self.role,
            prefix: self.prefix.clone(),
            listen: None,
            peers: Vec::new(),
            capture: None,
            analysis: AnalysisConfig::default(),
            logs: LogsConfig::default(),
            ship: ShipConfig::default(),
        }
    }
}

fn put(path: &Path, text: &str) {
    let part = path.with_extension("part");
    fs::write(&part, text).unwrap();
    fs::rename(part, path).unwrap();
}

fn write_key(path: &Path, key: &KeyPair) {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, key.serialize_pem().as_bytes()).unwrap();
}

/// Takes reports of workers.
struct Taker;

#[tonic::async_trait]
impl Manager for Taker {
    async fn report(
        &self,
        request: Request<v1::NodeHealth>,
    ) -> Result<Response<v1::ReportReply>, Status> {
        tls::require(&request, CLUSTER, &[Role::Worker])?;
        tokio::time::sleep(Duration::from_millis(u64::from(request.into_inner().pid))).await;
        Ok(Response::new(v1::ReportReply {}))
    }

    async fn nodes(
        &self,
        _request: Request<v1::NodesRequest>,
    ) -> Result<Response<v1::NodesReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A server that runs until it is dropped.
struct Server {
    identity: Identity,
    peer: Peer,
    end: CancellationToken,
}

impl Server {
    async fn start(identity: Identity) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), identity)
    }

    fn on(listener: TcpListener, identity: Identity) -> Self {
        let addr = listener.local_addr().unwrap();
        let end = CancellationToken::new();
        let router = channel::server().add_service(ManagerServer::new(Taker));
        let incoming = stream::incoming(listener, &identity);
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, end.clone().cancelled_owned()));
        let fresh = identity.clone();
        let until = end.clone();
        tokio::spawn(async move { fresh.keep_fresh(until).await });
        let peer = Peer { node: "manager".into(), role: Role::Manager, addr };
        Self { identity, peer, end }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// One report to the server; it takes the server `ms`.
async fn report(client: &ManagerClient<PeerChannel>, ms: u32) -> Result<(), Status> {
    let mut client = client.clone();
    let call = client.report(v1::NodeHealth { pid: ms, ..v1::NodeHealth::default() });
    tokio::time::timeout(SOON, call).await.expect("an answer in time").map(drop)
}

fn dial(identity: &Identity, peer: &Peer) -> ManagerClient<PeerChannel> {
    ManagerClient::new(channel::to_peer(identity, peer).unwrap())
}

/// What an identity counted, once there is something.
async fn refusals(identity: &Identity) -> Vec<RefusalCount> {
    let begun = Instant::now();
    loop {
        let found = identity.health().refusals;
        if !found.is_empty() || begun.elapsed() > SOON {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The one refusal that an identity counted: reason, whether the peer refused, and the words.
async fn only(identity: &Identity) -> (String, bool, String) {
    let found = refusals(identity).await;
    assert_eq!(found.len(), 1, "{found:?}");
    (found[0].reason.clone(), found[0].by_peer, found[0].last_text.clone())
}

/// A manager that listens and a worker that calls it, both of `ca`.
fn pair(dir: &Path, ca: &Ca) -> (Enrolled, Enrolled) {
    let manager = Enrolled::new(dir, Role::Manager, "manager");
    let worker = Enrolled::new(dir, Role::Worker, "worker-1");
    for node in [&manager, &worker] {
        node.trust(&[ca]);
        ca.issue(node);
    }
    (manager, worker)
}

/// Calls the server as `caller`, which has to be refused; what server and caller say of it.
async fn refused(
    manager: &Enrolled,
    caller: &Enrolled,
) -> ((String, bool, String), (String, bool, String), Status) {
    let server = Server::start(manager.identity()).await;
    let identity = caller.identity();
    let status = report(&dial(&identity, &server.peer), 0).await.expect_err("refused");
    (only(&server.identity).await, only(&identity).await, status)
}

#[tokio::test]
async fn a_node_of_the_cluster_gets_in_and_nothing_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, worker) = pair(dir.path(), &Ca::new());
    let server = Server::start(manager.identity()).await;
    let identity = worker.identity();
    report(&dial(&identity, &server.peer), 0).await.unwrap();
    assert_eq!(identity.health().refusals, []);
    assert_eq!(server.identity.health().refusals, []);
    assert_eq!(identity.health().fault, "");
}

/// Hosts may have IPv6 addresses only.
#[tokio::test]
async fn a_node_of_the_cluster_gets_in_over_ipv6() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped a_node_of_the_cluster_gets_in_over_ipv6: this host has no IPv6");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (manager, worker) = pair(dir.path(), &Ca::new());
    let server = Server::on(listener, manager.identity());
    assert!(server.peer.addr.is_ipv6());
    report(&dial(&worker.identity(), &server.peer), 0).await.unwrap();
}

#[tokio::test]
async fn a_stranger_is_refused_and_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (manager, worker) = pair(dir.path(), &ca);
    Ca::new().issue(&worker);
    let (server, client, status) = refused(&manager, &worker).await;
    assert_eq!((server.0.as_str(), server.1), ("stranger", false));
    assert!(
        server.2.contains("worker `worker-1`") && server.2.contains("not trusted"),
        "{}",
        server.2
    );
    assert_eq!((client.0.as_str(), client.1), ("stranger", true));
    assert!(client.2.contains("`manager` does not trust the CA"), "{}", client.2);
    assert!(format!("{status:?}").contains("does not trust the CA"), "{status:?}");
    assert!(worker.identity().health().fault.contains("not trusted"));
}

#[tokio::test]
async fn a_server_of_a_stranger_is_refused_and_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (manager, worker) = pair(dir.path(), &ca);
    Ca::new().issue(&manager);
    let (server, client, _) = refused(&manager, &worker).await;
    assert_eq!((client.0.as_str(), client.1), ("stranger", false), "{}", client.2);
    assert_eq!((server.0.as_str(), server.1), ("stranger", true), "{}", server.2);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_both_clocks() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (manager, mut worker) = pair(dir.path(), &ca);
    worker.valid_s = (-2 * HOUR_S, -HOUR_S);
    ca.issue(&worker);
    let (server, client, _) = refused(&manager, &worker).await;
    assert_eq!((server.0.as_str(), server.1), ("expired", false));
    assert!(
        server.2.contains("was valid until 20") && server.2.contains("clock says 20"),
        "{}",
        server.2
    );
    assert_eq!((client.0.as_str(), client.1), ("expired", true));
    assert!(client.2.contains("this host's clock says 20"), "{}", client.2);
}

#[tokio::test]
async fn a_clock_an_hour_off_is_told_with_both_clocks() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (manager, mut worker) = pair(dir.path(), &ca);
    worker.valid_s = (HOUR_S, 30 * 24 * HOUR_S);
    ca.issue(&worker);
    let (server, client, _) = refused(&manager, &worker).await;
    assert_eq!((server.0.as_str(), server.1), ("not_yet_valid", false));
    assert!(
        server.2.contains("is valid from 20") && server.2.contains("is the clock off?"),
        "{}",
        server.2
    );
    assert_eq!((client.0.as_str(), client.1), ("not_yet_valid", true));
    assert!(client.2.contains("is a clock off?"), "{}", client.2);
}

#[tokio::test]
async fn another_cluster_is_refused_even_under_the_same_ca() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (manager, mut worker) = pair(dir.path(), &ca);
    worker.cluster = "field";
    ca.issue(&worker);
    let server = Server::start(manager.identity()).await;
    // Its own configuration says `lab`: only its certificate is of another cluster.
    worker.cluster = CLUSTER;
    let identity = worker.identity();
    report(&dial(&identity, &server.peer), 0).await.unwrap_err();
    let told = only(&server.identity).await;
    assert_eq!((told.0.as_str(), told.1), ("other_cluster", false));
    assert!(told.2.contains("cluster `field`, this is `lab`"), "{}", told.2);
    let told = only(&identity).await;
    assert_eq!((told.0.as_str(), told.1), ("other_cluster", true));
    assert!(told.2.contains("spiffe://field/worker/worker-1"), "{}", told.2);
}

#[tokio::test]
async fn another_node_than_the_one_dialled_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (_, worker) = pair(dir.path(), &ca);
    let other = Enrolled::new(dir.path(), Role::Manager, "manager-2");
    other.trust(&[&ca]);
    ca.issue(&other);
    let (server, client, _) = refused(&other, &worker).await;
    assert_eq!((client.0.as_str(), client.1), ("other_node", false));
    assert_eq!(client.2, "dialled manager `manager`, manager `manager-2` answers");
    assert_eq!((server.0.as_str(), server.1), ("other_node", true));
    assert!(server.2.contains("spiffe://lab/manager/manager-2"), "{}", server.2);
}

#[tokio::test]
async fn a_role_that_may_not_call_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (manager, _) = pair(dir.path(), &ca);
    let proxy = Enrolled::new(dir.path(), Role::Proxy, "proxy-1");
    proxy.trust(&[&ca]);
    ca.issue(&proxy);
    let (server, client, status) = refused(&manager, &proxy).await;
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    let words = "`proxy-1` is a proxy; this call is for worker";
    assert_eq!(server, ("other_role".into(), false, words.into()));
    assert_eq!(client, ("other_role".into(), true, words.into()));
}

#[tokio::test]
async fn a_node_in_another_role_than_it_was_dialled_as_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (mut manager, worker) = pair(dir.path(), &ca);
    manager.role = Role::Proxy;
    ca.issue(&manager);
    let (server, client, _) = refused(&manager, &worker).await;
    assert_eq!((client.0.as_str(), client.1), ("other_role", false), "{}", client.2);
    assert!(server.1, "{}", server.2);
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (manager, _) = pair(dir.path(), &ca);
    let server = Server::start(manager.identity()).await;
    let mut roots = rustls::RootCertStore::empty();
    let der = rustls_pki_types::pem::PemObject::from_pem_slice(ca.pem.as_bytes()).unwrap();
    roots.add(der).unwrap();
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(server.peer.addr).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut tls = connector.connect("manager".try_into().unwrap(), tcp).await.unwrap();
    let told = tokio::io::AsyncReadExt::read(&mut tls, &mut [0; 1]).await.unwrap_err();
    assert!(told.to_string().contains("CertificateRequired"), "{told}");
    let told = only(&server.identity).await;
    assert_eq!(told, ("no_certificate".into(), false, "the caller showed no certificate".into()));
}

#[tokio::test]
async fn what_is_no_tls_gets_no_answer_and_is_no_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, _) = pair(dir.path(), &Ca::new());
    let server = Server::start(manager.identity()).await;
    let mut tcp = TcpStream::connect(server.peer.addr).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut tcp, b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut tcp, &mut answer).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(server.identity.health().refusals, []);
}

/// Calls that go on while `change` is done; all have to succeed, and none may be slow to.
async fn calls_go_on<F: Future<Output = ()>>(client: &ManagerClient<PeerChannel>, change: F) {
    let stop = CancellationToken::new();
    let (callers, stopped) = (client.clone(), stop.clone());
    let calls = tokio::spawn(async move {
        let mut done = 0;
        while !stopped.is_cancelled() {
            // A slow one each time: it is under way while certificates are replaced.
            let (quick, slow) = tokio::join!(report(&callers, 0), report(&callers, 300));
            quick.unwrap();
            slow.unwrap();
            done += 2;
        }
        done
    });
    change.await;
    stop.cancel();
    assert!(calls.await.unwrap() > 2);
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_the_ca_are_replaced_under_calls_that_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new(), Ca::new());
    let (manager, worker) = pair(dir.path(), &old);
    let server = Server::start(manager.identity()).await;
    let caller = worker.identity();
    let end = CancellationToken::new();
    let (fresh, until_end) = (caller.clone(), end.clone());
    tokio::spawn(async move { fresh.keep_fresh(until_end).await });
    let client = dial(&caller, &server.peer);
    let both = [(&manager, &server.identity), (&worker, &caller)];
    calls_go_on(&client, async {
        for (node, identity) in both {
            let before = identity.health().certificate_sha256;
            old.issue(node);
            until("renewed", || identity.health().certificate_sha256 != before).await;
        }
        for (node, identity) in both {
            node.trust(&[&old, &new]);
            until("both trusted", || identity.health().trusted_ca_sha256.len() == 2).await;
        }
        for (node, identity) in both {
            let before = identity.health().certificate_sha256;
            new.issue(node);
            until("reissued", || identity.health().certificate_sha256 != before).await;
        }
        for (node, identity) in both {
            node.trust(&[&new]);
            until("old dropped", || identity.health().trusted_ca_sha256.len() == 1).await;
        }
        // Past the farewell of connections that the old CA vouched for.
        tokio::time::sleep(Duration::from_secs(6)).await;
    })
    .await;
    assert_eq!(caller.health().refusals, []);
    assert_eq!(server.identity.health().refusals, []);
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_when_its_ca_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new(), Ca::new());
    let (manager, worker) = pair(dir.path(), &old);
    let server = Server::start(manager.identity()).await;
    let caller = worker.identity();
    // This caller does not follow its files: it keeps to what the old CA signed.
    let client = dial(&caller, &server.peer);
    report(&client, 0).await.unwrap();
    manager.trust(&[&new]);
    until("dropped", || server.identity.health().fault.contains("not trusted")).await;
    let begun = Instant::now();
    while report(&client, 0).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(8), "the connection lives on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found = refusals(&server.identity).await;
    assert_eq!(found[0].reason, "stranger", "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_when_the_peers_certificate_expires() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (manager, mut worker) = pair(dir.path(), &ca);
    worker.valid_s = (-HOUR_S, 3);
    ca.issue(&worker);
    let server = Server::start(manager.identity()).await;
    let caller = worker.identity();
    let client = dial(&caller, &server.peer);
    report(&client, 0).await.unwrap();
    let begun = Instant::now();
    while report(&client, 0).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(8), "the connection lives on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(refusals(&server.identity).await[0].reason, "expired");
}

#[tokio::test]
async fn a_certificate_whose_key_is_not_yet_in_place_is_used_with_the_key_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (_, worker) = pair(dir.path(), &ca);
    let identity = worker.identity();
    let (key, pem) = ca.sign(&worker);
    let layout = Layout::new(&worker.prefix);
    let before = identity.health().certificate_sha256;
    write_key(&layout.next_node_key(worker.node), &key);
    assert!(!identity.reload(), "a key without its certificate changes nothing");
    put(&layout.node_cert(worker.node), &pem);
    assert!(identity.reload());
    assert_ne!(identity.health().certificate_sha256, before);
    fs::rename(layout.next_node_key(worker.node), layout.node_key(worker.node)).unwrap();
    assert!(!identity.reload());
    assert_eq!(identity.health().fault, "");
}

#[tokio::test]
async fn what_cannot_be_used_is_told_and_the_old_certificate_stays() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (_, worker) = pair(dir.path(), &ca);
    let identity = worker.identity();
    let before = identity.health().certificate_sha256;
    let layout = Layout::new(&worker.prefix);
    put(&layout.node_cert(worker.node), "nonsense");
    assert!(!identity.reload());
    let health = identity.health();
    assert_eq!(health.certificate_sha256, before);
    assert!(health.fault.contains("worker-1.pem"), "{}", health.fault);
    ca.issue(&worker);
    assert!(identity.reload());
    assert_eq!(identity.health().fault, "");
}
