//! Waiting for something that another process does: always bounded, and it says what for.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Looks until `look` finds what it looks for.
///
/// # Errors
/// After `limit`, with `what` and what the last look found instead.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let found = look()?;
        match found {
            Ok(value) => return Ok(value),
            Err(instead) if start.elapsed() >= limit => {
                bail!("{what}: not within {} s; last seen: {instead}", limit.as_secs())
            }
            Err(_) => sleep(LOOK_INTERVAL),
        }
    }
}
