//! The proxy: the cluster's shared state. Workers ask it whether they are the first to see a
//! thing; each thing is owned by one proxy and copied to a second, so that the answer outlives
//! either of them.
//!
//! ```text
//! worker ── Claim ──▶ rpc ──▶ table (who was first, until when)
//!                      │
//!                      └─ Replicate ──▶ the other holder (ownership)
//! start: snapshot (own disk) ▶ Handover (other proxies) ▶ Claims are answered
//! ```

mod handover;
pub mod node;
mod ownership;
mod replicate;
mod rpc;
mod snapshot;
mod table;
