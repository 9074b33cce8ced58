//! From the command line to a live node: takes the capture that the supervisor gives, confines
//! the process, and runs it.

use std::path::Path;

use anyhow::Context;
use tyto_capture::live::LiveError;
use tyto_capture::passing;
use tyto_daemon::start;

use crate::{confine, node};

/// Runs the node that `config` describes until it ends.
///
/// # Errors
/// What kept it from starting, or what it ended with.
pub fn run(config: &Path, capture_from_stdin: bool) -> anyhow::Result<()> {
    let given = if capture_from_stdin {
        let message = passing::receive(std::io::stdin()).context("no capture on stdin")?;
        Some(message.and_then(|message| message.capture).context("no capture came on stdin")?)
    } else {
        None
    };
    if given.is_some() {
        // Before the first thread: rights are given up per thread.
        confine::enter(&start::load_config(config)?);
    }
    start::run_node(config, node::RUNTIME_THREADS, |config, shutdown| {
        node::run(config, given, shutdown)
    })
}

/// Whether a node ended because its interface is missing, down or gone.
pub fn interface_gone(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<LiveError>());
    causes.any(LiveError::interface_gone)
}
