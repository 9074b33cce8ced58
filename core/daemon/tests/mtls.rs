//! mTLS between real servers and clients on the loopback: who is refused, what both sides say
//! of it, and that certificates and CAs are replaced under calls that go on.

#![allow(clippy::unwrap_used, reason = "a fixture that fails is a test that fails")]

mod support;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tyto_core::config::runtime::Role;
use tyto_core::layout::Layout;
use tyto_daemon::channel::PeerChannel;
use tyto_daemon::shutdown::CancellationToken;
use tyto_proto::v1::manager_client::ManagerClient;

use support::{
    CLUSTER, Ca, Enrolled, HOUR_S, SOON, Server, dial, only, pair, put, refusals, refused, report,
    write_key,
};

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
