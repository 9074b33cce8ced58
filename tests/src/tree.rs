//! Where things lie in the source tree.

use std::path::{Path, PathBuf};

/// The root of the tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A program of the release build, as `make build` leaves it; of the folder `TYTO_PROGRAMS` where
/// that is set, such as `target/debug`: a build that takes minutes less.
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("TYTO_PROGRAMS").unwrap_or_else(|| "target/release".into());
    root().join(folder).join(name)
}

/// The capture that the lab replays; its README.md says what is in it.
pub fn lab_capture() -> PathBuf {
    root().join("tests/golden/lab-traffic/in.pcap")
}

/// A capture of a protocol: `tests/golden/NAME`.
pub fn golden_capture(name: &str) -> PathBuf {
    root().join("tests/golden").join(name).join("in.pcap")
}

/// The conformance captures, which lie beside the tree and are no part of it.
pub fn conformance() -> PathBuf {
    root().join("../shared/conformance")
}

/// Tells that a test could not run, and why, where a person reads it.
pub fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}
