//! `ctl logs`: the rows of a log stream that is being written, of all loggers together. Takes
//! no lock.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;

use super::{Command, Run};
use crate::context::Context;
use crate::hosts::{Host, Hosts};
use crate::remote::Input;
use crate::remote::error::RemoteError;
use crate::remote::shell::quote_path;
use crate::report::{self, Report, hinted};

/// Rows on their way to the screen; past that, hosts wait.
const FOLLOWED_ROWS_MAX: usize = 1024;
/// Exit code of the script for a log that is not there.
const EXIT_NO_LOG: i32 = 3;

pub(super) const COMMAND: Command = Command {
    name: "logs",
    summary: "Shows rows of a log that is being written",
    details: "The last rows of the stream from each logger, in the order of their time, with the \
              header once. Rotated logs are in logs/YYYY-MM-DD below the prefix.",
    args: || {
        vec![
            Arg::new("stream")
                .value_name("STREAM")
                .default_value("conn")
                .help("Log stream, such as conn"),
            Arg::new("rows")
                .short('n')
                .long("rows")
                .value_name("N")
                .value_parser(value_parser!(u32))
                .default_value("10")
                .help("Rows shown of each logger"),
            Arg::new("follow")
                .short('f')
                .long("follow")
                .action(ArgAction::SetTrue)
                .help("Go on with new rows until interrupted"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let stream = args.get_one::<String>("stream").map_or("conn", String::as_str);
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if stream.is_empty() || !stream.bytes().all(is_word) {
        return Err(hinted(format!("`{stream}` is no log stream"), "such as conn, known_hosts"));
    }
    let rows = args.get_one::<u32>("rows").copied().unwrap_or(10);
    let writes = |role| matches!(role, Role::Logger | Role::Standalone);
    let loggers: Vec<&Node> =
        ctx.cluster.ordered().into_iter().filter(|node| writes(node.role)).collect();
    let hosts = Hosts::of(ctx, &loggers)?;
    if args.get_flag("follow") {
        return follow(&hosts, &loggers, stream, rows).await;
    }
    let results = hosts
        .each(|host| {
            let scripts = scripts(&host, &loggers, |path| last_rows(path, rows), stream);
            async move {
                let mut texts = Vec::new();
                for script in scripts {
                    let output = host.remote.run(&script, Input::None, host.deadline).await?;
                    if output.code != EXIT_NO_LOG {
                        texts.push(output.stdout_text());
                    }
                }
                Ok(texts)
            }
        })
        .await;
    Ok(show(results, stream))
}

fn show(
    results: Vec<(tyto_core::config::name::HostName, Result<Vec<String>, RemoteError>)>,
    stream: &str,
) -> Report {
    let mut report = Report::new();
    let mut texts = Vec::new();
    for (host, result) in results {
        match result {
            Ok(more) => texts.extend(more),
            Err(error) => report.remote_error(&host, &error),
        }
    }
    if texts.is_empty() && report.is_good() {
        report.error_hint(
            format!("no logger is writing `{stream}.log`"),
            "a log begins with its first row; `ctl exec ls PREFIX/logs/current` lists them",
        );
    }
    let (header, rows) = merge(&texts);
    header.iter().chain(&rows).for_each(|line| report.line(line.clone()));
    report.json(&json!({ "stream": stream, "header": header, "rows": rows }));
    report
}

/// Header of the first text, rows of all by their first column, which is the time.
fn merge(texts: &[String]) -> (Vec<String>, Vec<String>) {
    let is_header = |line: &&str| line.starts_with('#');
    let header = texts.first().map(|text| text.lines().filter(is_header));
    let header = header.into_iter().flatten().filter(|line| !line.starts_with("#close"));
    let mut rows: Vec<&str> =
        texts.iter().flat_map(|text| text.lines().filter(|line| !is_header(line))).collect();
    rows.sort_by(|a, b| time_of(a).total_cmp(&time_of(b)));
    (header.map(str::to_owned).collect(), rows.into_iter().map(str::to_owned).collect())
}

/// Time of a TSV row, or of a JSON one; rows without keep their place at the front.
fn time_of(row: &str) -> f64 {
    let json = row.split_once("\"ts\":").map(|(_, rest)| rest);
    let text = json.unwrap_or(row);
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.get(..digits).and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

fn scripts(
    host: &Host,
    loggers: &[&Node],
    script: impl Fn(&str) -> String,
    stream: &str,
) -> Vec<String> {
    let here = loggers.iter().filter(|node| node.host == host.name);
    let path = |node: &&&Node| {
        quote_path(&host.layout.node_spool(&node.name).join(format!("{stream}.log")))
    };
    here.map(|node| script(&path(&node))).collect()
}

/// Header and last rows. The header is within the first lines; `#close` is a line of its own.
fn last_rows(path: &str, rows: u32) -> String {
    let more = u64::from(rows) + 1;
    format!(
        "[ -r {path} ] || exit {EXIT_NO_LOG}; head -n 20 {path} | grep '^#'; \
         tail -n {more} {path} | grep -v '^#' | tail -n {rows}; exit 0"
    )
}

async fn follow(
    hosts: &Hosts,
    loggers: &[&Node],
    stream: &str,
    rows: u32,
) -> anyhow::Result<Report> {
    let (lines, mut screen) = mpsc::channel::<String>(FOLLOWED_ROWS_MAX);
    let mut tasks = tokio::task::JoinSet::new();
    for host in hosts.iter() {
        // -F: goes on with the new file after a rotation.
        let script = |path: &str| format!("exec tail -n {rows} -F {path} 2>/dev/null");
        for script in scripts(host, loggers, script, stream) {
            let (host, lines) = (host.clone(), lines.clone());
            tasks.spawn(async move { copy_lines(&host, &script, &lines).await });
        }
    }
    drop(lines);
    let mut has_header = false;
    while let Some(line) = screen.recv().await {
        if !line.starts_with('#') {
            report::print_line(&line);
        } else if line.starts_with("#fields") && !has_header {
            has_header = true;
            report::print_line(&line);
        }
    }
    let mut report = Report::new();
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(error)) = ended {
            report.remote_error("logger", &error);
        }
    }
    Ok(report)
}

async fn copy_lines(
    host: &Host,
    script: &str,
    lines: &mpsc::Sender<String>,
) -> Result<(), RemoteError> {
    let stream = host.remote.open(script, Duration::from_secs(10)).await?;
    let mut from = BufReader::new(stream.reader).lines();
    let lost = |error: std::io::Error| RemoteError::Lost {
        host: host.name.to_string(),
        said: error.to_string(),
    };
    while let Some(line) = from.next_line().await.map_err(lost)? {
        if lines.send(line).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn rows_of_all_loggers_stand_in_the_order_of_their_time_under_one_header() {
        let one = "#separator x\n#fields\tts\n1.5\ta\n10.25\tb\n".to_owned();
        let two = "#separator x\n#fields\tts\n9.75\tc\n#close\t2026\n".to_owned();
        let (header, rows) = merge(&[one, two]);
        assert_eq!(header, ["#separator x", "#fields\tts"]);
        assert_eq!(rows, ["1.5\ta", "9.75\tc", "10.25\tb"]);
    }

    #[test]
    fn json_rows_are_sorted_too() {
        let texts = ["{\"ts\":3.5,\"uid\":\"a\"}\n{\"ts\":1.5}\n".to_owned()];
        assert_eq!(merge(&texts).1, ["{\"ts\":1.5}", "{\"ts\":3.5,\"uid\":\"a\"}"]);
    }
}
