//! `ctl exec`: one shell command on every host, once each. Takes no lock.

use clap::{Arg, ArgMatches};
use serde_json::json;

use super::{Command, Run};
use crate::context::Context;
use crate::hosts::Hosts;
use crate::remote::Input;
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "exec",
    summary: "Runs a shell command on every host",
    details: "The words are given to `sh` on each host as one command line. Fails when it fails \
              anywhere.",
    args: || {
        vec![
            Arg::new("command")
                .value_name("COMMAND")
                .required(true)
                .num_args(1..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("Command line for the shell"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let words: Vec<&str> =
        args.get_many::<String>("command").into_iter().flatten().map(String::as_str).collect();
    let script = words.join(" ");
    let nodes = ctx.cluster.ordered();
    let hosts = Hosts::of(ctx, &nodes)?;
    let results = hosts
        .each(|host| {
            // Both outputs in the order they came, as a terminal would show them.
            let script = format!("{{ {script}\n}} 2>&1");
            async move { host.remote.run(&script, Input::None, host.deadline).await }
        })
        .await;
    let mut report = Report::new();
    let mut all = Vec::new();
    for (host, result) in results {
        let first = nodes.iter().find(|node| node.host == host);
        let node = first.map_or_else(String::new, |node| node.name.to_string());
        match result {
            Ok(output) => {
                let text = output.stdout_text();
                let lines: Vec<&str> = text.lines().collect();
                let error = if output.ok() { " " } else { "error" };
                report.line(format!("[{node}/{host}] {error}\n> {}", lines.join("\n> ")));
                if !output.ok() {
                    report.fail();
                }
                all.push(json!({ "host": host, "code": output.code, "output": text }));
            }
            Err(error) => {
                report.line(format!("[{node}/{host}] error"));
                report.remote_error(&host, &error);
                all.push(json!({ "host": host, "error": error.to_string() }));
            }
        }
    }
    report.json(&all);
    Ok(report)
}
