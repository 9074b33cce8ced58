//! Live capture: packet sockets with a ring that the kernel fills, and the frames in it.

mod frame;
pub mod live;
mod ring;
mod sys;

pub use self::frame::{Frame, LinkType};
