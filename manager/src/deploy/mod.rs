//! From a checked cluster to hosts that run it: what a host shall have ([`bundle`]), what it has
//! ([`survey`]), whether it can ([`preflight`]), how the difference gets there ([`ship`],
//! [`install`]), which nodes that concerns, in which order ([`plan`]), and what is left over
//! ([`strays`]).

pub mod apply;
pub mod bundle;
pub mod changes;
pub mod drift;
mod elf;
pub mod facts;
pub mod fitness;
pub mod health;
pub mod history;
pub mod install;
pub mod line_diff;
pub mod order;
pub mod origins;
pub mod plan;
pub mod plan_text;
pub mod planning;
pub mod preflight;
pub mod rollout;
pub mod ship;
pub mod strays;
pub mod survey;
pub mod texts;
