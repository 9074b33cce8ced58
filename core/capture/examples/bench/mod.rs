//! What the benches of the ring share, here and of the worker.

use std::time::Duration;

use tyto_core::config::runtime::CaptureConfig;

/// What this thread has used: other processes of the machine do not count.
pub(crate) fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

/// A ring on `interface` that takes all frames of a round, which are read when all are there.
pub(crate) fn config(interface: &str) -> CaptureConfig {
    CaptureConfig {
        buffer_size_bytes: 1 << 30,
        block_size_bytes: 1 << 18,
        snaplen_bytes: 65_535,
        ..CaptureConfig::new(interface)
    }
}
