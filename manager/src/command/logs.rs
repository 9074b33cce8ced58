//! `ctl logs`: the rows of a log stream from all loggers as one archive in the order of time, or
//! as they are written. Takes no lock.

use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use jiff::Zoned;
use tokio::sync::mpsc;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;
use tyto_core::record::condition::Condition;

use super::{Command, Run};
use crate::context::Context;
use crate::hosts::{Host, Hosts};
use crate::log_rows::{HostRows, Merged, Row, RowsError};
use crate::log_time;
use crate::remote::error::RemoteError;
use crate::remote::shell::{quote, quote_path};
use crate::report::{self, Report, hinted};

/// Rows on their way to the screen; past that, hosts wait.
const FOLLOWED_ROWS_MAX: usize = 1024;

pub(super) const COMMAND: Command = Command {
    name: "logs",
    summary: "Shows rows of a log stream, of all loggers",
    details: "Without times: the last rows that were written. With --since or --until: all rows of \
              that time, in its order, from the archive and from the files being written, of all \
              hosts. Times: `2026-11-22 06:00`, `06:00`, `yesterday`, `-1h`, `10 min ago`. \
              --where takes a condition (docs/conditions.md): `id.resp_p == 443 && proto == tcp`. \
              With --json each row is an object on a line of its own.",
    args: || {
        let text = |name: &'static str, value: &'static str| {
            Arg::new(name).long(name).value_name(value).allow_hyphen_values(true)
        };
        vec![
            Arg::new("stream")
                .value_name("STREAM")
                .default_value("conn")
                .help("Log stream, such as conn"),
            text("since", "TIME").help("Rows from this time on"),
            text("until", "TIME").help("Rows before this time [default: now, with --since]"),
            text("where", "CONDITION").help("Rows for which this holds"),
            text("fields", "NAMES").help("These fields, with commas between: ts,uid,id.orig_h"),
            Arg::new("rows")
                .short('n')
                .long("rows")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=100_000))
                .help("The last N rows [default: 10 without --since and --until]"),
            Arg::new("follow")
                .short('f')
                .long("follow")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["since", "until"])
                .help("Go on with new rows, as they are written, until interrupted"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let words = words(args, ctx.json, &Zoned::now())?;
    let nodes = ctx.cluster.ordered();
    // Loggers that left the cluster have their files where they were: all hosts are asked.
    let hosts = Hosts::of(ctx, &nodes)?;
    let has_logger = |name: &str| {
        let writes = |node: &&&Node| matches!(node.role, Role::Logger | Role::Standalone);
        nodes.iter().filter(writes).any(|node| *node.host.as_str() == *name)
    };
    let mut screen = Screen { header: "".into(), rows: 0 };
    let mut report = Report::new();
    report.rows_were_printed();
    let opened = hosts
        .each(|host| {
            let script = script(&host, &words);
            async move { HostRows::open(&host, &script).await }
        })
        .await;
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for (host, result) in opened {
        match result {
            Ok(opened) => rows.push(opened),
            Err(error) => faults.push((host.to_string(), RowsError::Remote(error))),
        }
    }
    let mut warnings: Vec<(String, String)> = Vec::new();
    if args.get_flag("follow") {
        follow(rows, &mut screen, &mut faults).await;
    } else {
        let last = args.get_one::<u32>("rows").copied();
        let mut merged = Merged::new(rows).await;
        show(&mut merged, last.or(words.last), &mut screen).await;
        warnings.extend(merged.warnings().map(|(host, text)| (host.to_owned(), text.to_owned())));
        for (host, text) in merged.doubts() {
            report.warn(format!("{host}: {text}"));
        }
        faults.append(&mut merged.faults);
    }
    for (host, text) in warnings {
        report.warn(format!("{host}: {text}"));
        report.fail();
    }
    tell(&mut report, faults, has_logger);
    if screen.rows == 0 && report.is_good() {
        report.warn_hint(
            "no such row",
            "a log begins with its first row; `ctl logs conn` shows connections",
        );
    }
    Ok(report)
}

fn tell(report: &mut Report, faults: Vec<(String, RowsError)>, has_logger: impl Fn(&str) -> bool) {
    let mut told = None;
    for (host, fault) in faults {
        match fault {
            RowsError::Query { message, hint } => {
                if told.as_ref() != Some(&message) {
                    report.error_hint(message.clone(), hint);
                }
                told = Some(message);
            }
            RowsError::Remote(error) if has_logger(&host) => {
                report.warn(format!("rows of `{host}` are missing"));
                report.remote_error(&host, &error);
            }
            // Nothing of ours runs there that could have rows, unless of an earlier logger.
            RowsError::Remote(RemoteError::NotInstalled { .. }) => {}
            RowsError::Remote(error) => {
                report.warn(format!("{error}; rows of a logger that it had once would be missing"));
            }
        }
    }
}

/// What `supervisor read-logs` is asked for.
#[derive(Debug)]
struct Words {
    args: Vec<String>,
    last: Option<u32>,
}

fn words(args: &ArgMatches, json: bool, now: &Zoned) -> anyhow::Result<Words> {
    let text = |name: &str| args.get_one::<String>(name).map(String::as_str);
    let stream = text("stream").unwrap_or("conn");
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if stream.is_empty() || !stream.bytes().all(is_word) {
        return Err(hinted(format!("`{stream}` is no log stream"), "such as conn, known_hosts"));
    }
    let mut words = vec![format!("--stream={stream}")];
    for (name, word) in [("since", "--since-us"), ("until", "--until-us")] {
        let Some(text) = text(name) else { continue };
        let at = log_time::parse(text, now).ok_or_else(|| {
            let hint = "such as '2026-11-22 06:00', 06:00, yesterday, -1h or '10 min ago'";
            hinted(format!("--{name}: `{text}` is not a time"), hint)
        })?;
        words.push(format!("{word}={at}"));
    }
    if let Some(text) = text("where") {
        Condition::parse(text).map_err(|error| {
            let hint = error.suggestion().unwrap_or("docs/conditions.md has the language");
            hinted(format!("--where: {error}"), hint)
        })?;
        words.push(format!("--where={text}"));
    }
    if let Some(fields) = text("fields") {
        words.push(format!("--fields={}", fields.replace(' ', "")));
    }
    if json {
        words.push("--json".to_owned());
    }
    let is_timed = text("since").is_some() || text("until").is_some();
    let last = args.get_one::<u32>("rows").copied().or((!is_timed).then_some(10));
    words.extend(last.map(|last| format!("--last={last}")));
    if args.get_flag("follow") {
        words.push("--follow".to_owned());
    } else if !is_timed {
        words.push("--written".to_owned());
    }
    Ok(Words { args: words, last })
}

fn script(host: &Host, words: &Words) -> String {
    let program = quote_path(&host.layout.current_bin("supervisor"));
    let prefix = quote_path(host.layout.prefix());
    let words: Vec<String> = words.args.iter().map(|word| quote(word)).collect();
    format!("exec {program} read-logs --prefix {prefix} {}", words.join(" "))
}

/// Prints rows, and a header where columns change.
struct Screen {
    header: Arc<str>,
    rows: u64,
}

impl Screen {
    fn print(&mut self, row: &Row) {
        if row.header != self.header {
            self.header = Arc::clone(&row.header);
            if !self.header.is_empty() {
                report::print_line("#separator \\x09");
                report::print_line(&self.header);
            }
        }
        self.rows += 1;
        report::print_line(&row.line);
    }
}

async fn show(merged: &mut Merged, last: Option<u32>, screen: &mut Screen) {
    let Some(last) = last else {
        while let Some(row) = merged.next().await {
            screen.print(&row);
        }
        return;
    };
    // Each host gave its last rows: those of all are among them.
    let mut kept = std::collections::VecDeque::new();
    while let Some(row) = merged.next().await {
        if kept.len() >= last as usize {
            kept.pop_front();
        }
        kept.push_back(row);
    }
    kept.iter().for_each(|row| screen.print(row));
}

/// Prints rows of all hosts as they come.
async fn follow(hosts: Vec<HostRows>, screen: &mut Screen, faults: &mut Vec<(String, RowsError)>) {
    let (rows, mut shown) = mpsc::channel::<Row>(FOLLOWED_ROWS_MAX);
    let mut tasks = tokio::task::JoinSet::new();
    for mut host in hosts {
        let rows = rows.clone();
        tasks.spawn(async move {
            loop {
                match host.next().await {
                    Ok(Some(row)) => {
                        if rows.send(row).await.is_err() {
                            return None;
                        }
                    }
                    Ok(None) => return None,
                    Err(error) => return Some((host.host().to_owned(), error)),
                }
            }
        });
    }
    drop(rows);
    while let Some(row) = shown.recv().await {
        screen.print(&row);
    }
    while let Some(ended) = tasks.join_next().await {
        faults.extend(ended.ok().flatten());
    }
}
