//! `ctl install`: files and certificates onto all hosts, and the switch to the new release.
//! Touches no node.

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::json;

use super::{Command, Run};
use crate::boot::{self, Action};
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
              are concerned. With --boot each host's supervisor, and so the nodes that were \
              running, start when the host boots: by a systemd unit, or by an @reboot line of \
              the crontab where there is no systemd; --no-boot takes that away again. Nothing \
              else needs cron.",
    args: || {
        let flag = |name| Arg::new(name).long(name).action(ArgAction::SetTrue);
        vec![
            flag("boot").help("Have supervisors started when their hosts boot"),
            flag("no-boot").conflicts_with("boot").help("Have them not started then"),
            lock::no_wait_arg(),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let action = match (args.get_flag("boot"), args.get_flag("no-boot")) {
        (true, _) => Some(Action::Install),
        (_, true) => Some(Action::Remove),
        _ => None,
    };
    lock::with_lock(ctx, args, async |lock| install(ctx, lock, action).await).await
}

async fn install(ctx: &Context, lock: &mut Lock, action: Option<Action>) -> anyhow::Result<Report> {
    let mut report = Report::new();
    ctx.progress.heading("checking configurations ...");
    let Some(mut preflight) = preflight(ctx, &mut report).await? else { return Ok(report) };
    ctx.progress.heading("installing ...");
    if bring(ctx, &mut preflight, lock, &mut report).await? {
        switch_all(ctx, &mut preflight, &mut report).await;
    }
    let mut boots = Vec::new();
    if let Some(action) = action.filter(|_| report.is_good()) {
        ctx.progress.heading("arranging the boot ...");
        boots = boot::arrange(&preflight.hosts, action, &mut report).await;
    }
    let boot_of = |host| boots.iter().find(|(name, _)| name == host).map(|(_, boot)| &boot.starts);
    let installed: Vec<_> = preflight
        .hosts
        .iter()
        .filter_map(|host| {
            let release = preflight.releases.get(&host.name)?;
            Some(json!({ "host": host.name, "release": release.id, "boot": boot_of(&host.name) }))
        })
        .collect();
    report.json(&installed);
    Ok(report)
}
