//! Certificates and the CA under delivery (issue 3): renewed and rotated while rows flow from
//! workers to the logger, no process restarted, no row lost or twice; a rotation that stops goes
//! on or back; keys are nowhere but in their files.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tyto_tests::cluster::{Cluster, read_capture};
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::{tree, wait};

const HOSTS: usize = 2;
const WORKER_HOST: usize = 2;
/// Time to be up.
const UP_LIMIT: Duration = Duration::from_secs(20);
/// Time for nodes to notice other files and tell of it.
const NOTICE_LIMIT: Duration = Duration::from_secs(20);
/// A third of the capture's pace: the replay lasts through renewal and rotation.
const PACE: [&str; 2] = ["-x", "0.3"];
/// What a private key looks like in a file, a log or an environment.
const KEY_MARK: &str = "PRIVATE KEY";

#[test]
fn certificates_and_the_ca_are_replaced_under_delivery() -> Result<()> {
    let reference = read_capture(&tree::lab_capture(), &["conn"])?;
    let lab = match Lab::up("testcerts", HOSTS)? {
        Ok(lab) => lab,
        Err(why) => {
            tree::skipped("certificates_and_the_ca_are_replaced_under_delivery", &why);
            return Ok(());
        }
    };
    let node_cfg = NodeCfg::with_head(1).proxy("proxy-2", 2).worker("worker-1", 2).procs(2);
    let cluster = Cluster::deploy(lab, Seat::Operator, node_cfg.text())?;
    cluster.wait_until_running(UP_LIMIT)?;
    let pids = cluster.pids()?;

    let traffic = cluster.replay(&[WORKER_HOST], &PACE)?;
    renewing_makes_new_keys_and_certificates_that_are_used(&cluster)?;
    rotating_leaves_a_new_ca_alone(&cluster)?;
    traffic.finish()?;
    ensure!(cluster.pids()? == pids, "a node was restarted");
    // As at the end of a capture: an orderly end writes the connections that are still open.
    cluster.ctl(&["restart", "workers"])?.ok()?;
    cluster.has_conn_rows_of(&reference[0])?;
    let acked: u64 = cluster
        .settled_ledger()?
        .iter()
        .filter(|((_, stream), _)| stream == "conn")
        .map(|(_, rows)| rows)
        .sum();
    ensure!(acked == reference[0].len() as u64, "{acked} rows of {}", reference[0].len());

    let pids = cluster.pids()?;
    a_rotation_stops_at_a_host_that_is_away_and_goes_on_or_back(&cluster)?;
    a_deploy_in_the_middle_of_a_rotation_goes_along_with_it(&cluster)?;
    a_strangers_certificate_is_refused_and_seen_by_the_operator(&cluster)?;
    ensure!(cluster.pids()? == pids, "a node was restarted");
    keys_are_nowhere_but_in_their_files(&cluster)
}

/// `ctl --json certs`: node to its row, and the CAs.
fn certs(cluster: &Cluster) -> Result<(BTreeMap<String, Value>, Vec<Value>)> {
    let result = cluster.ctl(&["--json", "certs"])?.json()?["result"].take();
    let rows = result["nodes"].as_array().context("no nodes")?;
    let rows = rows.iter().map(|row| (row["node"].as_str().unwrap_or_default(), row.clone()));
    let cas = result["cas"].as_array().context("no CAs")?.clone();
    Ok((rows.map(|(node, row)| (node.to_owned(), row)).collect(), cas))
}

/// One column of the rows.
fn column(rows: &BTreeMap<String, Value>, name: &str) -> BTreeMap<String, String> {
    rows.iter().map(|(node, row)| (node.clone(), row[name].to_string())).collect()
}

fn all_are_good_and_used(cluster: &Cluster) -> Result<BTreeMap<String, Value>> {
    let (rows, cas) = certs(cluster)?;
    ensure!(cas.len() == 1, "{} CAs", cas.len());
    for (node, row) in &rows {
        ensure!(row["state"] == "good", "`{node}`: {row}");
        ensure!(row["in_use"] == true, "`{node}`: {row}");
        ensure!(row["issuer"] == cas[0]["key_id"], "`{node}`: {row}, {}", cas[0]);
        ensure!(row["refusals"] == Value::Array(Vec::new()), "`{node}`: {row}");
    }
    Ok(rows)
}

/// Hashes of the keys on all hosts, by file.
fn keys(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let mut keys = BTreeMap::new();
    for host in 1..=HOSTS {
        let sums = cluster.lab.sh(host, "cd /opt/tyto/etc/tls && sha256sum *.key")?;
        for line in sums.lines() {
            let (sum, file) = line.split_once("  ").context("sha256sum")?;
            keys.insert(file.to_owned(), sum.to_owned());
        }
    }
    Ok(keys)
}

fn renewing_makes_new_keys_and_certificates_that_are_used(cluster: &Cluster) -> Result<()> {
    let before = all_are_good_and_used(cluster)?;
    let keys_before = keys(cluster)?;
    let told = cluster.ctl(&["certs", "renew", "workers", "logger"])?.ok()?;
    ensure!(told.stdout.contains("certificates renewed: 3"), "{}", told.stdout);
    let after = all_are_good_and_used(cluster)?;
    let (before, after) = (column(&before, "fingerprint"), column(&after, "fingerprint"));
    let keys_after = keys(cluster)?;
    for (node, fingerprint) in &after {
        let is_named = node == "logger" || node.starts_with("worker");
        ensure!((before[node] != *fingerprint) == is_named, "`{node}`");
        let file = format!("{node}.key");
        ensure!((keys_before[&file] != keys_after[&file]) == is_named, "key of `{node}`");
    }
    Ok(())
}

fn rotating_leaves_a_new_ca_alone(cluster: &Cluster) -> Result<()> {
    let (before, cas_before) = certs(cluster)?;
    let told = cluster.ctl(&["certs", "rotate"])?.ok()?;
    ensure!(told.stdout.contains("one CA is trusted"), "{}", told.stdout);
    let after = all_are_good_and_used(cluster)?;
    let (_, cas) = certs(cluster)?;
    ensure!(cas[0]["fingerprint"] != cas_before[0]["fingerprint"], "the CA is the old one");
    let (before, after) = (column(&before, "fingerprint"), column(&after, "fingerprint"));
    ensure!(before.iter().all(|(node, old)| after[node] != *old), "{before:?} {after:?}");
    let left = cluster.lab.sh(1, "ls /opt/tyto/ca")?;
    ensure!(left.split_whitespace().eq(["ca.key", "ca.pem"]), "{left}");
    Ok(())
}

fn a_rotation_stops_at_a_host_that_is_away_and_goes_on_or_back(cluster: &Cluster) -> Result<()> {
    let phase = |words: &[&str]| -> Result<(i32, Value)> {
        let answer = cluster.ctl(words)?;
        Ok((answer.code, answer.json()?["result"]["phase"].clone()))
    };
    let (_, cas_before) = certs(cluster)?;
    // A host whose files cannot be written: it has to stay in the first phase.
    let tls = "/opt/tyto/etc/tls";
    cluster.lab.sh(2, &format!("mount --bind {tls} {tls} && mount -o remount,bind,ro {tls}"))?;
    let (code, stopped) = phase(&["--json", "certs", "rotate"])?;
    ensure!(code == 1 && stopped == "trust", "exit {code}, {stopped}");
    let (code, again) = phase(&["--json", "certs", "rotate", "--resume"])?;
    ensure!(code == 1 && again == "trust", "exit {code}, {again}");
    cluster.lab.sh(2, &format!("umount {tls}"))?;
    ensure!(phase(&["--json", "certs", "rotate", "--status"])?.1 == "trust");
    let (code, over) = phase(&["--json", "certs", "rotate", "--abort"])?;
    ensure!(code == 0 && over.is_null(), "exit {code}, {over}");
    let (_, cas) = certs(cluster)?;
    ensure!(cas == cas_before, "the way back does not lead to the CA of before");
    all_are_good_and_used(cluster)?;
    let answer = cluster.ctl(&["certs", "rotate", "--resume"])?;
    ensure!(answer.code == 1 && answer.stderr.contains("no rotation"), "{}", answer.stderr);
    Ok(())
}

fn a_deploy_in_the_middle_of_a_rotation_goes_along_with_it(cluster: &Cluster) -> Result<()> {
    let manager = "/opt/tyto/current/bin/manager ca";
    let place = "--prefix /opt/tyto --cluster lab";
    // As a ctl that is killed after each step leaves it.
    cluster.lab.sh(1, &format!("{manager} begin {place}"))?;
    cluster.ctl(&["deploy"])?.ok()?;
    let trusted = |host| cluster.lab.sh(host, "grep -c BEGIN /opt/tyto/etc/tls/ca.pem");
    for host in 1..=HOSTS {
        let found = trusted(host)?;
        ensure!(found.trim() == "2", "host {host} trusts {} CAs after the deploy", found.trim());
    }
    cluster.lab.sh(1, &format!("{manager} advance --from trust {place}"))?;
    let plan = cluster.ctl(&["deploy", "--plan"])?.ok()?.stdout;
    let due = "issue a certificate for logger (certificate of another CA)";
    ensure!(plan.contains(due) && plan.contains("no node would be touched"), "{plan}");
    cluster.ctl(&["certs", "rotate"])?.ok()?;
    all_are_good_and_used(cluster).map(drop)
}

/// A node with a certificate of another CA: it is refused by its peers, goes on capturing, and
/// `ctl certs` says what is the matter on both sides.
fn a_strangers_certificate_is_refused_and_seen_by_the_operator(cluster: &Cluster) -> Result<()> {
    let (prefix, programs) = ("/tmp/stranger", "/opt/tyto/current/bin");
    let place = format!("--prefix {prefix} --cluster lab");
    let manager = format!("{programs}/manager ca");
    cluster.lab.sh(1, &format!("mkdir -p {prefix} && {manager} init {place}"))?;
    let of_proxy =
        |verb: &str| format!("{programs}/supervisor {verb} --prefix /opt/tyto --node proxy-2");
    let request = cluster.lab.sh(2, &of_proxy("csr"))?;
    let sign = format!("printf %s '{request}' | {manager} sign {place} proxy/proxy-2");
    let certificate = cluster.lab.sh(1, &sign)?;
    cluster.lab.sh(2, &format!("printf %s '{certificate}' | {}", of_proxy("cert")))?;
    let seen = |node: &str, by_peer: bool| {
        let rows = certs(cluster)?.0;
        let refusals = rows[node]["refusals"].as_array().cloned().unwrap_or_default();
        let is_so = |r: &&Value| r["reason"] == "stranger" && r["by_peer"] == by_peer;
        Ok(match refusals.iter().find(is_so) {
            Some(refusal) => Ok(refusal["last_text"].to_string()),
            None => Err(format!("`{node}` tells of {refusals:?}")),
        })
    };
    let told = wait::until("the stranger knows", NOTICE_LIMIT, || seen("proxy-2", true))?;
    ensure!(told.contains("does not trust the CA of our certificate"), "{told}");
    let told = wait::until("its peers know", NOTICE_LIMIT, || seen("manager", false))?;
    ensure!(told.contains("proxy `proxy-2` is signed by"), "{told}");
    let answer = cluster.ctl(&["certs"])?;
    ensure!(answer.code == 1 && answer.stdout.contains("wrong CA"), "{}", answer.stdout);
    ensure!(answer.stderr.contains("ctl certs renew proxy-2"), "{}", answer.stderr);
    cluster.ctl(&["certs", "renew", "proxy-2"])?.ok()?;
    let (rows, _) = certs(cluster)?;
    ensure!(rows["proxy-2"]["state"] == "good", "{}", rows["proxy-2"]);
    cluster.lab.sh(1, &format!("rm -r {prefix}")).map(drop)
}

fn keys_are_nowhere_but_in_their_files(cluster: &Cluster) -> Result<()> {
    for host in 1..=HOSTS {
        let sh = |script: &str| cluster.lab.sh(host, script);
        let found =
            sh(&format!("grep -rlI '{KEY_MARK}' /opt/tyto /tmp /var/log /run 2>/dev/null; true"))?;
        let allowed = |path: &&str| {
            path.starts_with("/opt/tyto/etc/tls/") && path.ends_with(".key")
                || *path == "/opt/tyto/ca/ca.key" && host == 1
                // The lab's own sshd.
                || path.starts_with("/run/lab/")
        };
        let elsewhere: Vec<&str> = found.lines().filter(|path| !allowed(path)).collect();
        ensure!(elsewhere.is_empty(), "host {host}: keys in {elsewhere:?}");
        ensure!(found.lines().any(|path| path.starts_with("/opt/tyto/etc/tls/")), "no key found");
        // Lines of the keys themselves, wherever a process might show them.
        let in_processes = sh("sed -n '2p' /opt/tyto/etc/tls/*.key > /tmp/key-lines; \
             for p in /proc/[0-9]*; do \
               tr '\\0' '\\n' < $p/cmdline 2>/dev/null; tr '\\0' '\\n' < $p/environ 2>/dev/null; \
             done | grep -F -f /tmp/key-lines | grep -v grep; \
             find /opt/tyto -type f ! -name '*.key' -size -16M | \
               xargs grep -lF -f /tmp/key-lines; rm /tmp/key-lines; true")?;
        ensure!(in_processes.is_empty(), "host {host}: {in_processes}");
        let open = sh("find /opt/tyto/etc/tls /opt/tyto/ca /opt/tyto/run -perm /077 \
               ! -name '*.pem' ! -type l 2>/dev/null; true")?;
        let open: Vec<&str> = open.lines().filter(|path| !is_harmless(path)).collect();
        ensure!(open.is_empty(), "host {host}: others may use {open:?}");
        let run = sh("stat -c %a /opt/tyto/run /opt/tyto/etc/tls")?;
        ensure!(run == "700\n700\n", "host {host}: {run}");
    }
    Ok(())
}

/// Below a folder of mode 0700, so that nobody gets at it.
fn is_harmless(path: &str) -> bool {
    path.starts_with("/opt/tyto/run/") && !path.ends_with(".sock")
}
