//! `worker --config FILE`: one worker of a cluster, or the standalone node.
//! `worker --read FILE --log-dir DIR`: the logs of a capture file.

use std::process::ExitCode;

use clap::Parser;
use tyto_daemon::start;
use tyto_worker::args::Args;
use tyto_worker::{node, read};

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match &args.config {
        Some(config) => start::run_node(config, node::RUNTIME_THREADS, node::run),
        None => read::run(&args).map(|reading| {
            for warning in reading.warnings {
                eprintln!("worker: warning: {warning}");
            }
        }),
    };
    start::exit_code("worker", ended)
}
