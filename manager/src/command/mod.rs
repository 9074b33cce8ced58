//! The verbs of ctl. One file each, one line each in [`COMMANDS`]: parser, help and shell
//! completions are made from the table. A command returns a [`Report`] and never prints.

use std::future::Future;
use std::pin::Pin;

use clap::{Arg, ArgMatches};

use crate::context::Context;
use crate::report::Report;

mod capstats;
mod certs;
mod check;
mod cleanup;
mod completions;
mod config;
mod deploy;
mod df;
mod diag;
mod exec;
mod explain;
mod history;
mod import;
mod install;
mod keys;
mod ledger;
mod logs;
mod loss;
mod netstats;
mod nodes;
mod process;
mod restart;
mod rollback;
mod start;
mod status;
mod stop;
mod top;

/// A command at work.
pub type Pending<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Report>> + 'a>>;

/// One verb.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// The word on the command line.
    pub name: &'static str,
    /// One line for the list of verbs.
    pub summary: &'static str,
    /// What `ctl help VERB` says besides.
    pub details: &'static str,
    /// Its arguments.
    pub args: fn() -> Vec<Arg>,
    /// What it does.
    pub run: Run,
}

/// What a verb does, and whether it needs the configuration for it.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Needs the configuration; without a good one it is not run.
    Cluster(for<'a> fn(&'a Context, &'a ArgMatches) -> Pending<'a>),
    /// Needs nothing.
    Alone(fn(&ArgMatches) -> anyhow::Result<Report>),
}

impl Command {
    /// True when the verb is not run without a good configuration.
    pub fn needs_cluster(&self) -> bool {
        matches!(self.run, Run::Cluster(_))
    }
}

/// All verbs, in the order of the help.
pub const COMMANDS: &[Command] = &[
    deploy::COMMAND,
    status::COMMAND,
    start::COMMAND,
    stop::COMMAND,
    restart::COMMAND,
    check::COMMAND,
    install::COMMAND,
    rollback::COMMAND,
    history::COMMAND,
    certs::COMMAND,
    ledger::COMMAND,
    logs::COMMAND,
    loss::COMMAND,
    diag::COMMAND,
    cleanup::COMMAND,
    df::COMMAND,
    top::COMMAND,
    netstats::COMMAND,
    capstats::COMMAND,
    exec::COMMAND,
    process::COMMAND,
    nodes::COMMAND,
    config::COMMAND,
    explain::COMMAND,
    import::COMMAND,
    keys::COMMAND,
    completions::COMMAND,
];

/// The argument `[NODES]...`; [`Context::nodes`] reads it.
pub fn nodes_arg() -> Arg {
    Arg::new("nodes")
        .value_name("NODES")
        .num_args(0..)
        .help("Names of nodes, or all, loggers, manager, proxies, workers [default: all]")
}

/// For verbs without arguments.
pub fn no_args() -> Vec<Arg> {
    Vec::new()
}
