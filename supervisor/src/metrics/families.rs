//! From what the supervisor knows to Prometheus's text format. Pure: a [`Scene`] in, text out.

use std::collections::BTreeMap;

use prometheus::proto::{self, Bucket, Histogram, LabelPair, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use tyto_proto::v1::{Alarm, LedgerRow, LogLag, NodeHealth, NodeStatus, StatusReply};

use super::disk::Room;
use super::names::{self, Kind, Metric};

/// A node that runs and whose last report is older is not up: nodes report each second.
const REPORT_AGE_MS_MAX: u64 = 10_000;

/// Samples in one answer at most; what is beyond is left out and told by `tyto_samples_left_out`.
const SAMPLES_MAX: usize = 1 << 18;

/// Everything that is told at one moment.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// Name of the cluster.
    pub(super) cluster: String,
    /// The host as node.cfg names it.
    pub(super) host: String,
    /// What ctl would be told.
    pub(super) status: StatusReply,
    /// Room on the disks.
    pub(super) rooms: Vec<Room>,
    /// Times that this was asked for.
    pub(super) scrapes: u64,
    /// Times that it was refused.
    pub(super) refused: u64,
}

/// The answer.
pub(super) fn text(scene: &Scene) -> Vec<u8> {
    let mut families = Families::default();
    families.all(scene);
    let mut text = Vec::new();
    // Refused for a family without a name or a sample only, and there is none.
    if let Err(error) = TextEncoder::new().encode(&families.finished(), &mut text) {
        tracing::error!(%error, "metrics cannot be told");
    }
    text
}

/// Families under way, in the order of the tables, then those of nodes' counters by name.
#[derive(Debug, Default)]
struct Families {
    own: BTreeMap<usize, MetricFamily>,
    counters: BTreeMap<String, MetricFamily>,
    samples: usize,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Families {
    fn all(&mut self, scene: &Scene) {
        let status = &scene.status;
        let host = [
            ("cluster", scene.cluster.as_str()),
            ("host", &scene.host),
            ("release", &status.release),
            ("version", &status.version),
        ];
        self.add(names::HOST_INFO, &host, 1.0);
        for node in &status.nodes {
            self.node(node);
        }
        for gone in &status.departed {
            self.ledger(gone);
        }
        let reports = status.nodes.iter().filter_map(|node| node.health.as_ref());
        let managers = reports.flat_map(|health| &health.alarms);
        for alarm in managers.chain(&status.alarms).filter(|alarm| alarm.cleared_ns == 0) {
            self.alarm(alarm);
        }
        for room in &scene.rooms {
            let path = [("path", room.path.as_str())];
            self.add(names::DISK_FREE, &path, float(room.free_bytes));
            self.add(names::DISK_SIZE, &path, float(room.size_bytes));
        }
        self.add(names::SCRAPES, &[], float(scene.scrapes));
        self.add(names::SCRAPES_REFUSED, &[], float(scene.refused));
    }

    fn node(&mut self, node: &NodeStatus) {
        let of_node = [("node", node.node.as_str()), ("role", node.role.as_str())];
        let age_ms = node.health_age_ms;
        let fresh = node.health.as_ref().filter(|_| node.pid != 0 && age_ms <= REPORT_AGE_MS_MAX);
        self.add(names::UP, &of_node, f64::from(u8::from(fresh.is_some())));
        self.add(names::RESTARTS, &of_node, f64::from(node.restarts));
        self.add(names::WATCHDOG_KILLS, &of_node, f64::from(node.watchdog_kills));
        if node.started_ns != 0 {
            self.add(names::START_TIME, &of_node, float(node.started_ns) / 1e9);
        }
        if let Some(usage) = &node.usage {
            self.add(names::RESIDENT, &of_node, float(usage.resident_bytes));
            self.add(names::VIRTUAL, &of_node, float(usage.virtual_bytes));
            self.add(names::CPU, &of_node, float(usage.cpu_ms) / 1e3);
        }
        if node.health.is_some() {
            self.add(names::REPORT_AGE, &of_node, float(age_ms) / 1e3);
        }
        let version = node.health.as_ref().map_or("", |health| &health.version);
        let about = [("state", node.state.as_str()), ("version", version)];
        let labels = [&of_node[..], &about[..], &[("release", node.release.as_str())]].concat();
        self.add(names::NODE_INFO, &labels, 1.0);
        if let Some(health) = node.health.as_ref().or(node.last_report.as_ref()) {
            self.ledger(health);
        }
        if let Some(health) = fresh {
            self.of_report(health);
        }
    }

    fn of_report(&mut self, health: &NodeHealth) {
        let of_node = [("node", health.node.as_str()), ("role", health.role.as_str())];
        if let Some(identity) = &health.identity {
            self.add(names::CERTIFICATE, &of_node, float(identity.not_after_s));
            for refusal in &identity.refusals {
                let by = if refusal.by_peer { "peer" } else { "node" };
                let why = [("reason", refusal.reason.as_str()), ("by", by)];
                self.add(names::REFUSED, &[&of_node[..], &why[..]].concat(), float(refusal.count));
            }
        }
        for counter in &health.counters {
            // `sink_rows@siem` is what the sink `siem` counts as `sink_rows`.
            match counter.name.split_once('@') {
                Some((name, sink)) => {
                    let of_sink = [&of_node[..], &[("sink", sink)]].concat();
                    self.counter(name, &of_sink, counter.value);
                }
                None => self.counter(&counter.name, &of_node, counter.value),
            }
        }
        for lag in &health.log_lag {
            self.lag(&of_node, lag);
        }
    }

    fn counter(&mut self, counter: &str, labels: Labels<'_>, value: u64) {
        let (name, kind, per, help) = names::of_counter(counter);
        if !self.has_room() {
            return;
        }
        let family =
            self.counters.entry(name.clone()).or_insert_with(|| family(&name, kind, &help));
        family.mut_metric().push(sample(kind, labels, float(value) / float(per)));
    }

    fn ledger(&mut self, health: &NodeHealth) {
        let of_node = [("node", health.node.as_str()), ("role", health.role.as_str())];
        for row in &health.ledger {
            let labels = [&of_node[..], &[("stream", row.stream.as_str())]].concat();
            if is_producers(row) {
                self.add(names::PRODUCED, &labels, float(row.produced_rows));
                self.add(names::ACKED, &labels, float(row.acked_rows));
                self.add(names::PENDING, &labels, float(row.pending_rows));
                self.add(names::SPOOLED, &labels, float(row.spooled_rows));
            }
            for part in &row.dropped {
                let reason = [("reason", part.reason.as_str())];
                self.add(names::DROPPED, &[&labels[..], &reason[..]].concat(), float(part.rows));
            }
            for part in &row.written {
                let producer = [("producer", part.producer.as_str())];
                self.add(names::WRITTEN, &[&labels[..], &producer[..]].concat(), float(part.rows));
            }
        }
    }

    fn lag(&mut self, of_node: Labels<'_>, lag: &LogLag) {
        if lag.stream.is_empty() {
            let Some(minute) = lag.last_minute.filter(|minute| minute.rows > 0) else { return };
            let figures = [("0.5", minute.p50_ms), ("0.99", minute.p99_ms), ("1", minute.max_ms)];
            for (share, ms) in figures {
                let labels = [of_node, &[("share", share)]].concat();
                self.add(names::LAG_LATELY, &labels, float(ms) / 1e3);
            }
            return;
        }
        if !self.has_room() {
            return;
        }
        let mut rows = 0;
        let mut buckets = Vec::new();
        for part in &lag.buckets {
            rows += part.rows;
            if part.le_ms != u64::MAX {
                let mut bucket = Bucket::default();
                bucket.set_cumulative_count(rows);
                bucket.set_upper_bound(float(part.le_ms) / 1e3);
                buckets.push(bucket);
            }
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(rows);
        histogram.set_sample_sum(float(lag.sum_ms) / 1e3);
        let labels = [of_node, &[("stream", lag.stream.as_str())]].concat();
        let mut metric = proto::Metric::from_label(pairs(&labels));
        metric.set_histogram(histogram);
        self.family(names::LAG).mut_metric().push(metric);
    }

    fn alarm(&mut self, alarm: &Alarm) {
        let labels = [
            ("kind", alarm.kind.as_str()),
            ("node", alarm.node.as_str()),
            ("stream", alarm.stream.as_str()),
            ("reason", alarm.reason.as_str()),
        ];
        self.add(names::ALARM, &labels, 1.0);
        self.add(names::ALARM_SINCE, &labels, float(alarm.raised_ns) / 1e9);
    }

    fn add(&mut self, metric: Metric, labels: Labels<'_>, value: f64) {
        debug_assert!(
            labels
                .iter()
                .map(|(name, _)| *name)
                .eq(metric.labels.split(", ").filter(|l| !l.is_empty())),
            "the document names the labels of {}",
            metric.name
        );
        if self.has_room() {
            self.family(metric).mut_metric().push(sample(metric.kind, labels, value));
        }
    }

    fn family(&mut self, metric: Metric) -> &mut MetricFamily {
        let place = names::METRICS.iter().position(|known| known.name == metric.name);
        let fresh = || family(metric.name, metric.kind, metric.help);
        self.own.entry(place.unwrap_or(usize::MAX)).or_insert_with(fresh)
    }

    fn has_room(&mut self) -> bool {
        self.samples += 1;
        self.samples <= SAMPLES_MAX
    }

    fn finished(mut self) -> Vec<MetricFamily> {
        let left_out = self.samples.saturating_sub(SAMPLES_MAX) as u64;
        self.family(names::LEFT_OUT).mut_metric().push(sample(Kind::Gauge, &[], float(left_out)));
        self.own.into_values().chain(self.counters.into_values()).collect()
    }
}

/// Loggers report what they wrote for others in rows that produced nothing.
fn is_producers(row: &LedgerRow) -> bool {
    row.produced_rows + row.acked_rows + row.pending_rows + row.spooled_rows > 0
}

fn family(name: &str, kind: Kind, help: &str) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(match kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family
}

fn sample(kind: Kind, labels: Labels<'_>, value: f64) -> proto::Metric {
    let mut metric = proto::Metric::from_label(pairs(labels));
    match kind {
        Kind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Kind::Gauge | Kind::Histogram => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

/// Prometheus has floats only: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "the text format's numbers")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use tyto_proto::v1::{Counter, Dropped, IdentityHealth, LagBucket, LagFigures, Written};

    use super::*;

    fn worker() -> NodeHealth {
        let row = LedgerRow {
            stream: "conn".into(),
            produced_rows: 10,
            acked_rows: 6,
            pending_rows: 1,
            spooled_rows: 1,
            dropped: vec![Dropped { reason: "spool_full".into(), rows: 2 }],
            written: Vec::new(),
        };
        let counter = |name: &str, value| Counter { name: name.into(), value };
        NodeHealth {
            node: "worker-1".into(),
            role: "worker".into(),
            ledger: vec![row],
            counters: vec![
                counter("packets_received", 70),
                counter("oldest_waiting_ms", 1500),
                counter("sink_rows@siem", 9),
            ],
            identity: Some(IdentityHealth { not_after_s: 1_700_000_000, ..Default::default() }),
            ..NodeHealth::default()
        }
    }

    fn logger() -> NodeHealth {
        let written = vec![Written { producer: "worker-1".into(), rows: 6 }];
        let minute = LagFigures { rows: 6, p50_ms: 100, p99_ms: 250, max_ms: 300 };
        let bucket = |le_ms, rows| LagBucket { le_ms, rows };
        let lag = LogLag {
            last_minute: Some(minute),
            buckets: vec![bucket(100, 4), bucket(250, 1), bucket(u64::MAX, 1)],
            sum_ms: 900,
            ..LogLag::default()
        };
        NodeHealth {
            node: "logger-1".into(),
            role: "logger".into(),
            ledger: vec![LedgerRow { stream: "conn".into(), written, ..LedgerRow::default() }],
            log_lag: vec![lag.clone(), LogLag { stream: "conn".into(), ..lag }],
            ..NodeHealth::default()
        }
    }

    fn running(health: NodeHealth) -> NodeStatus {
        let (node, role) = (health.node.clone(), health.role.clone());
        let state = "running".to_owned();
        NodeStatus { node, role, state, pid: 7, health: Some(health), ..NodeStatus::default() }
    }

    fn told(nodes: Vec<NodeStatus>) -> String {
        let alarm =
            Alarm { kind: "lag".into(), node: "x".into(), raised_ns: 1, ..Alarm::default() };
        let over = Alarm { cleared_ns: 2, kind: "dropped".into(), ..alarm.clone() };
        let status = StatusReply { nodes, alarms: vec![alarm, over], ..StatusReply::default() };
        let room = Room { path: "/opt/tyto".into(), free_bytes: 5, size_bytes: 9 };
        let scene = Scene { status, rooms: vec![room], ..Scene::default() };
        String::from_utf8(text(&scene)).unwrap()
    }

    #[test]
    fn reports_become_samples_with_the_units_of_prometheus() {
        let text = told(vec![running(worker()), running(logger())]);
        let of = "node=\"worker-1\",role=\"worker\"";
        for line in [
            format!("tyto_up{{{of}}} 1"),
            format!("tyto_packets_received_total{{{of}}} 70"),
            format!("tyto_oldest_waiting_seconds{{{of}}} 1.5"),
            format!("tyto_certificate_expiry_timestamp_seconds{{{of}}} 1700000000"),
            format!("tyto_log_produced_rows_total{{{of},stream=\"conn\"}} 10"),
            format!("tyto_log_dropped_rows_total{{{of},stream=\"conn\",reason=\"spool_full\"}} 2"),
            "# TYPE tyto_log_lag_seconds histogram".to_owned(),
            "tyto_alarm{kind=\"lag\",node=\"x\",stream=\"\",reason=\"\"} 1".to_owned(),
            "tyto_disk_free_bytes{path=\"/opt/tyto\"} 5".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let lag =
            "tyto_log_lag_seconds_bucket{node=\"logger-1\",role=\"logger\",stream=\"conn\",le=";
        let buckets: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(lag)).collect();
        assert_eq!(buckets, ["\"0.1\"} 4", "\"0.25\"} 5", "\"+Inf\"} 6"]);
        assert!(!text.contains("kind=\"dropped\""), "an alarm that is over");
    }

    #[test]
    fn a_node_that_is_gone_is_down_and_keeps_its_ledger_only() {
        let mut node = running(worker());
        node.pid = 0;
        node.last_report = node.health.take();
        let mut stale = running(logger());
        stale.health_age_ms = REPORT_AGE_MS_MAX + 1;
        let text = told(vec![node, stale]);
        assert!(text.contains("tyto_up{node=\"worker-1\",role=\"worker\"} 0"));
        assert!(text.contains("tyto_up{node=\"logger-1\",role=\"logger\"} 0"));
        assert!(text.contains("tyto_log_produced_rows_total{node=\"worker-1\""));
        assert!(
            !text.contains("tyto_packets_received_total") && !text.contains("lag_seconds_bucket")
        );
    }

    #[test]
    fn values_of_labels_cannot_break_the_format() {
        let mut node = running(worker());
        node.node = "a\"b\\c\nd".to_owned();
        assert!(told(vec![node]).contains("tyto_up{node=\"a\\\"b\\\\c\\nd\""));
    }

    #[test]
    fn the_rules_in_the_docs_are_rules_on_metrics_that_there_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/prometheus-alerts.yml");
        let rules = std::fs::read_to_string(path).unwrap();
        let own = names::METRICS.iter().map(|metric| metric.name.to_owned());
        let counters = names::NODE_COUNTERS.iter().map(|known| names::of_counter(known.counter).0);
        let known: Vec<String> = own.chain(counters).collect();
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = rules.split(|c| !is_of_name(c)).filter(|word| word.starts_with("tyto_"));
        for word in words {
            assert!(known.iter().any(|name| name == word), "{word}");
        }
        match Command::new("promtool").args(["check", "rules", path]).output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(_) => eprintln!("SKIPPED the check of the rules: there is no promtool"),
        }
    }

    #[test]
    fn promtool_finds_nothing_to_say() {
        let promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = promtool else {
            eprintln!("SKIPPED promtool_finds_nothing_to_say: there is no promtool");
            return;
        };
        let mut all = worker();
        let counter = |known: &names::NodeCounter| Counter { name: known.counter.into(), value: 1 };
        all.counters = names::NODE_COUNTERS.iter().map(counter).collect();
        let text = told(vec![running(all), running(logger())]);
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    }
}
