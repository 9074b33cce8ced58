//! Live capture: packet sockets with a ring that the kernel fills, and the frames in it.

mod cursor;
mod error;
mod frame;
pub mod live;
mod mapping;
pub mod passing;
mod ring;
pub mod socket;
mod sys;

pub use self::frame::{Frame, LinkType};
