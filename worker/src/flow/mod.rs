//! Connections: the table they are found in, what packets and time do to them.

pub mod conn;
mod deadlines;
pub mod encapsulation;
pub mod hash;
pub mod history;
pub mod icmp;
pub mod key;
pub mod ports;
pub mod questions;
mod sent;
pub mod service;
pub mod table;
pub mod tcp;
pub mod udp;
pub mod wheel;
