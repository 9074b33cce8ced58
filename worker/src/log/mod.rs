//! Log streams that belong to no analyzer.

pub mod conn;
pub mod known_hosts;
pub mod weird;
