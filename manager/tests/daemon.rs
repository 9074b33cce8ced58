//! The manager daemon over real mTLS and its unix socket: who may report, who may ask, what
//! becomes known (design.md section 2, `manager`; decision 6).

#![allow(clippy::unwrap_used, reason = "a fixture that fails is a test that fails")]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use tokio::task::JoinHandle;
use tonic::Code;
use tyto_core::config::runtime::{NodeConfig, Peer, Role};
use tyto_core::layout::Layout;
use tyto_daemon::shutdown::CancellationToken;
use tyto_daemon::tls::{self, Identity};
use tyto_daemon::{channel, clock};
use tyto_manager::daemon;
use tyto_manager::identity::ca::{Ca, Subject};
use tyto_proto::v1::manager_client::ManagerClient;
use tyto_proto::v1::{MemberState, NodeHealth, NodesRequest};

const PATIENCE: Duration = Duration::from_secs(20);

/// A prefix with a CA and a running manager.
struct Cluster {
    dir: tempfile::TempDir,
    addr: SocketAddr,
    end: CancellationToken,
    manager: JoinHandle<anyhow::Result<()>>,
}

impl Cluster {
    async fn start() -> Self {
        tls::install_crypto();
        let dir = tempfile::Builder::new().prefix("mgr").tempdir().unwrap();
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        issue(dir.path().join("ca").as_path(), "lab", dir.path(), "manager/manager");
        let end = CancellationToken::new();
        let config = config(dir.path(), "manager", Role::Manager, addr);
        let manager = tokio::spawn(daemon::run(config, end.clone()));
        let cluster = Self { dir, addr, end, manager };
        cluster.members_until(|members| members.iter().any(|m| m.up)).await;
        cluster
    }

    fn layout(&self) -> Layout {
        Layout::new(self.dir.path())
    }

    /// A client with a certificate of the cluster's CA for ROLE/NODE.
    fn client_as(&self, subject: &str) -> ManagerClient<channel::PeerChannel> {
        let ca = self.layout().ca_dir();
        self.client_by(&ca, "lab", subject)
    }

    fn client_by(
        &self,
        ca: &std::path::Path,
        cluster: &str,
        subject: &str,
    ) -> ManagerClient<channel::PeerChannel> {
        let (role, node) = subject.split_once('/').unwrap();
        issue(ca, cluster, self.dir.path(), subject);
        let config = config(self.dir.path(), node, role.parse().unwrap(), self.addr);
        // Whatever CA signed the client, the server is the cluster's.
        fs::copy(self.layout().ca_dir().join("ca.pem"), self.layout().ca_cert()).unwrap();
        let identity = Identity::load(&config).unwrap();
        ManagerClient::new(channel::to_peer(&identity, &config.peers[0]).unwrap())
    }

    async fn members(&self) -> Result<Vec<MemberState>, tonic::Status> {
        let socket = channel::to_socket(&self.layout().manager_sock());
        let reply = ManagerClient::new(socket).nodes(NodesRequest {}).await?;
        Ok(reply.into_inner().members)
    }

    async fn members_until(&self, wanted: impl Fn(&[MemberState]) -> bool) -> Vec<MemberState> {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            let members = self.members().await.unwrap_or_default();
            if wanted(&members) {
                return members;
            }
            assert!(Instant::now() < give_up_at, "{members:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Key and certificate for ROLE/NODE into the prefix, from the CA in `ca`.
fn issue(ca: &std::path::Path, cluster: &str, prefix: &std::path::Path, subject: &str) {
    let (layout, now) =
        (Layout::new(prefix), std::time::UNIX_EPOCH + Duration::from_nanos(clock::now().0));
    let ca = Ca::init(ca, cluster, now).unwrap();
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let subject: Subject = subject.parse().unwrap();
    let name = &subject.node;
    fs::create_dir_all(layout.tls()).unwrap();
    fs::write(layout.node_cert(name), ca.sign(&request, &subject, now).unwrap()).unwrap();
    fs::write(layout.node_key(name), key.serialize_pem()).unwrap();
    fs::set_permissions(layout.node_key(name), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(layout.ca_cert(), ca.cert_pem()).unwrap();
}

fn config(prefix: &std::path::Path, node: &str, role: Role, manager: SocketAddr) -> NodeConfig {
    NodeConfig {
        listen: (role == Role::Manager).then_some(manager),
        peers: vec![Peer { node: "manager".to_owned(), role: Role::Manager, addr: manager }],
        ..NodeConfig::new("lab", node, role, prefix)
    }
}

fn report(role: &str, node: &str) -> NodeHealth {
    NodeHealth {
        node: node.to_owned(),
        role: role.to_owned(),
        pid: 7,
        started_ns: 1,
        phase: "running".to_owned(),
        ..NodeHealth::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_reports_ctl_reads_and_cluster_log_keeps() {
    let cluster = Cluster::start().await;
    cluster.client_as("worker/worker-1").report(report("worker", "worker-1")).await.unwrap();

    let members = cluster
        .members_until(|m| m.len() == 2 && m[0].health.as_ref().unwrap().phase == "running")
        .await;
    let names: Vec<&str> =
        members.iter().map(|m| m.health.as_ref().unwrap().node.as_str()).collect();
    assert_eq!(names, ["manager", "worker-1"], "the manager reports to itself too");
    assert!(members.iter().all(|member| member.up));
    let health = members[1].health.as_ref().unwrap();
    assert_eq!((health.pid, health.phase.as_str()), (7, "running"));

    let log = cluster.layout().node_spool("manager").join("cluster.log");
    let text = fs::read_to_string(log).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<&str> = rows.map(|row| row.split_once('\t').unwrap().1).collect();
    assert_eq!(rows, ["manager\tnode up: manager", "manager\tnode up: worker-1"]);

    cluster.end.cancel();
    let ended = tokio::time::timeout(PATIENCE, cluster.manager).await.unwrap();
    ended.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reports_for_itself_only() {
    let cluster = Cluster::start().await;
    let mut worker = cluster.client_as("worker/worker-1");
    for other in [report("worker", "worker-2"), report("logger", "worker-1")] {
        let refused = worker.report(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    let mut alone = cluster.client_as("standalone/tyto");
    let refused = alone.report(report("standalone", "tyto")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!(cluster.members().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_certificates_of_the_clusters_own_ca_get_in() {
    let cluster = Cluster::start().await;
    let foreign = cluster.dir.path().join("foreign-ca");
    let mut client = cluster.client_by(&foreign, "lab", "worker/worker-9");
    assert!(client.report(report("worker", "worker-9")).await.is_err());

    let mut other = cluster.client_by(&cluster.layout().ca_dir(), "other", "worker/worker-8");
    // Refused by the handshake, before there is a call; which side notices first is open.
    assert!(other.report(report("worker", "worker-8")).await.is_err());
    assert_eq!(cluster.members().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_door_has_its_own_calls() {
    let cluster = Cluster::start().await;
    let refused = cluster.client_as("worker/worker-1").nodes(NodesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let path = cluster.layout().manager_sock();
    let mut ctl = ManagerClient::new(channel::to_socket(&path));
    let refused = ctl.report(report("worker", "worker-1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}
