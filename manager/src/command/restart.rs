//! `ctl restart`: stop, then start, and no node but those named.

use std::time::Duration;

use clap::ArgMatches;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::hosts::Hosts;
use crate::lock::Lock;
use crate::report::Report;
use crate::tiers;

pub(super) const COMMAND: Command = Command {
    name: "restart",
    summary: "Stops nodes and starts them again",
    details: "As in ZeekControl all named nodes are stopped before the first is started. Other \
              nodes are not touched.",
    args: || vec![nodes_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let hosts = Hosts::of(ctx, &nodes)?;
    let _lock = Lock::take(&ctx.etc, &ctx.progress).await?;
    let mut report = Report::new();
    let patience = Duration::from_secs(ctx.cluster.settings.stop_timeout_s);
    ctx.progress.heading("stopping ...");
    // What may still run is not started: see what keeps it first.
    if tiers::stop(&hosts, &nodes, patience, &ctx.progress, &mut report).await {
        ctx.progress.heading("starting ...");
        tiers::start(&hosts, &nodes, &ctx.progress, &mut report).await;
    }
    Ok(report)
}
