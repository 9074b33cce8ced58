//! Which key of the operator's files a value of a release comes from, and on which line it is.
//! The files are those that were just read and checked; what cannot be found is left unsaid.

use std::collections::BTreeMap;
use std::path::Path;

use tyto_core::config::cfg_file::CfgFile;
use tyto_core::config::yaml_lines::line_of;

use crate::context::{NETWORKS_CFG, NODE_CFG, TYTO_YAML};

/// Values of a release (paths in `etc/nodes/NODE.yaml` and in the node's part of
/// `etc/host.yaml`), the key of node.cfg and the key of tyto.yaml that they come from.
const KEYS: &[(&str, &str, &str)] = &[
    ("cluster", "", "cluster"),
    ("prefix", "", "prefix"),
    ("listen", "", "port"),
    ("role", "type", ""),
    ("capture.interface", "interface", ""),
    ("capture.filter", "filter", "filter"),
    ("capture.snaplen_bytes", "snaplen", "snaplen_bytes"),
    ("capture.fanout_id", "af_packet_fanout_id", ""),
    ("capture.fanout_mode", "af_packet_fanout_mode", "af_packet.fanout_mode"),
    ("capture.fanout_inner", "af_packet_fanout_inner", "af_packet.fanout_inner"),
    ("capture.fanout_defrag", "af_packet_enable_defrag", "af_packet.fanout_defrag"),
    ("capture.buffer_size_bytes", "af_packet_buffer_size", "af_packet.buffer_size_bytes"),
    ("capture.block_size_bytes", "af_packet_block_size", "af_packet.block_size_bytes"),
    ("capture.block_timeout_ms", "af_packet_block_timeout", "af_packet.block_timeout_ms"),
    ("capture.promiscuous", "af_packet_promiscuous", "af_packet.promiscuous"),
    ("capture.hw_timestamps", "af_packet_enable_hw_timestamping", "af_packet.hw_timestamps"),
    ("capture.checksums", "af_packet_checksum_validation_mode", "af_packet.checksums"),
    ("capture.link_type", "af_packet_link_type", ""),
    ("analysis.private_address_space_is_local", "", "private_address_space_is_local"),
    ("analysis.ignore_checksums", "", "ignore_checksums"),
    ("analysis.community_id", "", "community_id"),
    ("analysis.flows_max", "", "flows_max"),
    ("analysis.traceroute", "", "traceroute"),
    ("analysis.unknown_protocols", "", "unknown_protocols"),
    ("analysis.software_version_changes", "", "software_version_changes"),
    ("analysis.disabled_analyzers", "", "disabled_analyzers"),
    ("analysis.hash_files", "", "hash_files"),
    ("analysis.ssl_fingerprints", "", "ssl_fingerprints"),
    ("analysis.validate_certificates", "", "validate_certificates"),
    ("analysis.trusted_certificates", "", "trusted_certificates"),
    ("analysis.ssh_hassh", "", "ssh_hassh"),
    ("analysis.log_passwords", "", "log_passwords"),
    ("analysis.extract_files", "", "extract_files"),
    ("analysis.extract_bytes_max", "", "extract_bytes_max"),
    ("analysis.extract_total_bytes_max", "", "extract_total_bytes_max"),
    ("logs.format", "", "log_format"),
    ("logs.rotation_interval_s", "", "log_rotation_interval_s"),
    ("logs.compress", "", "compress_logs"),
    ("logs.commit_interval_ms", "", "commit_interval_ms"),
    ("logs.json_timestamps", "", "json_timestamps"),
    ("logs.compress_level", "", "compress_level"),
    ("logs.parquet", "", "parquet_logs"),
    ("logs.archive_name", "", "archive_name"),
    ("logs.expire", "", "log_expire_interval"),
    ("logs.keep", "", "keep_logs"),
    ("logs.archive_bytes_max", "", "log_archive_bytes_max"),
    ("logs.free_min", "", "log_free_min"),
    ("logs.rotation_command", "", "rotation_command"),
    ("logs.rotation_command_timeout_s", "", "rotation_command_timeout_s"),
    ("logs.rotation_command_tries", "", "rotation_command_tries"),
    ("logs.streams", "", "streams"),
    ("sinks", "", "sinks"),
    ("ship.batch_rows_max", "", "batch_rows_max"),
    ("ship.batch_interval_ms", "", "batch_interval_ms"),
    ("ship.spool_bytes_max", "", "spool_bytes_max"),
    ("ship.spool_age_max_s", "", "spool_age_max_s"),
    ("ship.spool_drop_first", "", "spool_drop_first"),
    ("ship.doubt_timeout_s", "", "doubt_timeout_s"),
    ("cpus", "pin_cpus", ""),
    ("limits.memory_bytes_max", "memory_bytes_max", "memory_bytes_max"),
    ("limits.nice", "nice", "nice"),
    ("limits.core_dumps", "core_dumps", "core_dumps"),
    ("stop_timeout_s", "", "stop_timeout_s"),
    ("watch.watchdog_s", "", "watchdog_s"),
    ("watch.crash_reports_max", "", "crash_reports_max"),
    ("watch.crash_expire_days", "", "crash_expire_days"),
    ("alarms.log_lag_max_s", "", "log_lag_max_s"),
    ("metrics_listen", "", "metrics_listen"),
];

/// Start of the paths of environment variables.
const ENV: &str = "env.";

/// Where keys are in the operator's files.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Section of node.cfg by node.
    sections: BTreeMap<String, String>,
    /// Lines of node.cfg by section and key.
    node_lines: BTreeMap<(String, String), u32>,
    settings: String,
}

/// What the operator calls a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The key as it is written, or the path in the release where there is none.
    pub key: String,
    /// `node.cfg:14`; none where it is not written, so that the default counts.
    pub at: Option<String>,
}

impl Origins {
    /// Reads the files in `etc` once more. `sections`: the section that made each node.
    pub fn read(etc: &Path, sections: BTreeMap<String, String>) -> Self {
        let text = |name: &str| std::fs::read_to_string(etc.join(name)).unwrap_or_default();
        Self::of(&text(NODE_CFG), text(TYTO_YAML), sections)
    }

    fn of(node_cfg: &str, settings: String, sections: BTreeMap<String, String>) -> Self {
        // Faults were told when the configuration was checked.
        let cfg = CfgFile::parse(NODE_CFG, node_cfg, &mut Vec::new());
        let mut node_lines = BTreeMap::new();
        for section in cfg.sections {
            for entry in section.entries {
                // ZeekControl's keys may be written with a dot, too.
                let key = entry.key.replace('.', "_");
                node_lines.insert((section.name.clone(), key), entry.at.line);
            }
        }
        Self { sections, node_lines, settings }
    }

    /// What the operator calls the value at `path`, for a node or (none) for all of a host.
    pub fn find(&self, node: Option<&str>, path: &str) -> Origin {
        if path == "analysis.local_nets" {
            return Origin { key: NETWORKS_CFG.to_owned(), at: None };
        }
        let (node_key, setting) = match path.strip_prefix(ENV) {
            Some(_) => ("env_vars", "env_vars"),
            None => KEYS
                .iter()
                .find(|row| row.0 == path)
                .map_or(("", ""), |&(_, node_key, setting)| (node_key, setting)),
        };
        let name = |key: &str| match path.strip_prefix(ENV) {
            Some(variable) => format!("{key} {variable}"),
            None => key.to_owned(),
        };
        let section = node.and_then(|node| self.sections.get(node));
        let in_node = section.and_then(|section| {
            self.node_lines.get(&(section.clone(), node_key.to_owned())).copied()
        });
        let deeper = path.strip_prefix(ENV).map(|variable| format!("env_vars.{variable}"));
        let in_settings = || line_of(&self.settings, deeper.as_deref().unwrap_or(setting));
        match (in_node, in_settings()) {
            (Some(line), _) => {
                Origin { key: name(node_key), at: Some(format!("{NODE_CFG}:{line}")) }
            }
            (None, Some(line)) => {
                Origin { key: name(setting), at: Some(format!("{TYTO_YAML}:{line}")) }
            }
            (None, None) => {
                let key = [setting, node_key].into_iter().find(|key| !key.is_empty());
                Origin { key: key.map_or_else(|| path.to_owned(), name), at: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tyto_core::config::node_keys::node_key;
    use tyto_core::config::setting_keys::setting_key;

    use super::*;

    fn origins() -> Origins {
        let node_cfg = "[DEFAULT]\nsnaplen=9000\n[w]\ntype=worker\naf_packet_buffer_size=1\n";
        let settings = "log_format: json\naf_packet:\n  buffer_size_bytes: 5\n  fanout_mode: cpu\n";
        let sections = [("w-1".to_owned(), "w".to_owned())].into();
        Origins::of(node_cfg, settings.to_owned(), sections)
    }

    fn found(path: &str) -> (String, String) {
        let origin = origins().find(Some("w-1"), path);
        (origin.key, origin.at.unwrap_or_default())
    }

    fn pair(key: &str, at: &str) -> (String, String) {
        (key.to_owned(), at.to_owned())
    }

    #[test]
    fn node_cfg_wins_then_tyto_yaml_then_there_is_no_line() {
        let at_node = pair("af_packet_buffer_size", "node.cfg:5");
        assert_eq!(found("capture.buffer_size_bytes"), at_node);
        assert_eq!(found("capture.snaplen_bytes"), pair("snaplen", "node.cfg:2"));
        assert_eq!(found("capture.fanout_mode"), pair("af_packet.fanout_mode", "tyto.yaml:4"));
        assert_eq!(found("logs.format"), pair("log_format", "tyto.yaml:1"));
        assert_eq!(found("logs.compress"), pair("compress_logs", ""));
        assert_eq!(found("env.HOME"), pair("env_vars HOME", ""));
        assert_eq!(found("something.new"), pair("something.new", ""));
    }

    #[test]
    fn every_key_of_the_table_is_one_of_the_operators() {
        for (path, node, setting) in KEYS {
            assert!(node.is_empty() || node_key(node).is_some(), "{path}: {node}");
            assert!(setting.is_empty() || setting_key(setting).is_some(), "{path}: {setting}");
        }
    }
}
