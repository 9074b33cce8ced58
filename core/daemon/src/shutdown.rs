//! The orderly end: one token that every task of a daemon watches.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
pub use tokio_util::sync::CancellationToken;

/// A token that SIGTERM and SIGINT cancel. A second signal changes nothing: who is in a
/// hurry sends SIGKILL, and delivery survives that.
///
/// # Errors
/// When the process cannot take signals.
pub fn on_signal() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let fired = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        fired.cancel();
    });
    Ok(token)
}
