//! `worker --config FILE`: one worker of a cluster, or the standalone node.
//! `worker --read FILE --log-dir DIR`: the logs of a capture file.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use tyto_capture::live::EXIT_INTERFACE_GONE;
use tyto_worker::args::Args;
use tyto_worker::{read, start};

/// A connection's analyzers and the strings of their rows come and go by the thousand each second.
/// With glibc's allocator a seventh of the time went there (docs/bench/stages.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match &args.config {
        Some(config) => start::run(config, args.capture_from_stdin),
        None => read::run(&args).map(|reading| {
            for warning in reading.warnings {
                eprintln!("worker: warning: {warning}");
            }
        }),
    };
    let gone = ended.as_ref().is_err_and(start::interface_gone);
    let code = tyto_daemon::start::exit_code("worker", ended);
    if gone { ExitCode::from(EXIT_INTERFACE_GONE) } else { code }
}
