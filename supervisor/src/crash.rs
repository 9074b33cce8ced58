//! What is kept of a node's unwanted death, for `ctl diag` and for whoever looks into it:
//!
//! ```text
//! spool/tmp/crash-NODE-TIME-PID/report.txt       what is known, a line each
//!                               stderr.log stdout.log   their ends
//!                               config.yaml      what the node ran with
//!                               stats.txt        its last report of itself
//!                               supervisor.log   what the supervisor traced about it
//!                               backtrace.txt    where there is a core and a debugger
//!                               core…            of the last crashes only
//! ```
//!
//! The files of this format are described in docs/operate.md.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;
use tyto_core::config::runtime::{HostNode, WatchConfig};
use tyto_core::layout::Layout;
use tyto_proto::v1::NodeHealth;

use crate::backtrace;
use crate::exec_node::NodeNote;
use crate::output;

/// Bytes kept of each output file of the node.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;

/// Bytes of the supervisor's log that are searched for the node, and lines kept of them.
const TRACE_BYTES_MAX: u64 = 256 << 10;
/// See [`TRACE_BYTES_MAX`].
const TRACE_LINES_MAX: usize = 30;

/// Crashes of a node whose cores are kept: cores are large.
const CORES_MAX: usize = 2;

/// The time in the name of a crash's folder, UTC.
const NAME_TIME: &str = "%Y-%m-%d-%H-%M-%S";

/// A death as the supervisor saw it.
#[derive(Debug)]
pub(crate) struct Crash {
    /// The node.
    pub(crate) node: String,
    /// What is known of the process.
    pub(crate) note: NodeNote,
    /// When its end was seen, ns since the Unix epoch.
    pub(crate) died_ns: u64,
    /// How it ended.
    pub(crate) exit: String,
    /// Why, where the supervisor knows: it hung, it had no memory left.
    pub(crate) cause: Option<String>,
    /// The last lines it wrote to stderr.
    pub(crate) last_stderr: Vec<String>,
    /// Length of its stderr.log when it died, bytes: what follows is of its next life.
    pub(crate) stderr_to: u64,
    /// Its last report of itself.
    pub(crate) health: Option<NodeHealth>,
    /// What the release in use says of it.
    pub(crate) config: Option<HostNode>,
    /// Starts by the supervisor before this death.
    pub(crate) restarts: u32,
    /// How many crashes to keep and for how long.
    pub(crate) watch: WatchConfig,
}

/// Makes the folder of a crash and takes the cores along, before the node's next life can write
/// over them; [`keep`] does the rest.
///
/// # Errors
/// When the folder cannot be made.
pub(crate) fn secure(layout: &Layout, crash: &Crash) -> io::Result<(PathBuf, Option<PathBuf>)> {
    let time = utc(crash.died_ns, NAME_TIME);
    let name = format!("crash-{}-{time}-{}", crash.node, crash.note.pid);
    let dir = layout.crashes().join(name);
    fs::create_dir_all(&dir)?;
    let core = backtrace::collect_cores(&layout.node_spool(&crash.node), &dir);
    if let Err(error) = &core {
        warn!(node = %crash.node, %error, "cannot take the core along");
    }
    Ok((dir, core.unwrap_or_default()))
}

/// Fills the folder of a crash. A fault here must not keep the node down, so it is traced only.
/// Blocks; with a core for as long as a debugger takes.
pub(crate) fn keep(layout: &Layout, crash: &Crash, dir: &Path, core: Option<&Path>) {
    match write(layout, crash, dir, core) {
        Ok(()) => {
            tracing::info!(node = %crash.node, dir = %dir.display(), "kept what is left of a crash")
        }
        Err(error) => warn!(node = %crash.node, %error, "cannot keep what is left of a crash"),
    }
    expire(layout, &crash.watch, crash.died_ns);
}

fn write(layout: &Layout, crash: &Crash, dir: &Path, core: Option<&Path>) -> io::Result<()> {
    let spool = layout.node_spool(&crash.node);
    let stderr = output::between(
        &spool.join("stderr.log"),
        crash.note.stderr_from,
        crash.stderr_to,
        OUTPUT_BYTES_MAX,
    )
    .unwrap_or_default();
    fs::write(dir.join("report.txt"), report(crash, core, &stderr))?;
    fs::write(dir.join("stderr.log"), &stderr)?;
    if let Ok(text) = output::tail(&spool.join("stdout.log"), 0, OUTPUT_BYTES_MAX) {
        fs::write(dir.join("stdout.log"), text)?;
    }
    if let Some(health) = &crash.health {
        fs::write(dir.join("stats.txt"), stats(health))?;
    }
    if let Ok(log) = output::tail(&layout.supervisor_log(), 0, TRACE_BYTES_MAX) {
        fs::write(dir.join("supervisor.log"), about(&log, &crash.node))?;
    }
    let release = layout.release(&crash.note.release);
    let config = release.join("etc/nodes").join(format!("{}.yaml", crash.node));
    match fs::copy(config, dir.join("config.yaml")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let (Some(core), Some(program)) = (core, program(&release, &crash.note.role)) {
        backtrace::write(&program, core, &dir.join("backtrace.txt"))?;
    }
    Ok(())
}

fn program(release: &Path, role: &str) -> Option<PathBuf> {
    let role: tyto_core::config::runtime::Role = role.parse().ok()?;
    Some(release.join("bin").join(role.program()))
}

fn report(crash: &Crash, core: Option<&Path>, stderr: &str) -> String {
    let note = &crash.note;
    let lived = Duration::from_nanos(crash.died_ns.saturating_sub(note.started_ns));
    let uname = rustix::system::uname();
    let uname = [uname.sysname(), uname.release(), uname.version(), uname.machine()]
        .map(|part| part.to_string_lossy().into_owned());
    let version = crash.health.as_ref().map_or("unknown", |health| health.version.as_str());
    let core = match core {
        Some(core) => core.display().to_string(),
        None => format!("none; {}", backtrace::where_cores_go()),
    };
    let mut lines = vec![
        ("node", crash.node.clone()),
        ("role", note.role.clone()),
        ("exit", crash.exit.clone()),
        ("cause", crash.cause.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("pid", note.pid.to_string()),
        ("started", utc(note.started_ns, "%Y-%m-%dT%H:%M:%SZ")),
        ("died", utc(crash.died_ns, "%Y-%m-%dT%H:%M:%SZ")),
        ("uptime_s", format!("{:.1}", lived.as_secs_f64())),
        ("restarts", crash.restarts.to_string()),
        ("release", note.release.clone()),
        ("version", version.to_owned()),
        ("supervisor", env!("CARGO_PKG_VERSION").to_owned()),
        ("kernel", uname.join(" ")),
        ("memory_limit", note.memory.clone()),
        ("core", core),
    ];
    if let Some(config) = &crash.config {
        lines.push(("nice", config.limits.nice.to_string()));
        lines.push(("core_dumps", config.limits.core_dumps.to_string()));
        lines.push(("cpus", format!("{:?}", config.cpus)));
    }
    if let Some(panic) = panic_of(stderr) {
        lines.push(("panic", panic));
    }
    let mut text: String = lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    text.push_str("stderr:\n");
    for line in &crash.last_stderr {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// The last panic in what a process wrote: where it was, and its message on the next line.
fn panic_of(stderr: &str) -> Option<String> {
    let lines: Vec<&str> = stderr.lines().collect();
    let place = lines.iter().rposition(|line| line.contains("panicked at "))?;
    let message = lines.get(place + 1).copied().unwrap_or_default();
    Some(format!("{} {message}", lines[place]).trim().to_owned())
}

/// The counters and the ledger of a report, a line each.
fn stats(health: &NodeHealth) -> String {
    let mut text = format!("phase = {}\n", health.phase);
    for counter in &health.counters {
        text.push_str(&format!("{} = {}\n", counter.name, counter.value));
    }
    for row in &health.ledger {
        text.push_str(&format!(
            "ledger {}: produced {} acked {} pending {} spooled {} dropped {}\n",
            row.stream,
            row.produced_rows,
            row.acked_rows,
            row.pending_rows,
            row.spooled_rows,
            row.dropped.iter().map(|dropped| dropped.rows).sum::<u64>(),
        ));
    }
    text
}

/// The last lines of a trace that name the node.
fn about(log: &str, node: &str) -> String {
    let field = format!("node={node}");
    let names = |line: &&str| line.split_whitespace().any(|word| word == field);
    let lines: Vec<&str> = log.lines().filter(names).collect();
    let skip = lines.len().saturating_sub(TRACE_LINES_MAX);
    lines.iter().skip(skip).map(|line| format!("{line}\n")).collect()
}

/// A crash's folder, by its name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    node: String,
    died_s: i64,
    dir: PathBuf,
}

impl Kept {
    fn parse(dir: PathBuf) -> Option<Self> {
        let name = dir.file_name()?.to_str()?.strip_prefix("crash-")?;
        // From the end: the name of a node may hold dashes and digits too.
        let mut parts = name.rsplitn(8, '-');
        let _pid: u32 = parts.next()?.parse().ok()?;
        let mut time: Vec<&str> = parts.by_ref().take(6).collect();
        time.reverse();
        let died = jiff::civil::DateTime::strptime(NAME_TIME, time.join("-")).ok()?;
        let died = died.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        let (node, died_s) = (parts.next()?.to_owned(), died.timestamp().as_second());
        Some(Self { node, died_s, dir })
    }
}

/// Removes crashes that are too old or too many, each node on its own. Faults are traced only.
/// Blocks.
pub(crate) fn expire(layout: &Layout, watch: &WatchConfig, now_ns: u64) {
    let Ok(entries) = fs::read_dir(layout.crashes()) else { return };
    let mut kept: Vec<Kept> = entries.filter_map(|entry| Kept::parse(entry.ok()?.path())).collect();
    kept.sort();
    let now_s = i64::try_from(now_ns / 1_000_000_000).unwrap_or(i64::MAX);
    let days_max = watch.crash_expire_days;
    let oldest_s = (days_max > 0).then(|| now_s.saturating_sub(i64::from(days_max) * 86_400));
    for of_node in kept.chunk_by(|one, other| one.node == other.node) {
        let count_max = usize::try_from(watch.crash_reports_max).unwrap_or(usize::MAX);
        let surplus = of_node.len().saturating_sub(count_max);
        for (index, crash) in of_node.iter().enumerate() {
            let is_old = oldest_s.is_some_and(|oldest| crash.died_s < oldest);
            let removed = if index < surplus || is_old {
                fs::remove_dir_all(&crash.dir)
            } else if index + CORES_MAX < of_node.len() {
                remove_cores(&crash.dir)
            } else {
                continue;
            };
            if let Err(error) = removed {
                warn!(dir = %crash.dir.display(), %error, "cannot remove an old crash");
            }
        }
    }
}

fn remove_cores(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if backtrace::is_core(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn utc(unix_ns: u64, format: &str) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(time) => time.strftime(format).to_string(),
        Err(_) => unix_ns.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tyto_proto::v1::Counter;

    use super::*;

    const DAY_NS: u64 = 86_400_000_000_000;

    fn crash(pid: u32) -> Crash {
        let counters = vec![Counter { name: "packets_received".to_owned(), value: 7 }];
        Crash {
            node: "worker-1".to_owned(),
            note: NodeNote {
                pid,
                started_ns: 1_700_000_000_000_000_000,
                release: "r1".to_owned(),
                role: "worker".to_owned(),
                memory: "none".to_owned(),
                ..NodeNote::default()
            },
            died_ns: 1_700_000_001_500_000_000,
            exit: "signal 9 (SIGKILL)".to_owned(),
            cause: Some("hung: no report for 15 s".to_owned()),
            last_stderr: vec!["last words".to_owned()],
            stderr_to: 11,
            health: Some(NodeHealth { counters, ..NodeHealth::default() }),
            config: None,
            restarts: 2,
            watch: WatchConfig::default(),
        }
    }

    fn layout_with_release() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let nodes = layout.release("r1").join("etc/nodes");
        fs::create_dir_all(&nodes).unwrap();
        fs::write(nodes.join("worker-1.yaml"), "node: worker-1\n").unwrap();
        fs::create_dir_all(layout.node_spool("worker-1")).unwrap();
        let words = "last words\nof the next life\n";
        fs::write(layout.node_spool("worker-1").join("stderr.log"), words).unwrap();
        (dir, layout)
    }

    fn keep_all(layout: &Layout, crash: &Crash) -> PathBuf {
        let (dir, core) = secure(layout, crash).unwrap();
        keep(layout, crash, &dir, core.as_deref());
        dir
    }

    #[test]
    fn a_crash_leaves_exit_cause_last_words_stats_and_configuration() {
        let (_dir, layout) = layout_with_release();
        let dir = keep_all(&layout, &crash(7));
        assert_eq!(dir, layout.crashes().join("crash-worker-1-2023-11-14-22-13-21-7"));
        let report = fs::read_to_string(dir.join("report.txt")).unwrap();
        for line in [
            "exit: signal 9 (SIGKILL)",
            "cause: hung: no report for 15 s",
            "started: 2023-11-14T22:13:20Z",
            "uptime_s: 1.5",
            "restarts: 2",
            "memory_limit: none",
        ] {
            assert!(report.lines().any(|l| l == line), "{line}\n{report}");
        }
        assert!(report.ends_with("stderr:\n  last words\n"), "{report}");
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!(read("stderr.log"), "last words\n", "not what its next life wrote");
        assert_eq!(read("config.yaml"), "node: worker-1\n");
        assert!(read("stats.txt").contains("packets_received = 7\n"));
    }

    #[test]
    fn a_panic_is_told_with_its_message() {
        let stderr = "starting\nthread 'w' panicked at src/a.rs:7:9:\nindex out of bounds\nstack \
                      backtrace:\n   0: std\n";
        let told = panic_of(stderr).unwrap();
        assert_eq!(told, "thread 'w' panicked at src/a.rs:7:9: index out of bounds");
        assert_eq!(panic_of("all is well\n"), None);
    }

    #[test]
    fn the_trace_is_that_of_the_node_and_not_of_one_with_a_longer_name() {
        let log = "a node=worker-1 b\nc node=worker-10\nd node=worker-1\n";
        assert_eq!(about(log, "worker-1"), "a node=worker-1 b\nd node=worker-1\n");
    }

    #[test]
    fn the_oldest_crashes_of_a_node_make_way_and_those_of_others_stay() {
        let (_dir, layout) = layout_with_release();
        let watch = WatchConfig { crash_reports_max: 3, ..WatchConfig::default() };
        let mut other = crash(1);
        other.node = "worker-1-2".to_owned();
        keep_all(&layout, &other);
        for pid in 1..=5 {
            let mut one = crash(pid);
            one.died_ns += u64::from(pid) * 1_000_000_000;
            one.watch = watch.clone();
            fs::write(layout.node_spool("worker-1").join("core"), "x").unwrap();
            keep_all(&layout, &one);
        }
        let names = |dir: &Path| {
            let entries = fs::read_dir(dir).unwrap();
            let mut names: Vec<String> =
                entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(
            names(&layout.crashes()),
            [
                "crash-worker-1-2-2023-11-14-22-13-21-1",
                "crash-worker-1-2023-11-14-22-13-24-3",
                "crash-worker-1-2023-11-14-22-13-25-4",
                "crash-worker-1-2023-11-14-22-13-26-5",
            ]
        );
        let has_core = |name: &str| layout.crashes().join(name).join("core").exists();
        assert!(!has_core("crash-worker-1-2023-11-14-22-13-24-3"), "only the last cores are kept");
        assert!(has_core("crash-worker-1-2023-11-14-22-13-25-4"));
    }

    #[test]
    fn crashes_expire_by_age_unless_that_is_0() {
        let (_dir, layout) = layout_with_release();
        let dir = keep_all(&layout, &crash(7));
        let later = crash(7).died_ns + 31 * DAY_NS;
        let forever = WatchConfig { crash_expire_days: 0, ..WatchConfig::default() };
        expire(&layout, &forever, later);
        expire(&layout, &WatchConfig::default(), later - 2 * DAY_NS);
        assert!(dir.exists());
        expire(&layout, &WatchConfig::default(), later);
        assert!(!dir.exists());
    }

    #[test]
    fn a_crash_is_known_by_its_name_alone() {
        let of = |name: &str| Kept::parse(PathBuf::from(name)).map(|kept| (kept.node, kept.died_s));
        let born = Some(("w-1-2".to_owned(), 1_700_000_001));
        assert_eq!(of("crash-w-1-2-2023-11-14-22-13-21-7"), born);
        assert_eq!(of("crash-w-2023-11-14-22-13-7"), None);
        assert_eq!(of("testing"), None);
    }
}
