//! Protocols above the transport. An analyzer is chosen by port; it may tell who of a flow is
//! the originator, and when a session is over before its idle time.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod roles;
