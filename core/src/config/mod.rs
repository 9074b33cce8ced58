//! Configuration: the operator's files ([`node`], [`networks`], [`settings`], checked as a
//! whole by [`cluster`]) and what ctl makes of them for each node ([`runtime`]).

pub mod runtime;
