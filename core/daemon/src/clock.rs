//! The only place that reads the wall clock. Packet time never comes from here.

use std::time::{SystemTime, UNIX_EPOCH};

use tyto_core::time::Ts;

/// Wall-clock time now.
#[allow(clippy::disallowed_methods, reason = "this is the clock that the others take")]
pub fn now() -> Ts {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ts::new(since.as_secs(), since.subsec_nanos())
}
