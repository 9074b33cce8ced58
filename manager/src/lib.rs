//! ctl and the manager: everything that an operator's command does, and the cluster's membership.

pub mod cli;
pub mod command;
pub mod context;
pub mod deploy;
pub mod identity;
pub mod progress;
pub mod remote;
pub mod report;
pub mod status_table;
