//! From a checked cluster to hosts that run it: what a host shall have ([`bundle`]), what it has
//! ([`survey`]), whether it can ([`preflight`]), how the difference gets there ([`ship`],
//! [`install`]), which nodes that concerns, in which order ([`plan`]), and what is left over
//! ([`strays`]).

pub mod bundle;
pub mod install;
pub mod plan;
pub mod preflight;
pub mod ship;
pub mod strays;
pub mod survey;
