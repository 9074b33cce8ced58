//! ctl and the manager: everything that an operator's command does, and the cluster's membership.

pub mod boot;
pub mod cli;
pub mod command;
pub mod context;
pub mod crashes;
pub mod daemon;
pub mod deploy;
mod drop_hint;
pub mod hosts;
pub mod identity;
pub mod lock;
pub mod log_lag;
mod log_rows;
mod log_time;
pub mod progress;
pub mod remote;
pub mod report;
pub mod sight;
pub mod sink_report;
pub mod status_table;
pub mod survey;
pub mod tiers;
