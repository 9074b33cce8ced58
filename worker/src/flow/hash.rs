//! How the packet path hashes: fast, and with a key from the pipeline's seed, so that a sender
//! who does not know it cannot aim at one bucket.

/// Builds the hashers of one pipeline.
pub type KeyedHasher = foldhash::fast::FixedState;
