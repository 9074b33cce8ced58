//! ctl and the manager: everything that an operator's command does, and the cluster's membership.

pub mod remote;
