//! `worker --config FILE`: one worker of a cluster, or the standalone node.
//! `worker --read FILE --log-dir DIR`: the logs of a capture file.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tyto_capture::live::{EXIT_INTERFACE_GONE, LiveError};
use tyto_capture::passing;
use tyto_daemon::start;
use tyto_worker::args::Args;
use tyto_worker::{confine, node, read};

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match &args.config {
        Some(config) => run_node(config, args.capture_from_stdin),
        None => read::run(&args).map(|reading| {
            for warning in reading.warnings {
                eprintln!("worker: warning: {warning}");
            }
        }),
    };
    let gone = ended.as_ref().is_err_and(interface_gone);
    let code = start::exit_code("worker", ended);
    if gone { ExitCode::from(EXIT_INTERFACE_GONE) } else { code }
}

fn run_node(config: &Path, capture_from_stdin: bool) -> anyhow::Result<()> {
    let given = if capture_from_stdin {
        let message = passing::receive(std::io::stdin()).context("no capture on stdin")?;
        Some(message.and_then(|message| message.capture).context("no capture came on stdin")?)
    } else {
        None
    };
    if given.is_some() {
        confine::enter(&start::load_config(config)?);
    }
    start::run_node(config, node::RUNTIME_THREADS, |config, shutdown| {
        node::run(config, given, shutdown)
    })
}

fn interface_gone(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<LiveError>());
    causes.any(LiveError::interface_gone)
}
