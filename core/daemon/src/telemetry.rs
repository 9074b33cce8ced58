//! Traces (our own diagnostics) on stderr, which the supervisor appends to `stderr.log`.
//! `TYTO_TRACE` sets the filter (`debug`, `tyto_worker=trace`); info else.

use std::error::Error;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts tracing. A second call in one process changes nothing.
pub fn init() {
    let filter = EnvFilter::try_from_env("TYTO_TRACE").unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    drop(started);
}

/// An error and its causes on one line, for the field `error` of a trace.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
