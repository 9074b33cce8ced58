//! A cluster on the hosts of a lab, as its operator sees it: by `ctl`, by the logs, and by the
//! processes on the hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lab::{Lab, Replay, Seat};
use crate::program::Outcome;
use crate::zeek_log::{ZeekLog, difference};
use crate::{lab, tree, wait};

/// Time that one call of ctl may take, a deploy of several hosts included.
pub const CTL_LIMIT: Duration = Duration::from_secs(120);

/// Columns of conn.log that a replay cannot keep: `uid` is random by design; `ts` and `duration`
/// are those of now, at the pace of the machine it runs on. Everything else must be equal: ends,
/// protocol, state, history, bytes and packets of both sides, missed bytes. The state of a
/// connection does depend on time where a timer ends it; but the capture has each pair of ends
/// only once, so a timer may end a connection early or late and never splits it, and the state
/// and counts of a connection on which nothing more is sent do not change.
pub const OF_THE_MOMENT: [&str; 3] = ["ts", "uid", "duration"];

/// Time for the last rows to get from the workers into the files.
const ROWS_LIMIT: Duration = Duration::from_secs(60);

/// Settings of every cluster of the tests: small rings, logs that can be read without unpacking.
const TYTO_YAML: &str = "\
cluster: lab
prefix: /opt/tyto
compress_logs: false
stop_timeout_s: 20
af_packet:
  buffer_size_bytes: 33554432
";
/// ssh as the lab's operator has it.
const SSH_YAML: &str = "\
ssh:
  config_file: /run/lab/ssh_config
  known_hosts: /run/lab/known_hosts
  connect_timeout_s: 3
";

/// A node as `ctl status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// running, stopped, crashed and so on.
    pub status: String,
    /// Its process on its host; none when there is none.
    pub pid: Option<u64>,
    /// The host as node.cfg names it.
    pub host: String,
}

/// A lab with a cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its hosts.
    pub lab: Lab,
    seat: Seat,
}

impl Cluster {
    /// Writes the configuration and deploys, both in a seat.
    ///
    /// # Errors
    /// When that fails.
    pub fn deploy(lab: Lab, seat: Seat, node_cfg: &str) -> Result<Self> {
        let cluster = Self::configure(lab, seat, node_cfg)?;
        cluster.ctl(&["deploy"])?.ok()?;
        Ok(cluster)
    }

    /// Writes the configuration in a seat.
    ///
    /// # Errors
    /// When that fails.
    pub fn configure(lab: Lab, seat: Seat, node_cfg: &str) -> Result<Self> {
        Self::configure_with(lab, seat, node_cfg, "")
    }

    /// The same, with further lines of tyto.yaml.
    ///
    /// # Errors
    /// When that fails.
    pub fn configure_with(lab: Lab, seat: Seat, node_cfg: &str, settings: &str) -> Result<Self> {
        let tyto_yaml = match seat {
            Seat::Operator => format!("{TYTO_YAML}{SSH_YAML}"),
            Seat::Host(_) => TYTO_YAML.to_owned(),
        };
        lab.configure(seat, "node.cfg", node_cfg)?;
        lab.configure(seat, "networks.cfg", "")?;
        lab.configure(seat, "tyto.yaml", &format!("{settings}{tyto_yaml}"))?;
        Ok(Self { lab, seat })
    }

    /// Runs ctl.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn ctl(&self, words: &[&str]) -> Result<Outcome> {
        let program = tree::program("ctl").display().to_string();
        let mut all = vec![program.as_str(), "--etc", "/opt/tyto/etc"];
        all.extend(words);
        self.lab.run_at(self.seat, &all, CTL_LIMIT)
    }

    /// The nodes by name, whatever their state and ctl's exit code.
    ///
    /// # Errors
    /// When ctl does not answer as it promises.
    pub fn status(&self) -> Result<BTreeMap<String, NodeRow>> {
        node_rows(&self.ctl(&["--json", "status"])?.json()?)
    }

    /// Process ids by node.
    ///
    /// # Errors
    /// When a node has no process.
    pub fn pids(&self) -> Result<BTreeMap<String, u64>> {
        let rows = self.status()?;
        let pid = |(name, row): (String, NodeRow)| {
            let pid = row.pid.with_context(|| format!("`{name}` is {}", row.status))?;
            Ok((name, pid))
        };
        rows.into_iter().map(pid).collect()
    }

    /// Waits until every node is running.
    ///
    /// # Errors
    /// When one is not within `limit`.
    pub fn wait_until_running(&self, limit: Duration) -> Result<()> {
        wait::until("every node is running", limit, || {
            let rows = self.status()?;
            let not = rows.iter().find(|(_, row)| row.status != "running");
            Ok(not.map_or(Ok(()), |(name, row)| Err(format!("`{name}` is {}", row.status))))
        })
    }

    /// All rows of a log stream, from the archive and the current file of the first host.
    ///
    /// # Errors
    /// When a file is no whole log.
    pub fn log(&self, stream: &str) -> Result<ZeekLog> {
        // -L: logs/current is a link into the logger's folder.
        let script =
            format!("find -L /opt/tyto/logs -name '{stream}.*log' -type f | sort | xargs -r cat");
        ZeekLog::parse(&self.lab.sh(1, &script)?)
    }

    /// Waits until every row is accounted for and on its way no more, then gives the ledger: of
    /// each (node, log stream) the rows that are in the files.
    ///
    /// # Errors
    /// When the sums never match, or rows never arrive.
    pub fn settled_ledger(&self) -> Result<BTreeMap<(String, String), u64>> {
        let settled = || {
            let answer = self.ctl(&["--json", "ledger"])?;
            if answer.code != 0 {
                return Ok(Err(answer.stdout));
            }
            let result = answer.json()?["result"].take();
            let streams = result["streams"].as_array().context("no streams in the ledger")?;
            let waits = |line: &&Value| line["in_flight_rows"] != 0 || line["spooled_rows"] != 0;
            Ok(match streams.iter().find(waits) {
                Some(line) => Err(line.to_string()),
                None => Ok(result),
            })
        };
        let result = wait::until("the ledger adds up, nothing is on its way", ROWS_LIMIT, settled)?;
        let written = |entry: &Value| {
            let (node, line) = (entry["node"].as_str()?, &entry["line"]);
            let stream = line["stream"].as_str()?;
            Some(((node.to_owned(), stream.to_owned()), line["written_rows"].as_u64()?))
        };
        let nodes = result["nodes"].as_array().context("no nodes in the ledger")?;
        nodes.iter().map(|entry| written(entry).with_context(|| entry.to_string())).collect()
    }

    /// The rows of conn that are in the first host's files, once the ledger has settled: as many
    /// as it has acked, and none twice.
    ///
    /// # Errors
    /// When rows are missing, are too many or are there twice.
    pub fn conn_rows_of_the_ledger(&self) -> Result<ZeekLog> {
        let written = self.settled_ledger()?;
        let written: u64 =
            written.iter().filter(|((_, stream), _)| stream == "conn").map(|(_, rows)| rows).sum();
        // Of a logger whose node is away too, which logs/current does not link to.
        let script = "find /opt/tyto/logs /opt/tyto/spool/logger -name 'conn.*log' -type f \
                      | sort | xargs -r cat";
        let conn = ZeekLog::parse(&self.lab.sh(1, script)?)?;
        ensure!(written == conn.len() as u64, "{written} rows are acked, {} are there", conn.len());
        let uids = conn.counts(&["uid"])?;
        let twice: Vec<_> = uids.iter().filter(|(_, times)| **times > 1).take(5).collect();
        ensure!(twice.is_empty(), "rows that are in the files more than once: {twice:?}");
        Ok(conn)
    }

    /// Waits until conn.log has the rows of `expected`, and compares them without the columns
    /// [`OF_THE_MOMENT`].
    ///
    /// # Errors
    /// When rows are missing, differ, or are too many.
    pub fn has_conn_rows_of(&self, expected: &ZeekLog) -> Result<()> {
        wait::until("all rows are in conn.log", ROWS_LIMIT, || {
            let rows = self.log("conn")?.len();
            Ok(if rows >= expected.len() { Ok(()) } else { Err(format!("{rows} rows")) })
        })?;
        let found = self.log("conn")?.multiset(&OF_THE_MOMENT)?;
        match difference(&expected.multiset(&OF_THE_MOMENT)?, &found) {
            None => Ok(()),
            Some(difference) => bail!("conn.log differs from the capture's:\n{difference}"),
        }
    }

    /// Starts the replay of the recorded capture, whole connections to each of these hosts.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn replay(&self, hosts: &[usize], options: &[&str]) -> Result<Traffic> {
        self.replay_capture(&tree::lab_capture(), hosts, options)
    }

    /// The same with another capture.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn replay_capture(
        &self,
        capture: &std::path::Path,
        hosts: &[usize],
        options: &[&str],
    ) -> Result<Traffic> {
        let parts = tempfile::tempdir()?;
        lab::split(capture, parts.path(), hosts.len())?;
        let replay = |(part, host): (usize, &usize)| {
            self.lab.replay(*host, &parts.path().join(format!("{part}.pcap")), options)
        };
        let replays = (1..).zip(hosts).map(replay).collect::<Result<_>>()?;
        Ok(Traffic { replays, _parts: parts })
    }

    /// Command lines of our programs that run on a host, with their process ids.
    ///
    /// # Errors
    /// When ps fails.
    pub fn processes(&self, host: usize) -> Result<Vec<(u64, String)>> {
        let listing = self.lab.sh(host, "ps -e -o pid=,stat=,args=")?;
        let ours = |line: &str| {
            let mut words = line.split_whitespace();
            let pid = words.next()?.parse().ok()?;
            let is_dead = words.next()?.starts_with('Z');
            let args = words.collect::<Vec<_>>().join(" ");
            (args.contains("/opt/tyto/") && !is_dead).then_some((pid, args))
        };
        Ok(listing.lines().filter_map(ours).collect())
    }
}

/// Replays on several hosts.
#[derive(Debug)]
pub struct Traffic {
    replays: Vec<Replay>,
    _parts: tempfile::TempDir,
}

impl Traffic {
    /// Waits for the end of all.
    ///
    /// # Errors
    /// When one failed.
    pub fn finish(self) -> Result<()> {
        self.replays.into_iter().try_for_each(Replay::finish)
    }
}

/// What `worker --read` logs of a capture: stream to log.
///
/// # Errors
/// When it fails.
pub fn read_capture(capture: &std::path::Path, streams: &[&str]) -> Result<Vec<ZeekLog>> {
    let dir = tempfile::tempdir()?;
    let words = [
        tree::program("worker").display().to_string(),
        "--read".to_owned(),
        capture.display().to_string(),
        "--log-dir".to_owned(),
        dir.path().display().to_string(),
    ];
    crate::program::run(&words, CTL_LIMIT)?.ok()?;
    let read = |stream: &&str| {
        let path = dir.path().join(format!("{stream}.log"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the worker left no {stream}.log"))?;
        ZeekLog::parse(&text)
    };
    streams.iter().map(read).collect()
}

/// The rows of `ctl --json status`.
///
/// # Errors
/// When the answer has another form.
pub fn node_rows(answer: &Value) -> Result<BTreeMap<String, NodeRow>> {
    let Some(rows) = answer["result"].as_array() else {
        bail!("ctl status gave no rows: {answer:#}")
    };
    let row = |row: &Value| {
        let text = |key: &str| {
            row[key].as_str().map(str::to_owned).with_context(|| format!("no `{key}` in {row}"))
        };
        let node =
            NodeRow { status: text("status")?, pid: row["pid"].as_u64(), host: text("host")? };
        Ok((text("name")?, node))
    };
    rows.iter().map(row).collect()
}
