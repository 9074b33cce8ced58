//! What the tests of whole programs share: hosts in network namespaces, the programs of the
//! release build, and a reader for the logs. Nothing here is linked into a program.

pub mod cluster;
pub mod lab;
pub mod node_cfg;
pub mod numbered_rows;
pub mod pki;
pub mod program;
pub mod tree;
pub mod wait;
pub mod zeek_log;
