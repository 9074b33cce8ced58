//! What each host and node gets to read, made from a checked cluster. Pure: the same cluster
//! and addresses give the same files, so that a deploy with nothing changed changes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::cluster::Cluster;
use super::fanout;
use super::logs::{CommandTimeout, CommandTries};
use super::name::HostName;
use super::node::Node;
use super::runtime::{
    AlarmConfig, AnalysisConfig, CaptureConfig, ChecksumMode, ExtractBytesMax,
    ExtractTotalBytesMax, FlowsMax, HashFiles, HostConfig, HostNode, LimitsConfig, LogsConfig,
    NodeConfig, Peer, PeersConfig, Role, ShipConfig, WatchConfig,
};

/// A host whose name was not resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address is known for host `{host}`")]
pub struct UnknownAddress {
    /// The host.
    pub host: HostName,
}

impl Cluster {
    /// Configuration of one node.
    ///
    /// # Errors
    /// When `addrs` lacks the host of a node that listens.
    pub fn node_config(
        &self,
        node: &Node,
        addrs: &BTreeMap<HostName, IpAddr>,
    ) -> Result<NodeConfig, UnknownAddress> {
        let peers = self.peers(addrs)?;
        let own = peers.iter().find(|peer| node.name == peer.node.as_str());
        let settings = &self.settings;
        let loggers = self.nodes.iter().filter(|node| node.role == Role::Logger).count();
        let config = NodeConfig {
            cluster: settings.cluster.clone(),
            node: node.name.to_string(),
            role: node.role,
            prefix: settings.prefix.clone(),
            listen: own.map(|peer| peer.addr),
            capture: self.capture(node),
            analysis: AnalysisConfig {
                local_nets: self.networks.iter().map(|network| network.net).collect(),
                private_address_space_is_local: settings.private_address_space_is_local,
                ignore_checksums: self.checksums(node) == ChecksumMode::Off,
                community_id: settings.community_id,
                flows_max: FlowsMax(settings.flows_max),
                traceroute: settings.traceroute,
                unknown_protocols: settings.unknown_protocols,
                software_version_changes: settings.software_version_changes(),
                disabled_analyzers: settings.disabled_analyzers(),
                hash_files: HashFiles(settings.hash_files),
                ssl_fingerprints: settings.ssl_fingerprints,
                validate_certificates: settings.validate_certificates,
                trusted_certificates: settings.trusted_certificates.clone(),
                ssh_hassh: settings.ssh_hassh,
                log_passwords: settings.log_passwords,
                extract_files: settings.extract_files,
                extract_bytes_max: ExtractBytesMax(settings.extract_bytes_max),
                extract_total_bytes_max: ExtractTotalBytesMax(settings.extract_total_bytes_max),
                ..AnalysisConfig::default()
            },
            logs: LogsConfig {
                format: settings.log_format,
                json_timestamps: settings.json_timestamps,
                rotation_interval_s: settings.log_rotation_interval_s,
                compress: settings.compress_logs,
                compress_level: settings.compress_level,
                parquet: settings.parquet_logs,
                commit_interval_ms: settings.commit_interval_ms,
                name_in_archive: loggers > 1,
                archive_name: settings.archive_name.clone(),
                expire: settings.log_expire_interval,
                keep: settings.keep_logs.clone(),
                archive_bytes_max: settings.log_archive_bytes_max,
                free_min: settings.log_free_min,
                rotation_command: settings.rotation_command.clone(),
                rotation_command_timeout_s: CommandTimeout(settings.rotation_command_timeout_s),
                rotation_command_tries: CommandTries(settings.rotation_command_tries),
                streams: settings.streams.clone(),
            },
            ship: ShipConfig {
                batch_rows_max: settings.batch_rows_max,
                batch_interval_ms: settings.batch_interval_ms,
                spool_bytes_max: settings.spool_bytes_max,
                spool_age_max_s: settings.spool_age_max_s,
                spool_drop_first: words(&settings.spool_drop_first),
                doubt_timeout_s: settings.doubt_timeout_s,
            },
            alarms: self.alarms(),
            sinks: settings.sinks.clone(),
            peers: Vec::new(),
        };
        Ok(without_foreign_sections(config))
    }

    /// What the supervisor of one host runs.
    pub fn host_config(&self, host: &HostName, release: &str) -> HostConfig {
        HostConfig {
            cluster: self.settings.cluster.clone(),
            host: host.to_string(),
            release: release.to_owned(),
            nodes: self
                .nodes
                .iter()
                .filter(|node| node.host == *host)
                .map(|node| HostNode {
                    node: node.name.to_string(),
                    role: node.role,
                    cpus: node.cpu.into_iter().collect(),
                    env: self.env(node),
                    limits: self.limits(node),
                })
                .collect(),
            stop_timeout_s: self.settings.stop_timeout_s,
            watch: WatchConfig {
                watchdog_s: self.settings.watchdog_s,
                crash_reports_max: self.settings.crash_reports_max,
                crash_expire_days: self.settings.crash_expire_days,
            },
            metrics_listen: self.settings.metrics_listen,
            alarms: self.alarms(),
        }
    }

    const fn alarms(&self) -> AlarmConfig {
        AlarmConfig { log_lag_max_s: self.settings.log_lag_max_s }
    }

    /// What a node may use of its host.
    pub fn limits(&self, node: &Node) -> LimitsConfig {
        let (own, settings) = (&node.limits, &self.settings);
        // 0 in node.cfg takes back the limit of tyto.yaml.
        let memory = own.memory_bytes_max.or(settings.memory_bytes_max);
        LimitsConfig {
            memory_bytes_max: memory.filter(|&bytes| bytes > 0),
            nice: own.nice.unwrap_or(settings.nice),
            core_dumps: own.core_dumps.unwrap_or(settings.core_dumps),
        }
    }

    /// Who verifies the checksums of a node's packets: node.cfg, else nobody when tyto.yaml
    /// says `ignore_checksums`, else its `af_packet.checksums`.
    pub fn checksums(&self, node: &Node) -> ChecksumMode {
        let settings = &self.settings;
        let of_all = match settings.ignore_checksums {
            true => ChecksumMode::Off,
            false => settings.af_packet.checksums,
        };
        node.capture.checksums.unwrap_or(of_all)
    }

    /// Environment variables of a node: those of tyto.yaml, then its own over them.
    pub fn env(&self, node: &Node) -> BTreeMap<String, String> {
        let mut env = self.settings.env_vars.clone();
        env.extend(node.env.clone());
        env
    }

    /// Whom the nodes of the cluster can dial.
    ///
    /// # Errors
    /// When `addrs` lacks the host of a node that listens.
    pub fn peers_config(
        &self,
        addrs: &BTreeMap<HostName, IpAddr>,
    ) -> Result<PeersConfig, UnknownAddress> {
        let gone = self.settings.loggers_gone.as_deref().unwrap_or_default();
        Ok(PeersConfig { peers: self.peers(addrs)?, loggers_gone: words(gone) })
    }

    fn peers(&self, addrs: &BTreeMap<HostName, IpAddr>) -> Result<Vec<Peer>, UnknownAddress> {
        let ports = self.ports();
        self.nodes
            .iter()
            .filter_map(|node| ports.get(&node.name).map(|&port| (node, port)))
            .map(|(node, port)| {
                let addr = addrs.get(&node.host);
                let addr = addr.ok_or_else(|| UnknownAddress { host: node.host.clone() })?;
                let addr = SocketAddr::new(*addr, port);
                Ok(Peer { node: node.name.to_string(), role: node.role, addr })
            })
            .collect()
    }

    fn capture(&self, node: &Node) -> Option<CaptureConfig> {
        let interface = node.interface.clone()?;
        let (own, defaults) = (&node.capture, &self.settings.af_packet);
        Some(CaptureConfig {
            interface,
            fanout_id: fanout::ids(&self.nodes).get(node.name.as_str()).copied(),
            fanout_mode: own.fanout_mode.unwrap_or(defaults.fanout_mode),
            fanout_inner: own.fanout_inner.unwrap_or(defaults.fanout_inner),
            fanout_defrag: own.fanout_defrag.unwrap_or(defaults.fanout_defrag),
            buffer_size_bytes: own.buffer_size_bytes.unwrap_or(defaults.buffer_size_bytes),
            block_size_bytes: own.block_size_bytes.unwrap_or(defaults.block_size_bytes),
            block_timeout_ms: own.block_timeout_ms.unwrap_or(defaults.block_timeout_ms),
            snaplen_bytes: own.snaplen_bytes.unwrap_or(self.settings.snaplen_bytes),
            promiscuous: own.promiscuous.unwrap_or(defaults.promiscuous),
            hw_timestamps: own.hw_timestamps.unwrap_or(defaults.hw_timestamps),
            checksums: self.checksums(node),
            filter: own.filter.clone().or_else(|| self.settings.filter.clone()),
            link_type: own.link_type,
        })
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Leaves sections at their defaults that the role does not read, so that a change of them does
/// not concern its nodes.
fn without_foreign_sections(mut config: NodeConfig) -> NodeConfig {
    if !matches!(config.role, Role::Worker | Role::Standalone) {
        config.analysis = AnalysisConfig::default();
        config.ship = ShipConfig::default();
    }
    if config.role != Role::Logger {
        config.sinks.clear();
    }
    if !matches!(config.role, Role::Logger | Role::Standalone) {
        config.logs = LogsConfig::default();
    }
    if config.role != Role::Manager {
        config.alarms = AlarmConfig::default();
    }
    config
}
