//! The worker: captures packets, analyses them once, and ships what the logs say.

pub mod analyzer;
pub mod args;
pub mod capture;
pub mod confine;
pub mod decode;
pub mod file;
pub mod flow;
pub mod hearing;
mod listening;
pub mod log;
mod lookahead;
pub mod neighbours;
mod nic;
pub mod node;
pub mod output;
mod packet_thread;
pub mod pipeline;
pub mod read;
pub mod reassembly;
pub mod relay;
pub mod shed;
pub mod ship;
pub mod site;
pub mod start;
pub mod stats;
pub mod tls;
mod transport;
mod tunnels;
pub mod x509;

/// What the unit tests share with the tests outside, which know the crate by its name.
#[cfg(test)]
#[path = "../tests/connection/mod.rs"]
mod connection;
#[cfg(test)]
extern crate self as tyto_worker;
