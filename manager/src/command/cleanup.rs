//! `ctl cleanup`: removes what dead nodes left lying about, never a row or a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::json;
use tyto_core::config::name::HostName;
use tyto_core::layout::Layout;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::hosts::{Host, Hosts};
use crate::lock;
use crate::remote::Input;
use crate::remote::error::RemoteError;
use crate::remote::shell::{quote, quote_path};
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "cleanup",
    summary: "Removes outputs, cores and crash reports of nodes that do not run",
    details: "Removes stdout.log, stderr.log and cores from the working folders of nodes that do \
              not run, and what was kept of their crashes; with --all everything in spool/tmp of \
              their hosts. Rows that no logger has confirmed yet and logs that are not archived \
              lie in these folders too: unlike in ZeekControl they stay. Nothing needs to be \
              cleaned regularly: outputs are cut at 16 MiB, crash reports expire \
              (crash_expire_days, crash_reports_max).",
    args: || {
        let all = Arg::new("all").long("all").action(ArgAction::SetTrue);
        vec![
            all.help("Also empty spool/tmp, of nodes that run too"),
            lock::no_wait_arg(),
            nodes_arg(),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    lock::with_lock(ctx, args, async |_| clean(ctx, args).await).await
}

async fn clean(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let wipes_tmp = args.get_flag("all");
    let hosts = Hosts::of(ctx, &nodes)?;
    ctx.progress.heading("cleaning up nodes ...");
    let mut of_host: BTreeMap<HostName, Vec<String>> = BTreeMap::new();
    for node in &nodes {
        of_host.entry(node.host.clone()).or_default().push(node.name.to_string());
    }
    let results = hosts
        .each(|host| {
            let names = of_host.get(&host.name).cloned().unwrap_or_default();
            async move { clean_host(Arc::new(host), names, wipes_tmp).await }
        })
        .await;
    let mut report = Report::new();
    let mut cleaned = Vec::new();
    for (host, result) in results {
        match result {
            Ok(left) => {
                for node in of_host.get(&host).into_iter().flatten() {
                    let runs = left.contains(node);
                    if runs {
                        report.line(format!(
                            "   {node} is still running, not cleaning work directory"
                        ));
                    }
                    cleaned.push(json!({ "node": node, "cleaned": !runs }));
                }
            }
            Err(error) => report.remote_error(&host, &error),
        }
    }
    report.json(&cleaned);
    Ok(report)
}

/// Cleans up after the nodes of a host that do not run; gives those that do.
async fn clean_host(
    host: Arc<Host>,
    names: Vec<String>,
    wipes_tmp: bool,
) -> Result<Vec<String>, RemoteError> {
    let status = host.status().await?;
    let runs = |name: &String| status.nodes.iter().any(|node| node.node == *name && node.pid != 0);
    let (running, idle): (Vec<String>, Vec<String>) = names.into_iter().partition(runs);
    let script = script(&host.layout, &idle, wipes_tmp);
    let remote: &dyn crate::remote::Remote = &*host.remote;
    remote.must("clean up", &script, Input::None, host.deadline).await?;
    Ok(running)
}

fn script(layout: &Layout, nodes: &[String], wipes_tmp: bool) -> String {
    // The name of a crash's folder, spelled out: that of another node may begin alike.
    const WHEN: &str =
        "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-*";
    let mut script = String::from("set -e\n");
    for node in nodes {
        let (spool, crashes) =
            (quote_path(&layout.node_spool(node)), quote_path(&layout.crashes()));
        script.push_str(&format!(
            "if cd {spool} 2>/dev/null; then rm -f stdout.log stderr.log stdout.log.1 \
             stderr.log.1 core core.*; fi\nrm -rf {crashes}/crash-{}-{WHEN}\n",
            quote(node),
        ));
    }
    if wipes_tmp {
        script.push_str(&format!("rm -rf {}/*\n", quote_path(&layout.crashes())));
    }
    script
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process;

    use super::*;

    fn run(layout: &Layout, nodes: &[&str], wipes_tmp: bool) {
        let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
        let script = script(layout, &nodes, wipes_tmp);
        assert!(process::Command::new("sh").arg("-c").arg(script).status().unwrap().success());
    }

    #[test]
    fn outputs_cores_and_crashes_go_and_rows_stay() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("a b"));
        let spool = layout.node_spool("w-1");
        fs::create_dir_all(spool.join("ship")).unwrap();
        for file in ["stdout.log", "stderr.log", "core.7", "conn.log", "ship/1.rows"] {
            fs::write(spool.join(file), "x").unwrap();
        }
        let crash = |name: &str| layout.crashes().join(name);
        let names = ["crash-w-1-2026-11-20-00-00-01-7", "crash-w-1-2-2026-11-20-00-00-01-7"];
        for name in names {
            fs::create_dir_all(crash(name)).unwrap();
        }
        run(&layout, &["w-1", "never-started"], false);
        let left = ["stdout.log", "stderr.log", "core.7"].map(|file| spool.join(file).exists());
        assert_eq!(left, [false; 3]);
        assert!(spool.join("conn.log").exists() && spool.join("ship/1.rows").exists());
        assert_eq!(names.map(|name| crash(name).exists()), [false, true]);

        run(&layout, &[], true);
        assert!(!crash(names[1]).exists() && layout.crashes().exists());
    }
}
