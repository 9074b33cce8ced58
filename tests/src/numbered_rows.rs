//! Rows that are numbered, so that each can be looked for where it should have arrived.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tyto_core::record::LogRecord;
use tyto_core::time::{NANOS, Ts};
use tyto_daemon::clock;
use tyto_worker::output::Output;
use tyto_worker::ship::{Overflow, Shipper};

/// Rows between two pauses of the thread that writes them.
const BURST: u64 = 200;

#[derive(LogRecord)]
#[log(stream = "conn")]
struct Conn {
    ts: Ts,
    n: u64,
}

/// Writes the rows 0 to `rows` to conn.log over some time, as a packet thread would: one for each
/// second of the packets' time.
pub fn write(shipper: &Shipper, rows: u64, over: Duration) -> JoinHandle<Result<()>> {
    let mut output = Output::new(Box::new(shipper.output(Overflow::Wait)));
    thread::spawn(move || {
        for n in 0..rows {
            output.row(&Conn { ts: Ts(n * NANOS), n });
            if n % BURST == 0 {
                output.idle(clock::now());
                thread::sleep(over / u32::try_from(rows / BURST)?);
            }
        }
        Ok(output.finish(clock::now())?)
    })
}

/// Waits until what [`write()`] began is done, and lets the rest of the runtime work meanwhile.
///
/// # Errors
/// When writing failed.
pub async fn ended(writing: JoinHandle<Result<()>>) -> Result<()> {
    tokio::task::spawn_blocking(|| writing.join()).await?.map_err(|_| anyhow!("died"))?
}
