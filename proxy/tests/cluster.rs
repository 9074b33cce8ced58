//! Two proxies over real mTLS on loopback: each thing is claimed once, whoever dies.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

mod support;

use std::process::Command;
use std::time::Duration;

use support::{Cluster, EXPIRY_S};
use tonic::Code;
use tyto_core::config::runtime::Role;
use tyto_core::shard;

const PROXIES: [&str; 2] = ["proxy-1", "proxy-2"];

/// Host addresses to claim.
fn hosts(count: u8) -> Vec<[u8; 4]> {
    (0..count).map(|n| [192, 0, 2, n]).collect()
}

/// Owner and copy holder of `key`.
fn owner_and_copy(key: &[u8]) -> (&'static str, &'static str) {
    let ranked = shard::rank(&PROXIES, key);
    (PROXIES[ranked[0]], PROXIES[ranked[1]])
}

#[test]
fn claim_is_first_once_for_all_proxies_and_workers() {
    let cluster = Cluster::new(&PROXIES);
    let _running = PROXIES.map(|name| cluster.start(name));
    let (one, two) = (cluster.worker("worker-1"), cluster.worker("worker-2"));
    for key in hosts(50) {
        let (owner, copy) = owner_and_copy(&key);
        assert_eq!(one.claim(owner, &[&key]).unwrap(), [true]);
        assert_eq!(two.claim(owner, &[&key]).unwrap(), [false]);
        assert_eq!(two.claim(copy, &[&key]).unwrap(), [false]);
    }
    let keys: Vec<&[u8]> = vec![b"new", b"new", &[192, 0, 2, 1]];
    assert_eq!(two.claim("proxy-1", &keys).unwrap(), [true, true, false], "one claim, asked twice");
    assert!(!one.claim("proxy-1", &keys).unwrap()[0]);
}

/// A lost answer must not lose the row: the worker that was granted a claim hears so again.
#[test]
fn same_claim_asked_again_gets_the_same_answer_from_either_proxy() {
    let cluster = Cluster::new(&PROXIES);
    let mut running = PROXIES.map(|name| Some(cluster.start(name)));
    let (one, two) = (cluster.worker("worker-1"), cluster.worker("worker-2"));
    let key = [192, 0, 2, 1];
    let (owner, copy) = owner_and_copy(&key);
    assert_eq!(one.claim(owner, &[&key]).unwrap(), [true]);
    assert_eq!(one.claim(owner, &[&key]).unwrap(), [true]);
    let place = PROXIES.iter().position(|name| *name == owner).unwrap();
    running[place].take().unwrap().kill();
    assert_eq!(one.claim(copy, &[&key]).unwrap(), [true]);
    assert_eq!(two.claim(copy, &[&key]).unwrap(), [false]);
}

/// A deploy adds a proxy to two that run: what they granted it knows, and what it grants they
/// know, without a restart.
#[test]
fn a_further_proxy_takes_over_its_share_while_the_others_run() {
    const ALL: [&str; 3] = ["proxy-1", "proxy-2", "proxy-3"];
    let cluster = Cluster::new(&ALL);
    let _running = PROXIES.map(|name| cluster.start(name));
    cluster.release(&PROXIES);
    let (one, two) = (cluster.worker("worker-1"), cluster.worker("worker-2"));
    let keys = hosts(200);
    for key in &keys[..100] {
        assert_eq!(one.claim(owner_and_copy(key).0, &[key]).unwrap(), [true]);
    }
    cluster.release(&ALL);
    let third = cluster.start("proxy-3");
    let holders = |key: &[u8; 4]| -> Vec<&str> {
        shard::rank(&ALL, key).into_iter().take(2).map(|place| ALL[place]).collect()
    };
    let (old, new) = keys.split_at(100);
    let old: Vec<_> = old.iter().filter(|key| holders(key).contains(&"proxy-3")).collect();
    assert!(old.len() > 30);
    for key in old {
        assert_eq!(two.claim("proxy-3", &[key]).unwrap(), [false], "{key:?} was granted before");
    }
    let new: Vec<_> = new.iter().filter(|key| holders(key)[0] == "proxy-3").collect();
    assert!(new.len() > 10);
    for key in &new {
        assert_eq!(one.claim("proxy-3", &[*key]).unwrap(), [true]);
    }
    third.kill();
    for key in new {
        assert_eq!(two.claim(holders(key)[1], &[key]).unwrap(), [false], "{key:?} has no copy");
    }
}

#[test]
fn copy_answers_for_a_dead_owner_and_hands_over_when_it_is_back_with_an_empty_disk() {
    let cluster = Cluster::new(&PROXIES);
    let mut running = PROXIES.map(|name| Some(cluster.start(name)));
    let (one, two) = (cluster.worker("worker-1"), cluster.worker("worker-2"));
    let key = [192, 0, 2, 1];
    let (owner, copy) = owner_and_copy(&key);
    let place = PROXIES.iter().position(|name| *name == owner).unwrap();
    let late = hosts(200).into_iter().find(|k| *k != key && owner_and_copy(k).0 == owner).unwrap();

    assert_eq!(one.claim(owner, &[&key]).unwrap(), [true]);
    running[place].take().unwrap().kill();
    assert_eq!(two.claim(owner, &[&key]).unwrap_err().code(), Code::Unavailable);
    assert_eq!(two.claim(copy, &[&key]).unwrap(), [false]);
    assert_eq!(two.claim(copy, &[&late]).unwrap(), [true], "granted while the owner is dead");

    cluster.empty_disk(owner);
    running[place] = Some(cluster.start(owner));
    assert_eq!(two.claim(owner, &[&key]).unwrap(), [false]);
    assert_eq!(one.claim(owner, &[&late]).unwrap(), [false]);
    assert_eq!(two.claim(owner, &[&late]).unwrap(), [true], "asked again by who was granted it");
}

/// Nobody was there to hand anything over, yet the copy holder remembers.
#[test]
fn owner_that_lost_its_disk_and_came_back_first_is_set_right_by_the_copy() {
    let cluster = Cluster::new(&PROXIES);
    let running = PROXIES.map(|name| cluster.start(name));
    let key = [192, 0, 2, 1];
    let (owner, copy) = owner_and_copy(&key);
    assert_eq!(cluster.worker("worker-1").claim(owner, &[&key]).unwrap(), [true]);
    running.into_iter().for_each(support::Running::stop);
    cluster.empty_disk(owner);
    let _running = [cluster.start(owner), cluster.start(copy)];
    let two = cluster.worker("worker-2");
    assert_eq!(two.claim(owner, &[&key]).unwrap(), [false]);
    assert_eq!(two.claim(owner, &[&key]).unwrap(), [false]);
}

#[test]
fn orderly_end_of_all_proxies_forgets_nothing() {
    let cluster = Cluster::new(&PROXIES);
    let running = PROXIES.map(|name| cluster.start(name));
    let worker = cluster.worker("worker-1");
    let keys = hosts(20);
    for key in &keys {
        assert_eq!(worker.claim(owner_and_copy(key).0, &[key]).unwrap(), [true]);
    }
    running.into_iter().for_each(support::Running::stop);
    let _running = PROXIES.map(|name| cluster.start(name));
    let other = cluster.worker("worker-2");
    for key in &keys {
        assert_eq!(other.claim(owner_and_copy(key).0, &[key]).unwrap(), [false]);
    }
}

#[test]
fn killed_only_proxy_knows_what_its_last_snapshot_says() {
    let cluster = Cluster::new(&["proxy-1"]);
    let running = cluster.start("proxy-1");
    let worker = cluster.worker("worker-1");
    assert_eq!(worker.claim("proxy-1", &[b"host"]).unwrap(), [true]);
    let written = || std::fs::metadata(cluster.snapshot("proxy-1")).map_or(0, |file| file.len());
    let empty = written();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while written() <= empty.max(16) {
        assert!(std::time::Instant::now() < until, "no snapshot was written");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.kill();
    let _running = cluster.start("proxy-1");
    let other = cluster.worker("worker-2");
    assert_eq!(other.claim("proxy-1", &[b"host"]).unwrap(), [false]);
}

#[test]
fn claim_is_first_again_after_its_expiry() {
    let cluster = Cluster::new(&PROXIES);
    let _running = PROXIES.map(|name| cluster.start(name));
    let (one, two) = (cluster.worker("worker-1"), cluster.worker("worker-2"));
    let key = [192, 0, 2, 1];
    let (owner, copy) = owner_and_copy(&key);
    assert_eq!(one.claim(owner, &[&key]).unwrap(), [true]);
    cluster.pass(EXPIRY_S - 1);
    assert_eq!(two.claim(owner, &[&key]).unwrap(), [false]);
    cluster.pass(2);
    assert_eq!(two.claim(copy, &[&key]).unwrap(), [true]);
    assert_eq!(one.claim(owner, &[&key]).unwrap(), [false]);
}

/// Workers that see different proxies as alive ask both for one key at the same time.
#[test]
fn of_concurrent_claims_at_both_proxies_exactly_one_is_first() {
    let cluster = Cluster::new(&PROXIES);
    let _running = PROXIES.map(|name| cluster.start(name));
    let workers: Vec<_> = (0..4).map(|n| cluster.worker(&format!("worker-{n}"))).collect();
    let keys = hosts(200);
    let answers: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .enumerate()
            .map(|(n, worker)| {
                let keys = &keys;
                scope.spawn(move || {
                    let claim = |key: &[u8; 4]| worker.claim(PROXIES[n % 2], &[key]).unwrap()[0];
                    keys.iter().map(claim).collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (place, key) in keys.iter().enumerate() {
        let firsts = answers.iter().filter(|of_worker| of_worker[place]).count();
        assert_eq!(firsts, 1, "{key:?}");
    }
}

#[test]
fn each_call_is_for_one_role() {
    let cluster = Cluster::new(&PROXIES);
    let _running = cluster.start("proxy-1");
    let worker = cluster.worker("worker-1");
    let logger = cluster.caller("logger-1", Role::Logger);
    let proxy = cluster.caller("proxy-2", Role::Proxy);
    let denied = |status: tonic::Status| assert_eq!(status.code(), Code::PermissionDenied);
    denied(logger.claim("proxy-1", &[b"host"]).unwrap_err());
    denied(proxy.claim("proxy-1", &[b"host"]).unwrap_err());
    denied(logger.tell("proxy-1", 1).unwrap_err());
    denied(proxy.listen("proxy-1").map(drop).unwrap_err());
    denied(worker.replicate("proxy-1").unwrap_err());
    denied(worker.handover("proxy-1", "worker-1").unwrap_err());
    denied(proxy.handover("proxy-1", "proxy-1").unwrap_err());
    assert!(proxy.handover("proxy-1", "proxy-2").unwrap().is_empty());
    proxy.replicate("proxy-1").unwrap();
}

/// Workers listen as long as they want, and the proxy ends all calls with itself.
#[test]
fn a_note_is_heard_by_who_listens_until_it_leaves_or_the_proxy_ends() {
    let cluster = Cluster::new(&["proxy-1"]);
    let running = cluster.start("proxy-1");
    let [one, two, three] = ["worker-1", "worker-2", "worker-3"].map(|name| cluster.worker(name));
    assert_eq!(one.tell("proxy-1", 1).unwrap(), [0]);
    let mut by_two = two.listen("proxy-1").unwrap();
    let mut by_three = three.listen("proxy-1").unwrap();
    assert_eq!(one.tell("proxy-1", 1).unwrap(), [2]);
    assert_eq!(two.tell("proxy-1", 64).unwrap(), [1]);
    by_two.own = None;
    assert_eq!(two.hear(&mut by_two).unwrap().unwrap().notes.len(), 1);
    assert!(two.hear(&mut by_two).unwrap().is_none(), "it left");
    assert_eq!(one.tell("proxy-1", 1).unwrap(), [1]);
    running.stop();
    for _ in 0..3 {
        assert_eq!(three.hear(&mut by_three).unwrap().unwrap().notes.len(), 1);
    }
    assert!(three.hear(&mut by_three).unwrap().is_none(), "the proxy ended");
}

#[test]
fn claim_out_of_bounds_is_refused() {
    let cluster = Cluster::new(&["proxy-1"]);
    let _running = cluster.start("proxy-1");
    let worker = cluster.worker("worker-1");
    let error = worker.claim("proxy-1", &[&[0; 257]]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let error = worker.claim("proxy-1", &vec![&b"host"[..]; 10_001]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    for key_len in [0, 65] {
        assert_eq!(worker.tell("proxy-1", key_len).unwrap_err().code(), Code::InvalidArgument);
    }
}

#[test]
fn program_ends_with_code_0_on_sigterm_and_has_saved_its_table() {
    let cluster = Cluster::new(&["proxy-1"]);
    let file = cluster.snapshot("proxy-1").with_file_name("proxy-1.yaml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let config = serde_yaml::to_string(&cluster.config("proxy-1", Role::Proxy)).unwrap();
    std::fs::write(&file, config).unwrap();
    let start =
        || Command::new(env!("CARGO_BIN_EXE_proxy")).arg("--config").arg(&file).spawn().unwrap();
    for claims in [[true], [false]] {
        let mut proxy = start();
        cluster.wait_until_ready("proxy-1");
        let worker = cluster.worker(&format!("worker-{}", claims[0]));
        assert_eq!(worker.claim("proxy-1", &[b"host"]).unwrap(), claims);
        let killed = Command::new("kill").arg(proxy.id().to_string()).status().unwrap();
        assert!(killed.success());
        assert_eq!(proxy.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn program_says_what_is_wrong_with_its_configuration() {
    let output = Command::new(env!("CARGO_BIN_EXE_proxy"))
        .args(["--config", "/nonexistent/proxy.yaml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("proxy: cannot read `/nonexistent/proxy.yaml`"), "{said}");
}
