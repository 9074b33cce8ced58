//! Nodes with certificates of authorities made for the test, a server that takes reports, and what
//! both ends counted.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};
use tyto_core::config::runtime::{NodeConfig, Peer, Role};
use tyto_core::layout::Layout;
use tyto_daemon::channel::PeerChannel;
use tyto_daemon::shutdown::CancellationToken;
use tyto_daemon::tls::{self, Identity};
use tyto_daemon::{channel, stream};
use tyto_proto::v1::manager_client::ManagerClient;
use tyto_proto::v1::manager_server::{Manager, ManagerServer};
use tyto_proto::v1::{self, RefusalCount};

pub(crate) const CLUSTER: &str = "lab";
pub(crate) const HOUR_S: i64 = 3600;
/// Bound for what has to happen by itself.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A certificate authority. All have the same name, as those of one cluster do.
pub(crate) struct Ca {
    pub(crate) pem: String,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

/// A node's folder and what it is.
pub(crate) struct Enrolled {
    pub(crate) prefix: PathBuf,
    pub(crate) role: Role,
    pub(crate) node: &'static str,
    pub(crate) cluster: &'static str,
    /// First and last moment of its certificate, seconds from now.
    pub(crate) valid_s: (i64, i64),
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Tyto cluster lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Key and certificate for a node, in place as `supervisor cert` puts them.
    pub(crate) fn issue(&self, to: &Enrolled) {
        let (key, pem) = self.sign(to);
        let layout = Layout::new(&to.prefix);
        fs::create_dir_all(layout.tls()).unwrap();
        write_key(&layout.next_node_key(to.node), &key);
        put(&layout.node_cert(to.node), &pem);
        fs::rename(layout.next_node_key(to.node), layout.node_key(to.node)).unwrap();
    }

    pub(crate) fn sign(&self, to: &Enrolled) -> (KeyPair, String) {
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
    pub(crate) fn new(dir: &Path, role: Role, node: &'static str) -> Self {
        let prefix = dir.join(node);
        Self { prefix, role, node, cluster: CLUSTER, valid_s: (-HOUR_S, HOUR_S) }
    }

    pub(crate) fn trust(&self, cas: &[&Ca]) {
        let layout = Layout::new(&self.prefix);
        fs::create_dir_all(layout.tls()).unwrap();
        let bundle: String = cas.iter().map(|ca| ca.pem.as_str()).collect();
        put(&layout.ca_cert(), &bundle);
    }

    pub(crate) fn identity(&self) -> Identity {
        tls::install_crypto();
        Identity::load(&self.config()).unwrap()
    }

    pub(crate) fn config(&self) -> NodeConfig {
        NodeConfig::new(self.cluster, self.node, self.role, &self.prefix)
    }
}

pub(crate) fn put(path: &Path, text: &str) {
    let part = path.with_extension("part");
    fs::write(&part, text).unwrap();
    fs::rename(part, path).unwrap();
}

pub(crate) fn write_key(path: &Path, key: &KeyPair) {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, key.serialize_pem().as_bytes()).unwrap();
}

/// Takes reports of workers.
pub(crate) struct Taker;

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
pub(crate) struct Server {
    pub(crate) identity: Identity,
    pub(crate) peer: Peer,
    pub(crate) end: CancellationToken,
}

impl Server {
    pub(crate) async fn start(identity: Identity) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), identity)
    }

    pub(crate) fn on(listener: TcpListener, identity: Identity) -> Self {
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
pub(crate) async fn report(client: &ManagerClient<PeerChannel>, ms: u32) -> Result<(), Status> {
    let mut client = client.clone();
    let call = client.report(v1::NodeHealth { pid: ms, ..v1::NodeHealth::default() });
    tokio::time::timeout(SOON, call).await.expect("an answer in time").map(drop)
}

pub(crate) fn dial(identity: &Identity, peer: &Peer) -> ManagerClient<PeerChannel> {
    ManagerClient::new(channel::to_peer(identity, peer).unwrap())
}

/// What an identity counted, once there is something.
pub(crate) async fn refusals(identity: &Identity) -> Vec<RefusalCount> {
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
pub(crate) async fn only(identity: &Identity) -> (String, bool, String) {
    let found = refusals(identity).await;
    assert_eq!(found.len(), 1, "{found:?}");
    (found[0].reason.clone(), found[0].by_peer, found[0].last_text.clone())
}

/// A manager that listens and a worker that calls it, both of `ca`.
pub(crate) fn pair(dir: &Path, ca: &Ca) -> (Enrolled, Enrolled) {
    let manager = Enrolled::new(dir, Role::Manager, "manager");
    let worker = Enrolled::new(dir, Role::Worker, "worker-1");
    for node in [&manager, &worker] {
        node.trust(&[ca]);
        ca.issue(node);
    }
    (manager, worker)
}

/// Calls the server as `caller`, which has to be refused; what server and caller say of it.
pub(crate) async fn refused(
    manager: &Enrolled,
    caller: &Enrolled,
) -> ((String, bool, String), (String, bool, String), Status) {
    let server = Server::start(manager.identity()).await;
    let identity = caller.identity();
    let status = report(&dial(&identity, &server.peer), 0).await.expect_err("refused");
    (only(&server.identity).await, only(&identity).await, status)
}
