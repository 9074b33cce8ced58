//! `ctl history`: what was deployed when, by whom, and what came of it. Takes no lock.

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::{Command, Run};
use crate::context::Context;
use crate::deploy::history::{Entry, Files, History, files_of};
use crate::deploy::line_diff::difference;
use crate::report::{Report, hinted};

/// Nodes and keys that a row of the table tells; of more the number is told.
const WORDS_MAX: usize = 3;

pub(super) const COMMAND: Command = Command {
    name: "history",
    summary: "Shows what was deployed when, by whom, and what came of it",
    details: "Kept on the host of the manager (or standalone node), the last 100 changes. With a \
              number, shows that change with the plan and the files in etc as they were; values \
              of environment variables that look like secrets are hidden. With --diff, shows \
              how the files differ from those of the change before; without a number, how the \
              files of now differ from the last ones deployed.",
    args: || {
        vec![
            Arg::new("id")
                .value_name("ID")
                .value_parser(value_parser!(u64))
                .help("Number of a change"),
            Arg::new("diff")
                .long("diff")
                .action(ArgAction::SetTrue)
                .help("Show how the files in etc differ from those before"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let history = History::of(ctx)?.context("node.cfg has no manager and no standalone node")?;
    let id = args.get_one::<u64>("id").copied();
    match (id, args.get_flag("diff")) {
        (None, false) => list(&history).await,
        (None, true) => diff_with_now(ctx, &history).await,
        (Some(id), is_diff) => show(&history, id, is_diff).await,
    }
}

async fn list(history: &History) -> anyhow::Result<Report> {
    let mut report = Report::new();
    let entries = history.entries().await?;
    let header = ["Id", "When", "Who", "Command", "Outcome", "Nodes", "Keys"];
    if entries.is_empty() {
        report.line("nothing was deployed yet");
    } else {
        report.table(&header, entries.iter().map(row).collect());
    }
    report.json(&entries);
    Ok(report)
}

fn row(entry: &Entry) -> Vec<String> {
    let keys: Vec<String> = entry
        .keys
        .iter()
        .map(|key| key.split_once(": ").map_or(key.as_str(), |(name, _)| name).to_owned())
        .collect();
    vec![
        entry.id.to_string(),
        when(entry.began.as_ref()),
        entry.who.clone(),
        entry.command.clone(),
        entry.outcome.as_str().to_owned(),
        words(&entry.nodes),
        words(&keys),
    ]
}

fn words(words: &[String]) -> String {
    match words.get(..WORDS_MAX) {
        Some(first) if words.len() > WORDS_MAX => {
            format!("{} +{}", first.join(", "), words.len() - WORDS_MAX)
        }
        _ if words.is_empty() => "-".to_owned(),
        _ => words.join(", "),
    }
}

/// In the operator's time zone.
fn when(at: Option<&String>) -> String {
    let zoned = |at: Timestamp| at.to_zoned(TimeZone::system()).strftime("%F %T").to_string();
    at.and_then(|text| text.parse().ok()).map_or_else(|| "-".to_owned(), zoned)
}

async fn show(history: &History, id: u64, is_diff: bool) -> anyhow::Result<Report> {
    let mut report = Report::new();
    let (entry, files) = history.entry(id).await?.ok_or_else(|| no_such(id))?;
    tell(&entry, &mut report);
    report.json(&json!({ "entry": entry, "files": files }));
    if is_diff {
        let before = history.entry(id.saturating_sub(1)).await?;
        let before = before.map(|(_, files)| files).unwrap_or_default();
        tell_difference(&before, &files, &mut report);
    } else {
        for (name, text) in &files {
            report.line(format!("==> {name} <=="));
            report.raw(text.clone());
            if !text.ends_with('\n') {
                report.line("");
            }
        }
    }
    Ok(report)
}

fn no_such(id: u64) -> anyhow::Error {
    hinted(format!("there is no change {id}"), "`ctl history` lists them")
}

fn tell(entry: &Entry, report: &mut Report) {
    report.line(format!("change {} by {}: {}", entry.id, entry.who, entry.command));
    report.line(format!(
        "began {}, ended {}: {}",
        when(entry.began.as_ref()),
        when(entry.ended.as_ref()),
        entry.outcome.as_str()
    ));
    for failure in &entry.failures {
        report.line(format!("failure: {failure}"));
    }
    for (host, switched) in &entry.releases {
        let from = switched.from.as_deref().unwrap_or("none");
        let text = match from == switched.to {
            true => format!("{host}: release {from} stayed"),
            false => format!("{host}: release {} after {from}", switched.to),
        };
        report.line(text);
    }
    entry.plan.iter().for_each(|line| report.line(format!("plan: {line}")));
}

/// How the files of now differ from the last ones deployed.
async fn diff_with_now(ctx: &Context, history: &History) -> anyhow::Result<Report> {
    let mut report = Report::new();
    let last = history.entries().await?.last().map(|entry| entry.id);
    let Some(id) = last else {
        report.line("nothing was deployed yet");
        return Ok(report);
    };
    let (_, files) = history.entry(id).await?.ok_or_else(|| no_such(id))?;
    let now = files_of(&ctx.etc, &ctx.cluster);
    report.json(&json!({ "id": id, "deployed": files, "now": now }));
    tell_difference(&files, &now, &mut report);
    Ok(report)
}

fn tell_difference(old: &Files, new: &Files, report: &mut Report) {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let empty = String::new();
    let mut differs = false;
    for name in names {
        let (old, new) = (old.get(name).unwrap_or(&empty), new.get(name).unwrap_or(&empty));
        for line in difference(name, old, new) {
            differs = true;
            report.line(line);
        }
    }
    if !differs {
        report.line("the files in etc do not differ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_the_first_words_and_counts_the_rest() {
        let entry = Entry {
            id: 7,
            who: "alice@ops1".into(),
            command: "ctl deploy".into(),
            keys: vec!["snaplen: 1 -> 2".into()],
            nodes: ["a", "b", "c", "d", "e"].map(str::to_owned).into(),
            ..Entry::default()
        };
        let row = row(&entry);
        let told: Vec<&str> = row.iter().map(String::as_str).collect();
        assert_eq!(
            told,
            ["7", "-", "alice@ops1", "ctl deploy", "unfinished", "a, b, c +2", "snaplen"]
        );
    }
}
