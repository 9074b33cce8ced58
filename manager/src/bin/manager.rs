//! `manager --config FILE`: one manager node, until SIGTERM. `manager ca …`: the cluster's CA.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tyto_manager::{daemon, identity::ca_command};

/// The cluster's membership and health.
#[derive(Parser)]
#[command(name = "manager", version, args_conflicts_with_subcommands = true)]
struct Args {
    /// Configuration of this node, as ctl wrote it
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The cluster's certificate authority, which ctl calls
    #[command(subcommand)]
    Ca(ca_command::CaCommand),
}

fn main() -> ExitCode {
    let Args { config, command } = Args::parse();
    let done = match command {
        Some(Command::Ca(command)) => ca_command::run(&command, &mut std::io::stdout()),
        None => tyto_daemon::start::run_node(&config.unwrap_or_default(), 2, daemon::run),
    };
    tyto_daemon::start::exit_code("manager", done)
}
