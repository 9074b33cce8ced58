//! Live capture: packet sockets with a ring that the kernel fills, and the frames in it.

pub mod account;
mod bpf;
mod card;
mod cursor;
mod error;
mod frame;
mod link_layer;
pub mod live;
mod mapping;
pub mod passing;
mod prefetch;
mod program;
mod ring;
pub mod socket;
mod sys;

pub use self::card::Offloads;
pub use self::frame::{Frame, LinkType};
pub use self::prefetch::prefetch;
