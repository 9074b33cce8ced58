//! `proxy --config FILE`: one proxy node, until SIGTERM.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tyto_daemon::start;

/// Threads of the runtime: claims are few, and each is a table look-up.
const THREADS: usize = 2;

/// The cluster's shared state: tells workers who was the first to see a thing.
#[derive(Parser)]
#[command(name = "proxy", version)]
struct Args {
    /// Configuration of this node, as ctl wrote it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    start::exit_code("proxy", start::run_node(&args.config, THREADS, tyto_proxy::node::run))
}
