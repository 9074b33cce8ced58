//! `ctl config`: every setting with its value.

use std::collections::BTreeMap;

use clap::ArgMatches;
use tyto_core::config::runtime::Role;

use super::{Command, Run, no_args};
use crate::context::Context;
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "config",
    summary: "Shows all settings with their values",
    details: "Settings of tyto.yaml, defaults included, and what follows from them, as \
              `key = value`. `ctl keys` tells what each is for.",
    args: no_args,
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, _args: &ArgMatches) -> anyhow::Result<Report> {
    let mut settings: BTreeMap<&str, String> = ctx.cluster.settings.list().into_iter().collect();
    let standalone = ctx.cluster.head().is_some_and(|node| node.role == Role::Standalone);
    settings.insert("bindir", ctx.bin.display().to_string());
    settings.insert("cfgdir", ctx.etc.display().to_string());
    settings.insert("logdir", ctx.layout.logs().display().to_string());
    settings.insert("spooldir", ctx.layout.spool().display().to_string());
    settings.insert("standalone", standalone.to_string());
    settings.insert("version", env!("CARGO_PKG_VERSION").to_owned());
    let mut report = Report::new();
    for (key, value) in &settings {
        report.line(format!("{key} = {value}").trim_end());
    }
    report.json(&settings);
    Ok(report)
}
