//! `ctl install`: files and certificates onto all hosts, and the switch to the new release.
//! Touches no node.

use clap::ArgMatches;
use serde_json::json;

use super::{Command, Run};
use crate::context::Context;
use crate::deploy::install::{bring, switch_all};
use crate::deploy::preflight::preflight;
use crate::lock::{self, Lock};
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "install",
    summary: "Brings programs, configuration and certificates onto all hosts",
    details: "Copies what a host does not have into a new release and makes it current on all \
              hosts at once. Nodes go on with what they run; `ctl deploy` restarts those that \
              are concerned.",
    args: || vec![lock::no_wait_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    lock::with_lock(ctx, args, async |lock| install(ctx, lock).await).await
}

async fn install(ctx: &Context, lock: &mut Lock) -> anyhow::Result<Report> {
    let mut report = Report::new();
    ctx.progress.heading("checking configurations ...");
    let Some(mut preflight) = preflight(ctx, &mut report).await? else { return Ok(report) };
    ctx.progress.heading("installing ...");
    if bring(ctx, &mut preflight, lock, &mut report).await? {
        switch_all(ctx, &mut preflight, &mut report).await;
    }
    let installed: Vec<_> = preflight
        .hosts
        .iter()
        .filter_map(|host| {
            let release = preflight.releases.get(&host.name)?;
            Some(json!({ "host": host.name, "release": release.id }))
        })
        .collect();
    report.json(&installed);
    Ok(report)
}
