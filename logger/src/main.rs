//! `logger --config FILE`: one logger of a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tyto_daemon::start;

/// Receives the rows of a Tyto cluster and writes its logs. Started by the supervisor.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Configuration of the node, as ctl wrote it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = start::run_node(&args.config, tyto_logger::RUNTIME_THREADS, tyto_logger::run);
    start::exit_code("logger", ended)
}
