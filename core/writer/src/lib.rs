//! Log files that survive a crash: batches of rows in, Zeek's log files out, each row once.
//!
//! ```text
//! Batch ─▶ LogStore::accept ─▶ buffers ─▶ LogStore::commit ─▶ files, fdatasync
//!                                                          └▶ journal, fdatasync ─▶ acks
//! files ─▶ rotation (journaled) ─▶ rotated/ ─▶ archive thread ─▶ logs/YYYY-MM-DD/…[.gz]
//! ```
//!
//! Synchronous: one OS thread owns a [`LogStore`] and may run it by [`service::run`]. Used by
//! the logger (rows come over gRPC) and by a standalone worker (rows come from its own thread).
#![forbid(unsafe_code)]

pub mod archive;
pub mod batch;
pub mod clock;
pub mod committed;
mod current;
pub mod disk;
pub mod doubt;
pub mod error;
mod file;
pub mod frame;
pub mod index;
mod journal;
mod lag;
mod plan;
mod rotation;
pub mod schemas;
pub mod service;
mod store;

pub use batch::{Batch, BatchName, Position, Refusal, RowTimes, Welcome};
pub use error::{AcceptError, StoreError};
pub use store::{LogStore, StoreOptions};
