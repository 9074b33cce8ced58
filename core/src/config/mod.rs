//! Configuration: the operator's files ([`node`], [`networks`], [`settings`], checked as a
//! whole by [`cluster`]) and what ctl makes of them for each node ([`generate`] into
//! [`runtime`]). Reading is pure: text and file name in, values or all faults out.

pub mod archive_name;
pub mod cfg_file;
pub mod cluster;
pub mod error;
pub mod explain;
mod fanout;
mod filter_check;
pub mod generate;
pub mod import;
mod log_checks;
pub mod logs;
pub mod name;
pub mod nearest;
pub mod networks;
pub mod node;
pub mod node_capture;
pub mod node_keys;
pub mod runtime;
pub mod setting_keys;
mod setting_kind;
pub mod settings;
mod ship;
pub mod sinks;
mod stream_keys;
mod unknown_key;
mod value;
pub mod yaml_lines;
pub mod zeekctl_cfg;
pub mod zeekctl_options;
