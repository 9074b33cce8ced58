//! From a checked cluster to hosts that run it: what a host shall have ([`bundle`]), what it has
//! ([`survey`]), how the difference gets there ([`ship`]), and which nodes that concerns, in
//! which order ([`plan`]).

pub mod bundle;
pub mod plan;
pub mod ship;
pub mod survey;
