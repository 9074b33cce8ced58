//! Who is who in the cluster: a CA of its own on the manager's host, one certificate per node,
//! keys that never leave the host they were made on. ctl carries requests and certificates.

pub mod authority;
pub mod ca;
pub mod ca_command;
pub mod check;
pub mod issue;
pub mod refused;
pub mod rollout;
pub mod subscriber;
