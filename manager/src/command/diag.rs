//! `ctl diag`: how a node stands and the last words it left on its host. Takes no lock.

use std::sync::Arc;

use clap::ArgMatches;
use serde_json::json;
use tyto_proto::v1::NodeStatus;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::hosts::{Host, Hosts};
use crate::remote::Input;
use crate::remote::error::RemoteError;
use crate::remote::shell::{quote, quote_path};
use crate::report::Report;

/// Last lines shown of each file.
const LINES: usize = 30;

pub(super) const COMMAND: Command = Command {
    name: "diag",
    summary: "Tells why a node is as it is: state, last exit, last output",
    details: "State and last exit as the supervisor knows them, the end of stderr.log and \
              stdout.log, and the folders of crashes that were kept.",
    args: || vec![nodes_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// What is known of one node: what its supervisor says, what is on the disk.
type Findings = (Option<NodeStatus>, String);

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let hosts = Hosts::of(ctx, &nodes)?;
    let results = hosts
        .each(|host| {
            let here = nodes.iter().filter(|node| node.host == host.name);
            let names: Vec<String> = here.map(|node| node.name.to_string()).collect();
            async move { find(Arc::new(host), names).await }
        })
        .await;
    let mut report = Report::new();
    let mut all = Vec::new();
    for (host, result) in results {
        match result {
            Ok(findings) => {
                for (node, (status, files)) in findings {
                    report.line(format!("[{node}]"));
                    report.line(describe(status.as_ref()));
                    report.raw(files.clone());
                    let state = status.as_ref().map(|status| status.state.clone());
                    all.push(json!({ "node": node, "state": state, "files": files }));
                }
            }
            Err(error) => report.remote_error(&host, &error),
        }
    }
    report.json(&all);
    Ok(report)
}

async fn find(host: Arc<Host>, names: Vec<String>) -> Result<Vec<(String, Findings)>, RemoteError> {
    // The disk tells something even when the supervisor does not.
    let status = host.status().await.map(|reply| reply.nodes).unwrap_or_default();
    let mut findings = Vec::new();
    for name in names {
        let script = script(&host, &name);
        let output = host.remote.run(&script, Input::None, host.deadline).await?;
        let known = status.iter().find(|status| status.node == name).cloned();
        findings.push((name, (known, output.stdout_text())));
    }
    Ok(findings)
}

/// ZeekControl's blocks: `==== file`, or `==== No file`.
fn script(host: &Host, node: &str) -> String {
    format!(
        "cd {spool} 2>/dev/null || {{ echo '==== No working folder'; exit 0; }}\n\
         for f in stderr.log stdout.log; do\n\
           if [ -s $f ]; then echo; echo \"==== $f\"; tail -n {LINES} $f; \
           else echo; echo \"==== No $f\"; fi\n\
         done\n\
         l=; n=0; for c in {crashes}/crash-{node}-[0-9][0-9][0-9][0-9]-[0-9][0-9]-*; do\n\
           [ -d \"$c\" ] && {{ l=$c; n=$((n+1)); }}\n\
         done\n\
         if [ -n \"$l\" ]; then echo; echo \"==== last of $n crashes: $l\"; \
           for f in \"$l\"/*; do [ -s \"$f\" ] && {{ echo \"---- ${{f##*/}}\"; \
           tail -n {LINES} \"$f\"; }}; done; fi; exit 0",
        spool = quote_path(&host.layout.node_spool(node)),
        crashes = quote_path(&host.layout.crashes()),
        node = quote(node),
    )
}

fn describe(status: Option<&NodeStatus>) -> String {
    let Some(status) = status else { return "not known to a supervisor".to_owned() };
    let mut text = format!(
        "state {}, pid {}, restarts {}, release {}",
        status.state,
        status.pid,
        status.restarts,
        if status.release.is_empty() { "-" } else { &status.release }
    );
    if !status.last_exit.is_empty() {
        text.push_str(&format!(", last exit: {}", status.last_exit));
    }
    if let Some(health) = &status.health {
        text.push_str(&format!("\nlast report {} ms ago", status.health_age_ms));
        for counter in &health.counters {
            text.push_str(&format!("\n  {} = {}", counter.name, counter.value));
        }
    }
    text
}
