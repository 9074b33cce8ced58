//! The supervisor of one host: starts its nodes, sees each death at once, starts them again
//! with growing delays, takes running nodes over when it was itself restarted, and answers
//! ctl on a unix socket. It never reads what nodes analyse, and never touches a node that
//! nobody asked it to touch.
//!
//! ```text
//! ctl ──ssh──▶ connect ──supervisor.sock──▶ rpc ─▶ fleet ─▶ node (one task each) ─▶ child
//!                                                                                   │ exec
//! guard ◀──watch each other──▶ daemon                        exec_node ◀────────────┘
//! ```

mod alarms;
mod backoff;
mod backtrace;
mod boot;
mod boot_text;
mod capture_guard;
mod capture_store;
mod cert;
mod child;
pub mod cli;
mod connect;
mod crash;
mod csr;
mod daemon;
mod death;
mod exec_node;
mod fleet;
mod handle;
mod hold_lock;
mod host;
mod last_reports;
mod launch;
mod limits;
mod metrics;
mod node;
mod node_capture;
mod output;
mod partner;
mod pid_lock;
mod privileges;
mod process;
mod read_logs;
mod record;
mod rpc;
mod usage;
mod watchdog;
