//! What every process of Tyto needs to live: its configuration and identity, channels to the
//! others, traces, reports of its health, an orderly end.

pub mod channel;
pub mod clock;
pub mod health;
pub mod peers;
pub mod shutdown;
pub mod start;
pub mod telemetry;
pub mod tls;
