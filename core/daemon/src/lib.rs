//! What every process of Tyto needs to live: its configuration and identity, channels to the
//! others, traces, reports of its health, an orderly end.

pub mod alarm;
pub mod certificate;
pub mod channel;
pub mod clock;
mod credentials;
pub mod health;
pub mod ledger;
pub mod peers;
pub mod refusal;
pub mod shutdown;
pub mod start;
pub mod stream;
pub mod telemetry;
pub mod tls;
mod trust;
