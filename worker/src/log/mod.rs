//! Log streams that belong to no analyzer.

pub mod capture_loss;
pub mod conn;
pub mod known_hosts;
pub mod known_services;
pub mod lately;
pub mod notice;
pub mod software;
pub mod software_version;
pub mod stats;
pub mod traceroute;
pub mod tunnel;
pub mod unknown_protocols;
pub mod weird;
