//! `ctl start`.

use clap::ArgMatches;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::hosts::Hosts;
use crate::lock;
use crate::report::Report;
use crate::tiers;

pub(super) const COMMAND: Command = Command {
    name: "start",
    summary: "Starts nodes: loggers, manager, proxies, workers",
    details: "Nodes that run already are left as they are. A tier that fails keeps the later ones \
              from being started; a host that cannot be reached costs its own nodes only.",
    args: || vec![nodes_arg(), lock::no_wait_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let hosts = Hosts::of(ctx, &nodes)?;
    lock::with_lock(ctx, args, async |_| {
        let mut report = Report::new();
        tiers::start(&hosts, &nodes, &ctx.progress, &mut report).await;
        Ok(report)
    })
    .await
}
