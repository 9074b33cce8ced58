//! The names of all metrics, in one table each: what a node counts, and what the supervisor knows
//! of it. docs/metrics.md is made from these.
//! Longer than 500 lines: a table, with a line or a few for each.

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only rises, until its process is started again.
    Counter,
    /// As it is just now.
    Gauge,
    /// Counts by size.
    Histogram,
}

#[cfg(test)]
impl Kind {
    /// The word of the text format.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A counter of a node's report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeCounter {
    /// Its name in the report, and in `ctl netstats --json`.
    pub(crate) counter: &'static str,
    /// What kind of number it is.
    pub(crate) kind: Kind,
    /// What it counts.
    pub(crate) help: &'static str,
}

/// Labels of a metric of one node.
pub(crate) const OF_NODE: &str = "node, role";

/// A metric that the supervisor makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// Its name.
    pub(crate) name: &'static str,
    /// What kind of number it is.
    pub(crate) kind: Kind,
    /// Names of its labels.
    pub(crate) labels: &'static str,
    /// What it tells.
    pub(crate) help: &'static str,
}

const fn count(counter: &'static str, help: &'static str) -> NodeCounter {
    NodeCounter { counter, kind: Kind::Counter, help }
}

const fn gauge(counter: &'static str, help: &'static str) -> NodeCounter {
    NodeCounter { counter, kind: Kind::Gauge, help }
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static str,
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, help }
}

/// Counters of nodes. One that is not here is shown all the same, as a gauge: nobody says that it
/// only rises.
pub(crate) const NODE_COUNTERS: &[NodeCounter] = &[
    count("nic_packets", "Packets that the card received, since its interface was made."),
    count("nic_bytes", "Bytes that the card received, since its interface was made."),
    count("nic_sent", "Packets that the host sent out of the card."),
    count("nic_errors", "Packets that came broken from the wire."),
    count("nic_frame", "Packets with a framing error."),
    count("nic_dropped", "Packets for which card or kernel had no room."),
    count("nic_fifo", "Packets lost in the queue of the card."),
    gauge("nic_merges", "1 when packets are merged before they are captured (GRO, LRO)."),
    count("packets_link", "Packets meant for this worker, after filter and fanout."),
    count("packets_received", "Packets that the worker took from its ring."),
    count("bytes_received", "Bytes of the packets that the worker took from its ring."),
    count("packets_dropped", "Packets that found the ring full."),
    count("ring_freezes", "Times that the ring was full."),
    count("packets_malformed", "Packets of which the ring told nonsense."),
    count("packets_truncated", "Packets cut by snaplen."),
    count("packets_card_time", "Packets with a time stamp of the card."),
    count("interface_downs", "Times that the interface went down."),
    count("packets_analysed", "Packets that this life of the worker analysed."),
    count("packets_empty", "Packets without a byte."),
    count("packets_unread", "Packets that were cut, broken or not IP."),
    count("packets_bad_checksum", "Packets with a wrong checksum."),
    count("flows", "Connections seen."),
    gauge("flows_active", "Connections that are followed now."),
    count("flows_evicted", "Connections logged before their end because flows_max was reached."),
    count("streams_given_up", "TCP streams given up because too much waited behind a hole."),
    gauge("stream_bytes_waiting", "Bytes that wait behind holes of TCP streams."),
    count("table_entries_forgotten", "Entries of bounded tables that made way for others."),
    count(
        "conns_announced",
        "Connections that another one announced (FTP data, DCC), here or at another worker.",
    ),
    count("conns_announced_met", "Announced connections that came."),
    count(
        "conns_announced_late",
        "Announced connections that came before their announcement and were analysed whole.",
    ),
    count(
        "conns_announced_too_late",
        "Announced connections whose first bytes were gone when their announcement came.",
    ),
    count(
        "late_conns_refused",
        "Connections whose first bytes were not kept for an announcement, for want of room.",
    ),
    count("notes_told", "Notes for other workers that a proxy took."),
    count("notes_reached", "Times that a worker was told one of this worker's notes."),
    count("notes_heard", "Notes of other workers that came."),
    count("notes_kept", "DHCP messages that this worker keeps itself."),
    count("notes_untaken", "Notes that no proxy took: other workers do not know."),
    count("notes_dropped", "Notes between workers that found a queue full."),
    count("notes_unread", "Notes of other workers that made no sense."),
    gauge(
        "shed_level",
        "How much is left out now: 0 nothing, 1 detection by content, 2 long connections too, 3 all analysis.",
    ),
    count("shed_levels_raised", "Times that the ring was so full that more was left out."),
    count("shed_undetected", "Connections looked at by their port only."),
    count("shed_cut_short", "Connections whose analysis ended at 1 MiB."),
    count("shed_unanalysed", "Connections that were counted only."),
    count("packet_thread_turns", "Turns of the packet thread."),
    gauge("spool_bytes", "Bytes of rows on disk that no logger has confirmed."),
    gauge(
        "spool_doubt_rows",
        "Rows bound to loggers that are away: whether those have them is not known.",
    ),
    gauge("spool_doubt_copied_rows", "Of these, the rows that another logger has a copy of."),
    gauge("spool_sync_fails", "1 while the spool's disk cannot be synced."),
    gauge(
        "spool_kept_segments",
        "Segments of the spool with records of a later release, kept under another name.",
    ),
    count("spool_kept_removed", "Such segments removed, because 16 were kept already."),
    count("host_crashes", "Times that the host crashed under the node."),
    gauge("oldest_waiting_ms", "For how long the oldest row has waited for a logger."),
    count("commits", "Times that log files were synced."),
    count("commit_faults", "Times that the disk refused that."),
    gauge("commit_mean_us", "What a sync takes on average."),
    gauge("commit_slowest_us", "What the slowest sync took."),
    gauge("disk_refuses", "1 while the disk takes no log rows."),
    count("refused_rows", "Rows that this logger can never write."),
    gauge("doubt_copies", "Batches of other loggers kept as copies until those are back."),
    gauge("doubt_rows", "Rows of these."),
    count(
        "doubt_copies_not_made",
        "Copies not made for want of room, or because the disk refused.",
    ),
    count("lag_unmeasured_rows", "Rows that carried no time to measure their lag by."),
    count("filtered_rows", "Rows that `streams` of tyto.yaml keeps out of the log files."),
    count(
        "sink_rows",
        "Rows handed over to a sink (label sink), in the counter's name behind `@`.",
    ),
    gauge("sink_behind_rows", "Rows committed that the sink did not get yet."),
    count("sink_expired_rows", "Rows that expired before the sink got them."),
    count("sink_broken_rows", "Rows that the sink's condition cannot be asked of; not sent."),
    count("sink_reconnects", "Connections to the sink after the first one."),
    count("sink_faults", "Times that the sink was not reached, or its connection broke."),
    gauge("sink_connected", "1: there is a connection to the sink."),
    gauge("subscribers", "Programs that follow log streams at this moment."),
    count("subscriber_rows", "Rows handed over to subscribers."),
    count("subscribers_refused", "Subscriptions refused because there were too many."),
    count("archived_files", "Log files that got their name in the archive."),
    count("archive_faults", "Times that a log file could not be archived; it is tried again."),
    count("parquet_faults", "Log files that could not become Parquet and are archived as text."),
    count("expired_by_age", "Archived files removed because of their age."),
    count("expired_by_size", "Archived files removed because the archive was too large."),
    count("expired_by_free_space", "Archived files removed because the disk was too full."),
    count("expired_bytes", "Bytes of archived files that were removed."),
    count(
        "expire_faults",
        "Times that the archive could not be looked through, or a file not be removed.",
    ),
    gauge(
        "expire_stuck",
        "1 while the archive is too large or its disk too full, and no file may go.",
    ),
    count("rotation_command_ok", "Rotation commands that ended well."),
    count("rotation_command_failed", "Rotation commands that failed or took too long."),
    count(
        "rotation_command_given_up",
        "Archived files for which the rotation command is not tried any more.",
    ),
    gauge(
        "rotation_command_waiting",
        "Archived files for which the rotation command is still to be run.",
    ),
    gauge("known_nodes", "Nodes that the manager knows of."),
    gauge("up_nodes", "Nodes that the manager heard of in the last 10 s."),
    count("taken_reports", "Reports that the manager took."),
    count("refused_reports", "Reports that the manager had no place for."),
    count("cluster_log_lost_rows", "Rows of cluster.log that could not be written."),
    count("alarms_unraised", "Alarms not raised because too many stood."),
    gauge("entries", "Entries of the proxy's table."),
    count("claims", "Claims that the proxy answered."),
    count("firsts", "Claims that were the first."),
    count("copies", "Entries copied from and to other proxies."),
    count("refusals", "Claims that the proxy refused."),
    count("evictions", "Entries that made way for others."),
    count("replicate_failures", "Copies that another proxy did not take."),
    count("snapshot_failures", "Snapshots of the table that could not be written."),
    gauge("listeners", "Workers that listen at the proxy for what others tell."),
    gauge(
        "announcements",
        "Announced connections that the proxy keeps for workers that come later.",
    ),
    count(
        "announcements_forgotten",
        "Announced connections that it kept no longer, because there were too many.",
    ),
    count("notes_passed", "Times that the proxy passed a note on to a worker."),
];

/// A node runs and reports.
pub(crate) const UP: Metric =
    metric("tyto_up", Kind::Gauge, OF_NODE, "1 when the node runs and reports, else 0.");
/// Versions.
pub(crate) const NODE_INFO: Metric = metric(
    "tyto_node_info",
    Kind::Gauge,
    "node, role, state, version, release",
    "1; its labels tell of the node.",
);
/// Starts after deaths.
pub(crate) const RESTARTS: Metric = metric(
    "tyto_node_restarts_total",
    Kind::Counter,
    OF_NODE,
    "Restarts by the supervisor since the operator's start.",
);
/// Those of them after a hang.
pub(crate) const WATCHDOG_KILLS: Metric = metric(
    "tyto_node_watchdog_kills_total",
    Kind::Counter,
    OF_NODE,
    "Restarts after the node hung and was killed.",
);
/// Start of the process.
pub(crate) const START_TIME: Metric = metric(
    "tyto_node_start_time_seconds",
    Kind::Gauge,
    OF_NODE,
    "Start of the node's process since the Unix epoch.",
);
/// Age of what is told here of the node.
pub(crate) const REPORT_AGE: Metric =
    metric("tyto_node_report_age_seconds", Kind::Gauge, OF_NODE, "Time since the node reported.");
/// Memory in use.
pub(crate) const RESIDENT: Metric = metric(
    "tyto_node_resident_memory_bytes",
    Kind::Gauge,
    OF_NODE,
    "Resident memory of the node's process.",
);
/// Memory in the address space.
pub(crate) const VIRTUAL: Metric = metric(
    "tyto_node_virtual_memory_bytes",
    Kind::Gauge,
    OF_NODE,
    "Virtual memory of the node's process.",
);
/// Processor time.
pub(crate) const CPU: Metric = metric(
    "tyto_node_cpu_seconds_total",
    Kind::Counter,
    OF_NODE,
    "Processor time of the node's process, all threads.",
);
/// End of the certificate.
pub(crate) const CERTIFICATE: Metric = metric(
    "tyto_certificate_expiry_timestamp_seconds",
    Kind::Gauge,
    OF_NODE,
    "When the node's certificate is no longer good, since the Unix epoch.",
);
/// Connections that came to nothing.
pub(crate) const REFUSED: Metric = metric(
    "tyto_refused_connections_total",
    Kind::Counter,
    "node, role, reason, by",
    "Connections between nodes that were refused by this one (by=\"node\") or the other end.",
);
/// Ledger: all rows.
pub(crate) const PRODUCED: Metric = metric(
    "tyto_log_produced_rows_total",
    Kind::Counter,
    "node, role, stream",
    "Rows handed to delivery, over all lives of the node.",
);
/// Ledger: delivered.
pub(crate) const ACKED: Metric = metric(
    "tyto_log_acked_rows_total",
    Kind::Counter,
    "node, role, stream",
    "Rows that a logger confirmed to be on its disk.",
);
/// Ledger: on the way.
pub(crate) const PENDING: Metric = metric(
    "tyto_log_pending_rows",
    Kind::Gauge,
    "node, role, stream",
    "Rows on their way to a logger.",
);
/// Ledger: waiting.
pub(crate) const SPOOLED: Metric = metric(
    "tyto_log_spooled_rows",
    Kind::Gauge,
    "node, role, stream",
    "Rows that wait on the node's disk.",
);
/// Ledger: lost.
pub(crate) const DROPPED: Metric = metric(
    "tyto_log_dropped_rows_total",
    Kind::Counter,
    "node, role, stream, reason",
    "Rows given up; the reason is `queue_full`, `spool_full`, `spool_fault`, `refused`, `unclaimed`, \
     `spool_age`, `killed`, `host_crash` or `logger_lost` (docs/operate.md, \"Where a row can be lost\").",
);
/// Ledger: the loggers' side.
pub(crate) const WRITTEN: Metric = metric(
    "tyto_log_written_rows_total",
    Kind::Counter,
    "node, role, stream, producer",
    "Rows that this logger has on its disk of a producer.",
);
/// Lag since the start.
pub(crate) const LAG: Metric = metric(
    "tyto_log_lag_seconds",
    Kind::Histogram,
    "node, role, stream",
    "Time from a packet until the rows that it made were on disk.",
);
/// Lag of late.
pub(crate) const LAG_LATELY: Metric = metric(
    "tyto_log_lag_last_minute_seconds",
    Kind::Gauge,
    "node, role, share",
    "The same of the rows of the last minute; share 0.99: so many took no longer.",
);
/// What is the matter.
pub(crate) const ALARM: Metric = metric(
    "tyto_alarm",
    Kind::Gauge,
    "kind, node, stream, reason",
    "1 for each alarm that stands; told on the manager's host.",
);
/// Since when.
pub(crate) const ALARM_SINCE: Metric = metric(
    "tyto_alarm_raised_timestamp_seconds",
    Kind::Gauge,
    "kind, node, stream, reason",
    "When the alarm was raised, since the Unix epoch.",
);
/// The host.
pub(crate) const HOST_INFO: Metric = metric(
    "tyto_host_info",
    Kind::Gauge,
    "cluster, host, release, version",
    "1; its labels tell of the host and its supervisor.",
);
/// Free room.
pub(crate) const DISK_FREE: Metric = metric(
    "tyto_disk_free_bytes",
    Kind::Gauge,
    "path",
    "Room for the nodes' user on the file system of this folder.",
);
/// All room.
pub(crate) const DISK_SIZE: Metric =
    metric("tyto_disk_size_bytes", Kind::Gauge, "path", "Size of the file system of this folder.");
/// Scrapes.
pub(crate) const SCRAPES: Metric =
    metric("tyto_scrapes_total", Kind::Counter, "", "Times that this was asked for.");
/// Scrapes that were not answered.
pub(crate) const SCRAPES_REFUSED: Metric = metric(
    "tyto_scrapes_refused_total",
    Kind::Counter,
    "",
    "Connections refused because too many asked at once.",
);
/// Bound of the answer.
pub(crate) const LEFT_OUT: Metric = metric(
    "tyto_samples_left_out",
    Kind::Gauge,
    "",
    "Samples left out of this answer because there are too many.",
);

/// What the supervisor makes, in the order of the answer.
pub(crate) const METRICS: &[Metric] = &[
    HOST_INFO,
    UP,
    NODE_INFO,
    RESTARTS,
    WATCHDOG_KILLS,
    START_TIME,
    REPORT_AGE,
    RESIDENT,
    VIRTUAL,
    CPU,
    CERTIFICATE,
    REFUSED,
    ALARM,
    ALARM_SINCE,
    PRODUCED,
    ACKED,
    PENDING,
    SPOOLED,
    DROPPED,
    WRITTEN,
    LAG,
    LAG_LATELY,
    DISK_FREE,
    DISK_SIZE,
    SCRAPES,
    SCRAPES_REFUSED,
    LEFT_OUT,
];

/// The metric of a node's counter, and by what its value is divided: Prometheus counts in seconds
/// and bytes.
pub(crate) fn of_counter(counter: &str) -> (String, Kind, u64, String) {
    let known = NODE_COUNTERS.iter().find(|known| known.counter == counter);
    let kind = known.map_or(Kind::Gauge, |known| known.kind);
    let units = [("_us", 1_000_000), ("_ms", 1_000), ("_s", 1)];
    let unit = units.iter().find_map(|(end, per)| Some((counter.strip_suffix(end)?, *per)));
    let (stem, per) =
        unit.map_or((counter.to_owned(), 1), |(stem, per)| (format!("{stem}_seconds"), per));
    let total = if kind == Kind::Counter { "_total" } else { "" };
    let help = known.map_or_else(
        || format!("What the node counts as {counter}."),
        |known| known.help.to_owned(),
    );
    (format!("tyto_{stem}{total}"), kind, per, help)
}

/// docs/metrics.md.
#[cfg(test)]
fn document() -> String {
    let mut text = String::from(HEAD);
    for Metric { name, kind, labels, help } in METRICS {
        text += &format!("| `{name}` | {} | {labels} | {help} |\n", kind.as_str());
    }
    text += COUNTERS_HEAD;
    for NodeCounter { counter, .. } in NODE_COUNTERS {
        let (name, kind, _, help) = of_counter(counter);
        text += &format!("| `{counter}` | `{name}` | {} | {help} |\n", kind.as_str());
    }
    text
}

#[cfg(test)]
const HEAD: &str = "\
# Metrics

The supervisor of each host answers Prometheus at `metrics_listen` of tyto.yaml (`127.0.0.1:27759`), path
`/metrics`, for all nodes of the host. It tells what nodes reported last and never waits for one: nodes
report each second. A node that does not run has `tyto_up` 0 and its ledger; its other metrics vanish.
Alarms stand where the manager runs. [examples/prometheus-alerts.yml](examples/prometheus-alerts.yml) has rules.

This file is made from `supervisor/src/metrics/names.rs`: `TYTO_WRITE_DOCS=1 cargo test -p tyto-supervisor metrics`.

| metric | type | labels | tells |
|---|---|---|---|
";

#[cfg(test)]
const COUNTERS_HEAD: &str = "
## Counters of nodes

Labels: node, role; of sinks, sink as well. A counter that a node has and this table has not is shown as a gauge.
They begin at 0 with each start of the process, but those of card and ring, which are the capture's.

| counter of `ctl netstats --json` | metric | type | tells |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_is_made_from_the_tables() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        if std::env::var_os("TYTO_WRITE_DOCS").is_some() {
            std::fs::write(&path, document()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap();
        assert_eq!(found, document(), "TYTO_WRITE_DOCS=1 writes it");
    }

    #[test]
    fn names_are_as_prometheus_asks() {
        let of_nodes = NODE_COUNTERS.iter().map(|known| of_counter(known.counter));
        let of_nodes = of_nodes.map(|(name, kind, _, help)| (name, kind, help));
        let own = METRICS.iter().map(|m| (m.name.to_owned(), m.kind, m.help.to_owned()));
        let mut names = BTreeSet::new();
        for (name, kind, help) in own.chain(of_nodes) {
            assert!(name.starts_with("tyto_") && help.ends_with('.'), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
            for unit in ["_ms", "_us", "_s", "_kb"] {
                assert!(!name.ends_with(unit) && !name.contains(&format!("{unit}_")), "{name}");
            }
            assert!(names.insert(name.clone()), "{name} is there twice");
        }
    }

    #[test]
    fn units_are_those_of_prometheus() {
        let named = |counter| {
            let (name, kind, per, _) = of_counter(counter);
            (name, kind, per)
        };
        let ms = ("tyto_oldest_waiting_seconds".to_owned(), Kind::Gauge, 1_000);
        assert_eq!(named("oldest_waiting_ms"), ms);
        assert_eq!(named("commits"), ("tyto_commits_total".to_owned(), Kind::Counter, 1));
        let unknown = ("tyto_sink_queue_rows".to_owned(), Kind::Gauge, 1);
        assert_eq!(named("sink_queue_rows"), unknown);
    }
}
