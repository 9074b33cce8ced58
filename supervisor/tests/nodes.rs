//! How nodes are started, watched, restarted and stopped (design.md section 2, `supervisor`).

mod fixture;

use std::fs;
use std::time::{Duration, Instant};

use fixture::{FAILS, Host, IGNORES_TERM, LIVES, kill9, lives};

#[tokio::test]
async fn a_node_runs_when_its_process_says_so() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    let result = host.start("worker-1", 50).await;
    assert!(result.ok);
    assert_eq!(result.message, "still initializing");
    let node = host.node("worker-1").await;
    assert_eq!((node.state.as_str(), node.role.as_str()), ("initializing", "worker"));
    assert_eq!((node.release.as_str(), node.desired), ("r1", true));
    assert!(lives(node.pid) && node.started_ns > 0);

    host.report("worker-1", node.pid, "running").await.unwrap();
    let node = host.node("worker-1").await;
    assert_eq!(node.state, "running");
    assert_eq!(node.health.unwrap().pid, node.pid);
    assert_eq!(host.start("worker-1", 50).await.message, "already running");
}

#[tokio::test]
async fn start_returns_as_soon_as_the_node_runs() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    let (result, ()) = tokio::join!(host.start("worker-1", 15_000), async {
        let node = host.node_until("worker-1", |node| node.pid != 0).await;
        host.report("worker-1", node.pid, "running").await.unwrap();
    });
    assert!(result.ok && result.message.is_empty(), "{result:?}");
    assert_eq!(result.status.unwrap().state, "running");
}

#[tokio::test]
async fn a_report_of_another_process_is_refused() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let refused = host.report("worker-1", 1, "running").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(host.report("worker-9", 1, "running").await.is_err());
    assert_eq!(host.node("worker-1").await.state, "initializing");
}

#[tokio::test]
async fn a_node_that_dies_at_once_gives_its_last_words_and_goes_on_being_tried() {
    let host = Host::new(&[("worker-1", FAILS)]);
    host.up();
    let result = host.start("worker-1", 15_000).await;
    assert!(!result.ok);
    assert_eq!(result.message, "terminated: exit code 3\ncannot open eth9");

    let node = host.node_until("worker-1", |node| node.state == "failed").await;
    assert_eq!((node.restarts, node.pid, node.desired), (4, 0, true));
    assert_eq!(node.last_exit, "exit code 3");
    assert_eq!(node.last_stderr, ["cannot open eth9"]);
    assert_eq!(host.stop("worker-1", 0).await.message, "not running");
    assert_eq!(host.node("worker-1").await.state, "stopped");
}

#[tokio::test]
async fn a_program_that_is_missing_is_named() {
    let host = Host::new(&[("worker-1", LIVES)]);
    fs::remove_file(host.layout.current_bin("worker")).unwrap();
    host.up();
    let result = host.start("worker-1", 15_000).await;
    assert!(!result.ok);
    assert!(result.message.contains("exit code 127"), "{result:?}");
    assert!(result.message.contains("bin/worker`: No such file"), "{result:?}");
}

#[tokio::test]
async fn a_node_killed_comes_back_and_leaves_a_crash_report() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let before = host.node("worker-1").await;
    let killed_at = Instant::now();
    kill9(before.pid);
    let after = host.node_until("worker-1", |node| node.restarts == 1 && node.pid != 0).await;
    assert!(killed_at.elapsed() < Duration::from_secs(5), "took {:?}", killed_at.elapsed());
    assert_ne!(after.pid, before.pid);
    assert_eq!(after.last_exit, "signal 9 (SIGKILL)");

    let crash = fs::read_dir(host.layout.crashes()).unwrap().next().unwrap().unwrap().path();
    let report = fs::read_to_string(crash.join("report.txt")).unwrap();
    assert!(report.contains(&format!("pid: {}\n", before.pid)), "{report}");
    assert_eq!(fs::read_to_string(crash.join("config.yaml")).unwrap(), LIVES);
}

#[tokio::test]
async fn stop_ends_the_node_and_it_stays_down() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let pid = host.node("worker-1").await.pid;
    let result = host.stop("worker-1", 5_000).await;
    assert!(result.ok && result.message.is_empty(), "{result:?}");
    assert!(!lives(pid));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let node = host.node("worker-1").await;
    assert_eq!((node.state.as_str(), node.pid, node.desired), ("stopped", 0, false));
    assert!(!host.layout.crashes().exists(), "an orderly end is no crash");
}

#[tokio::test]
async fn a_node_that_ignores_sigterm_is_killed_with_what_it_started() {
    let host = Host::new(&[("worker-1", IGNORES_TERM)]);
    host.up();
    host.start("worker-1", 300).await;
    let pid = host.node("worker-1").await.pid;
    let child = fs::read_to_string(host.layout.node_spool("worker-1").join("child")).unwrap();
    let child: u32 = child.trim().parse().unwrap();
    assert!(lives(child));
    let result = host.stop("worker-1", 300).await;
    assert!(result.ok);
    assert_eq!(result.message, "did not terminate ... killing ...");
    assert!(!lives(pid) && !lives(child));
}

#[tokio::test]
async fn a_crash_during_shutdown_is_told() {
    let host = Host::new(&[("worker-1", "trap 'exit 4' TERM; while :; do sleep 0.05; done")]);
    host.up();
    host.start("worker-1", 300).await;
    let result = host.stop("worker-1", 5_000).await;
    assert_eq!(
        (result.ok, result.message.as_str()),
        (true, "crashed during shutdown: exit code 4")
    );
}

#[tokio::test]
async fn a_node_has_its_folder_its_environment_and_its_cpus() {
    let host = Host::new(&[(
        "pinned",
        "pwd; echo $NODE_VAR; grep Cpus_allowed_list /proc/$$/status; exec sleep 1000",
    )]);
    host.up();
    host.start("pinned", 300).await;
    let spool = host.layout.node_spool("pinned");
    let written = || fs::read_to_string(spool.join("stdout.log")).unwrap_or_default();
    let give_up_at = Instant::now() + fixture::PATIENCE;
    while written().lines().count() < 3 && Instant::now() < give_up_at {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stdout = written();
    let expected =
        format!("{}\nof pinned\nCpus_allowed_list:\t0\n", spool.canonicalize().unwrap().display());
    assert_eq!(stdout, expected);
}

#[tokio::test]
async fn nodes_are_listed_in_the_order_of_the_release_and_old_ones_while_they_live() {
    let host = Host::new(&[("worker-2", LIVES), ("worker-1", LIVES)]);
    host.up();
    host.start("worker-2", 0).await;
    let names = |reply: tyto_proto::v1::StatusReply| -> Vec<String> {
        reply.nodes.into_iter().map(|node| node.node).collect()
    };
    assert_eq!(names(host.status().await), ["worker-2", "worker-1"]);

    host.release("r2", &[("worker-1", LIVES), ("worker-3", LIVES)]);
    let reply = host.status().await;
    assert_eq!(reply.release, "r2");
    assert_eq!(names(reply), ["worker-1", "worker-3", "worker-2"]);
    assert_eq!(host.node("worker-2").await.release, "r1");
    host.stop("worker-2", 0).await;
    assert_eq!(names(host.status().await), ["worker-1", "worker-3"]);
    assert_eq!(host.start("worker-2", 0).await.message, "no such node on this host");
}

#[tokio::test]
async fn a_node_that_dies_after_its_release_has_gone_stays_down() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let pid = host.node("worker-1").await.pid;
    host.release("r2", &[("worker-3", LIVES)]);
    kill9(pid);
    let node = host.node_until("worker-1", |node| node.state == "crashed").await;
    assert_eq!(node.last_exit, "signal 9 (SIGKILL)");
}
