//! The proxy: the cluster's shared state. Workers ask it whether they are the first to see a
//! thing; each thing is owned by one proxy and copied to a second, so that the answer outlives
//! either of them. And it passes on what workers have to know of each other.
//!
//! ```text
//! worker ── Claim ──▶ rpc ──▶ table (who was first, until when)
//!                      │
//!                      └─ Replicate ──▶ the other holder (ownership)
//! worker ── Tell ──▶ relay ── Listen ──▶ the workers whom a note concerns
//! start: snapshot (own disk) ▶ Handover (other proxies) ▶ Claims are answered
//! ```

mod handover;
pub mod node;
mod ownership;
mod relay;
mod relay_rpc;
mod replicate;
mod rpc;
mod snapshot;
mod table;
