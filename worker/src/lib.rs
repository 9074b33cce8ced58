//! The worker: captures packets, analyses them once, and ships what the logs say.

pub mod analyzer;
pub mod args;
pub mod capture;
pub mod confine;
pub mod decode;
pub mod file;
pub mod flow;
mod listening;
pub mod log;
mod lookahead;
mod nic;
pub mod node;
pub mod output;
mod packet_thread;
pub mod pipeline;
pub mod read;
pub mod reassembly;
pub mod shed;
pub mod ship;
pub mod site;
pub mod start;
pub mod tls;
mod transport;
mod tunnels;
pub mod x509;
