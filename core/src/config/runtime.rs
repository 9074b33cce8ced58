//! What one node and one host get: written by ctl into the release as YAML, read by the
//! daemons at start. Every name is resolved: daemons dial and bind addresses only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use super::logs::{LogFormat, LogFormats, LogsConfig};
pub use super::ship::ShipConfig;
use super::sinks::SinkConfig;

/// What a node is. The order is ZeekControl's start order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Worker and logger in one process, alone.
    Standalone,
    /// Receives and writes logs.
    Logger,
    /// Membership and health.
    Manager,
    /// The cluster's shared state.
    Proxy,
    /// Captures and analyses.
    Worker,
    /// Reads rows from loggers: a program of others, with a certificate of the cluster. No node.
    Subscriber,
}

impl Role {
    /// All roles that a node can have, in start order.
    pub const ALL: [Self; 5] =
        [Self::Standalone, Self::Logger, Self::Manager, Self::Proxy, Self::Worker];

    /// The word in node.cfg, in certificates and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Logger => "logger",
            Self::Manager => "manager",
            Self::Proxy => "proxy",
            Self::Worker => "worker",
            Self::Subscriber => "subscriber",
        }
    }

    /// The program that a node of this role runs.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Standalone => "worker",
            other => other.as_str(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is not a role.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role; expected standalone, logger, manager, proxy or worker")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let mut roles = Self::ALL.into_iter().chain([Self::Subscriber]);
        roles.find(|r| r.as_str() == text).ok_or_else(|| UnknownRole(text.into()))
    }
}

/// `etc/host.yaml`: what the supervisor of one host runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Name of the cluster.
    pub cluster: String,
    /// The host as node.cfg names it.
    pub host: String,
    /// Id of the release this file belongs to.
    pub release: String,
    /// This host's nodes in node.cfg order.
    pub nodes: Vec<HostNode>,
    /// Seconds from SIGTERM to SIGKILL.
    pub stop_timeout_s: u64,
    /// How nodes that die or hang are treated.
    pub watch: WatchConfig,
    /// Where the supervisor answers Prometheus; none: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// When the supervisor of a standalone node raises alarms.
    #[serde(default)]
    pub alarms: AlarmConfig,
}

/// When alarms are raised about the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmConfig {
    /// Rows that are in their files, or wait for that, longer than this after their packet, seconds;
    /// 0 never.
    pub log_lag_max_s: u64,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self { log_lag_max_s: 30 }
    }
}

/// How the supervisor watches its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// A running node whose reports stay out for this long hangs and is killed, seconds; 0 never.
    pub watchdog_s: u64,
    /// Crash reports kept of each node at most.
    pub crash_reports_max: u32,
    /// Crash reports older than this are removed, days; 0 never.
    pub crash_expire_days: u32,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { watchdog_s: 15, crash_reports_max: 10, crash_expire_days: 30 }
    }
}

/// One node as the supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostNode {
    /// Name of the node.
    pub node: String,
    /// Its role, and by that its program.
    pub role: Role,
    /// CPUs it may run on; empty means all.
    pub cpus: Vec<u32>,
    /// Environment variables added to the node's environment.
    pub env: BTreeMap<String, String>,
    /// What the node may use of the host.
    pub limits: LimitsConfig,
}

/// What one process may use of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Memory, bytes: by cgroup where there is one to use, else by rlimit; none: no limit.
    pub memory_bytes_max: Option<u64>,
    /// Niceness, -20 to 19; 0 leaves it as it is.
    pub nice: i8,
    /// Let the kernel write a core when the process crashes.
    pub core_dumps: bool,
}

/// `etc/nodes/NODE.yaml`: what one node needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Name of the cluster; also in every certificate.
    pub cluster: String,
    /// Name of this node.
    pub node: String,
    /// Role of this node.
    pub role: Role,
    /// Prefix of the installation on this host.
    pub prefix: PathBuf,
    /// Where this node's gRPC server listens; none for workers and standalone.
    pub listen: Option<SocketAddr>,
    /// All nodes of the cluster that listen, this one included, in node.cfg order. Empty in a
    /// release, where [`PeersConfig`] has them: a node follows that file while it runs, so that
    /// a further logger or proxy restarts nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// What to capture; workers and standalone only. None: no interface, idle.
    pub capture: Option<CaptureConfig>,
    /// How traffic is analysed; workers and standalone only.
    pub analysis: AnalysisConfig,
    /// How log files are written; loggers and standalone only.
    pub logs: LogsConfig,
    /// Bounds of delivery; workers and standalone only.
    pub ship: ShipConfig,
    /// When alarms are raised; the manager only.
    #[serde(default)]
    pub alarms: AlarmConfig,
    /// Where rows go besides the files; loggers only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkConfig>,
}

/// `etc/peers.yaml`: whom the nodes of a cluster can dial. While a deploy is under way, nodes of the
/// release before read that of the next one: keys that they do not know mean nothing to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersConfig {
    /// All nodes that listen, in node.cfg order.
    pub peers: Vec<Peer>,
    /// Loggers that will not come back: batches bound to them go to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loggers_gone: Vec<String>,
}

/// A node that listens. Keys of later releases mean nothing, as in [`PeersConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, which its certificate carries too.
    pub node: String,
    /// Its role.
    pub role: Role,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// Live capture of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureConfig {
    /// Interface name.
    pub interface: String,
    /// Fanout group, distinct per interface of a host; none when the worker is alone on it.
    pub fanout_id: Option<u16>,
    /// How the kernel spreads packets over the group.
    pub fanout_mode: FanoutMode,
    /// Let the kernel reassemble fragments before it hashes (PACKET_FANOUT_FLAG_DEFRAG).
    pub fanout_defrag: bool,
    /// Ring size of this worker, bytes.
    pub buffer_size_bytes: u64,
    /// Size of one block of the ring, bytes; a multiple of the page size.
    pub block_size_bytes: u32,
    /// The kernel retires a block that is not full after this long, milliseconds.
    pub block_timeout_ms: u32,
    /// Bytes kept of each packet.
    pub snaplen_bytes: u32,
    /// With `cbpf` and `ebpf`: packets in GRE, VXLAN, IP-in-IP are spread by their inner flow.
    pub fanout_inner: bool,
    /// See all packets of the link, not only those for this host.
    pub promiscuous: bool,
    /// Time stamps of the network card, where it has them.
    pub hw_timestamps: bool,
    /// Whom to believe that a transport checksum is right.
    pub checksums: ChecksumMode,
    /// Only packets that this tcpdump expression matches are captured.
    pub filter: Option<String>,
    /// What the interface has to be, as a link type of capture files; none: anything that can
    /// be captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_type: Option<u16>,
}

/// Who checks transport checksums of live packets (`AF_Packet::checksum_validation_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumMode {
    /// The worker, each packet (CHECKSUM_ON).
    On,
    /// The worker, but for packets that the network card or the kernel vouches for
    /// (CHECKSUM_KERNEL).
    #[default]
    Kernel,
    /// Nobody (CHECKSUM_OFF).
    Off,
}

/// PACKET_FANOUT modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FanoutMode {
    /// By the kernel's symmetric flow hash.
    #[default]
    Hash,
    /// By the CPU that received the packet.
    Cpu,
    /// By the receive queue of the interface.
    Qm,
    /// By a classic BPF program of ours: a symmetric flow hash that sees through VLAN tags and,
    /// with `fanout_inner`, tunnels.
    Cbpf,
    /// The same by an eBPF program.
    Ebpf,
}

/// How traffic is analysed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnalysisConfig {
    /// Local networks (networks.cfg).
    pub local_nets: Vec<IpNet>,
    /// Private address space counts as local (Site::private_address_space_is_local).
    pub private_address_space_is_local: bool,
    /// Take packets with a wrong checksum as good (Zeek's -C).
    pub ignore_checksums: bool,
    /// Add the community_id column to conn.log.
    pub community_id: bool,
    /// Connections that one worker follows at the same time.
    #[serde(default)]
    pub flows_max: FlowsMax,
    /// Look for traceroutes (traceroute.log).
    #[serde(default)]
    pub traceroute: bool,
    /// Write unknown_protocols.log.
    #[serde(default)]
    pub unknown_protocols: bool,
    /// Programs of which another version on the same host is worth a notice.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub software_version_changes: BTreeSet<String>,
    /// Protocols that are not analysed (Zeek: `Analyzer::disabled_analyzers`).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub disabled_analyzers: BTreeSet<String>,
    /// Log MD5, SHA-1 and SHA-256 of files.
    #[serde(default)]
    pub hash_files: HashFiles,
    /// Log fingerprints of TLS hellos: the columns ja3, ja3s and ja4 of ssl.log.
    #[serde(default)]
    pub ssl_fingerprints: bool,
    /// Log whether servers' certificates lead to one that is trusted: validation_status of
    /// ssl.log, and a notice (Zeek: policy/protocols/ssl/validate-certs).
    #[serde(default)]
    pub validate_certificates: bool,
    /// File of the certificates that are trusted, PEM; none: the host's own store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_certificates: Option<PathBuf>,
    /// Log fingerprints of SSH's key exchange: hassh and its companions in ssh.log.
    #[serde(default)]
    pub ssh_hassh: bool,
    /// Log the passwords of FTP, HTTP, LDAP and SOCKS (Zeek: `default_capture_password`).
    #[serde(default)]
    pub log_passwords: bool,
    /// Write the content of files onto the disk; a node does so in its spool.
    #[serde(default)]
    pub extract_files: bool,
    /// Bytes of one file that are written at most.
    #[serde(default)]
    pub extract_bytes_max: ExtractBytesMax,
    /// Bytes of all extracted files of a node at most.
    #[serde(default)]
    pub extract_total_bytes_max: ExtractTotalBytesMax,
    /// Where that content goes; set by the process itself.
    #[serde(skip)]
    pub extract_to: ExtractTo,
    /// The node as `peer` columns name it; set by the node itself.
    #[serde(skip)]
    pub peer: String,
}

/// Whether files are hashed (Zeek: frameworks/files/hash-all-files).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HashFiles(pub bool);

impl Default for HashFiles {
    /// They are.
    fn default() -> Self {
        Self(true)
    }
}

/// Connections that one worker follows at the same time. At the limit a new one takes the place
/// of one whose deadline is near, which is logged as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FlowsMax(pub u32);

impl Default for FlowsMax {
    /// Some 1.5 GB when all are TCP and none carries anything.
    fn default() -> Self {
        Self(2_000_000)
    }
}

/// Bytes of one file that are extracted at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExtractBytesMax(pub u64);

impl Default for ExtractBytesMax {
    /// Zeek's `FileExtract::default_limit`.
    fn default() -> Self {
        Self(100 << 20)
    }
}

/// Bytes of all extracted files of a node at most; what comes when it is reached is counted and
/// not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExtractTotalBytesMax(pub u64);

impl Default for ExtractTotalBytesMax {
    /// 10 GiB: a hundred files of the largest size.
    fn default() -> Self {
        Self(10 << 30)
    }
}

/// Where the content of files goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExtractTo {
    /// It is not kept.
    #[default]
    Nowhere,
    /// Into this folder, and the analysis waits for the disk.
    Direct(PathBuf),
    /// Into this folder, by a thread that drops what the disk does not take in time.
    Queued(PathBuf),
}

impl CaptureConfig {
    /// Capture of one interface alone, with the defaults of tyto.yaml.
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            fanout_id: None,
            fanout_mode: FanoutMode::Hash,
            fanout_defrag: true,
            buffer_size_bytes: 128 << 20,
            block_size_bytes: 256 << 10,
            block_timeout_ms: 10,
            snaplen_bytes: 9216,
            fanout_inner: false,
            promiscuous: true,
            hw_timestamps: false,
            checksums: ChecksumMode::Kernel,
            filter: None,
            link_type: None,
        }
    }
}

impl NodeConfig {
    /// A node that neither listens nor captures and knows no other, with the defaults of tyto.yaml.
    pub fn new(
        cluster: impl Into<String>,
        node: impl Into<String>,
        role: Role,
        prefix: impl Into<PathBuf>,
    ) -> Self {
        Self {
            cluster: cluster.into(),
            node: node.into(),
            role,
            prefix: prefix.into(),
            listen: None,
            peers: Vec::new(),
            capture: None,
            analysis: AnalysisConfig::default(),
            logs: LogsConfig::default(),
            ship: ShipConfig::default(),
            alarms: AlarmConfig::default(),
            sinks: Vec::new(),
        }
    }

    /// The peers of a role, in node.cfg order.
    pub fn peers_of(&self, role: Role) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(move |peer| peer.role == role)
    }
}
