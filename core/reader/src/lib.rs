//! Log files read back: those being written, up to their last commit, those on their way into
//! the archive, and the archive itself, plain or compressed, TSV, JSON or Parquet.
//!
//! ```text
//! files (what there is) ─▶ input (bytes into lines) ─▶ query (which rows, which fields, how)
//!                                  │                        ├─▶ sort (by time) ─▶ ctl logs
//!                                  └─▶ follow (from a row on, through rotations) ─▶ subscribers, sinks
//! ```
//!
//! Never writes where a logger does, and never gives a byte that is not committed.
#![forbid(unsafe_code)]

pub mod error;
pub mod files;
pub mod follow;
pub mod input;
mod parquet;
pub mod query;
pub mod sort;
pub mod tail;

pub use error::ReadError;
