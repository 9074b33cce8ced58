//! What every part of Tyto shares and nothing more: time, names, log records, configuration.
//! Pure: no I/O, no async, no unsafe (`tests/tidy.rs` holds it to that).
#![forbid(unsafe_code)]

// Lets `#[derive(LogRecord)]` name this crate by the same path inside and outside of it.
extern crate self as tyto_core;

pub mod community_id;
pub mod config;
pub mod fanout_program;
pub mod filter;
pub mod lag;
pub mod layout;
pub mod net;
pub mod record;
pub mod shard;
pub mod time;
pub mod uid;
