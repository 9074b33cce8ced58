//! Log streams that belong to no analyzer.

pub mod conn;
pub mod known_hosts;
pub mod lately;
pub mod notice;
pub mod software;
pub mod weird;
