//! `ctl stop`.

use std::time::Duration;

use clap::ArgMatches;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::hosts::Hosts;
use crate::lock;
use crate::report::Report;
use crate::tiers;

pub(super) const COMMAND: Command = Command {
    name: "stop",
    summary: "Stops nodes: workers, proxies, manager, loggers",
    details: "A node gets `stop_timeout_s` seconds to end; then it is killed. Where no node is \
              left, the supervisor ends too: nothing of Tyto runs on that host any more.",
    args: || vec![nodes_arg(), lock::no_wait_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let hosts = Hosts::of(ctx, &nodes)?;
    lock::with_lock(ctx, args, async |_| {
        let mut report = Report::new();
        let patience = Duration::from_secs(ctx.cluster.settings.stop_timeout_s);
        tiers::stop(&hosts, &nodes, patience, false, &ctx.progress, &mut report).await;
        tiers::end_idle_supervisors(&hosts, &mut report).await;
        Ok(report)
    })
    .await
}
