//! From a frame to the packets inside it: link layers, IP, tunnels. Bytes in, views of them out;
//! no state but the fragments that wait for others. Input is hostile: every read is checked.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod addr;
pub mod checksum;
pub mod fragment;
pub mod ip;
pub mod ip_odd;
pub mod link;
pub mod link_type;
pub mod tcp;
pub mod tunnel;
mod wlan;

/// The big-endian number of 16 bits at `at`.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The big-endian number of 32 bits at `at`.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
