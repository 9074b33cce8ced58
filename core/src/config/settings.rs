//! tyto.yaml: what ZeekControl keeps in zeekctl.cfg. [`Settings`] holds the values, the keys
//! with their ranges and words are in [`SETTING_KEYS`]; a test holds the two together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_yaml::{Mapping, Value};

use super::archive_name::ArchiveName;
use super::error::{At, Fault, FaultKind};
use super::logs::{
    Compression, FreeSpace, JsonTimestamps, KeepTime, LogFormats, Parquet, StreamLogs,
};
use super::runtime::{
    AlarmConfig, CaptureConfig, ChecksumMode, ExtractBytesMax, ExtractTotalBytesMax, FanoutMode,
    FlowsMax, LogsConfig, WatchConfig,
};
use super::setting_keys::{Kind, SETTING_KEYS, setting_key};
pub(super) use super::setting_kind::plain;
use super::sinks::SinkConfig;
use super::yaml_lines::{KeyLines, key_lines};
use super::{filter_check, log_checks, stream_keys, unknown_key};
use crate::config::runtime::ShipConfig;

/// Prometheus is answered on the host itself when nobody says otherwise: the port before the
/// cluster's first.
const METRICS_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 27_759));

/// The operator's settings; the defaults are those of a file that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Name of the cluster.
    pub cluster: String,
    /// Folder of the installation on every host.
    pub prefix: PathBuf,
    /// First port of the cluster (ZeekPort).
    pub port: u16,
    /// Seconds after which logs are rotated; 0 never.
    pub log_rotation_interval_s: u64,
    /// Formats of the log files.
    pub log_format: LogFormats,
    /// How times print in JSON.
    pub json_timestamps: JsonTimestamps,
    /// How archived logs are compressed.
    pub compress_logs: Compression,
    /// Level of that; the method's own when not given.
    pub compress_level: Option<u8>,
    /// Parquet files of finished logs.
    pub parquet_logs: Parquet,
    /// Pattern of the names of archived logs.
    pub archive_name: ArchiveName,
    /// Archived logs are removed after this long.
    pub log_expire_interval: KeepTime,
    /// Names of archived files that never expire, shell patterns with spaces between.
    pub keep_logs: Option<String>,
    /// Bytes that the archive may take.
    pub log_archive_bytes_max: Option<u64>,
    /// Free space below which the oldest archived logs go.
    pub log_free_min: Option<FreeSpace>,
    /// Program and arguments, run for each archived file.
    pub rotation_command: Option<String>,
    /// Seconds that it may take.
    pub rotation_command_timeout_s: u64,
    /// How often it is tried for one file.
    pub rotation_command_tries: u32,
    /// What is different for single log streams.
    pub streams: BTreeMap<String, StreamLogs>,
    /// How long rows wait for others before they are synced together, milliseconds.
    pub commit_interval_ms: u64,
    /// Rows of a stream that travel together at most.
    pub batch_rows_max: u32,
    /// How long a row may wait for its batch to fill, milliseconds.
    pub batch_interval_ms: u64,
    /// Size of a worker's spool of unacked rows, bytes.
    pub spool_bytes_max: u64,
    /// Unsent rows older than this are dropped, seconds; 0 never.
    pub spool_age_max_s: u64,
    /// Log streams that a full spool drops first, with blanks in between.
    pub spool_drop_first: String,
    /// A batch whose logger has been away for so long is copied to another one, seconds; 0 never.
    pub doubt_timeout_s: u64,
    /// Loggers that will not come back, with blanks in between.
    pub loggers_gone: Option<String>,
    /// Log lag beyond this is an alarm, seconds; 0 never.
    pub log_lag_max_s: u64,
    /// Where each host's supervisor answers Prometheus; nowhere when not given.
    pub metrics_listen: Option<SocketAddr>,
    /// Memory that each node may use, bytes; no limit when not given.
    pub memory_bytes_max: Option<u64>,
    /// Niceness of each node.
    pub nice: i8,
    /// Let the kernel write a core when a node crashes.
    pub core_dumps: bool,
    /// A node that reports nothing for so long hangs and is killed, seconds; 0 never.
    pub watchdog_s: u64,
    /// Crash reports kept of each node.
    pub crash_reports_max: u32,
    /// Crash reports older than this are removed, days; 0 never.
    pub crash_expire_days: u32,
    /// Seconds from SIGTERM to SIGKILL.
    pub stop_timeout_s: u64,
    /// Seconds that a command on a host may take.
    pub command_timeout_s: u64,
    /// Releases kept on each host, the current one included.
    pub keep_releases: u32,
    /// Private address space counts as local.
    pub private_address_space_is_local: bool,
    /// Take packets with a wrong checksum as good, those of capture files too.
    pub ignore_checksums: bool,
    /// Add community_id to conn.log.
    pub community_id: bool,
    /// Connections that one worker follows at the same time.
    pub flows_max: u32,
    /// Look for traceroutes.
    pub traceroute: bool,
    /// Write unknown_protocols.log.
    pub unknown_protocols: bool,
    /// Programs of which another version is worth a notice, names with commas between.
    pub software_version_changes: Option<String>,
    /// Protocols that are not analysed, names with spaces between.
    pub disabled_analyzers: Option<String>,
    /// Log the hashes of files.
    pub hash_files: bool,
    /// Log fingerprints of TLS hellos.
    pub ssl_fingerprints: bool,
    /// Log whether servers' certificates are trusted.
    pub validate_certificates: bool,
    /// File of the certificates that are trusted; the host's own store when not given.
    pub trusted_certificates: Option<PathBuf>,
    /// Log fingerprints of SSH's key exchange.
    pub ssh_hassh: bool,
    /// Log the passwords that protocols send in the clear.
    pub log_passwords: bool,
    /// Write the content of files into the spool of each node.
    pub extract_files: bool,
    /// Bytes of one file that are written at most.
    pub extract_bytes_max: u64,
    /// Bytes of all files of a node that are written at most.
    pub extract_total_bytes_max: u64,
    /// Only packets that this tcpdump expression matches are captured.
    pub filter: Option<String>,
    /// Bytes kept of each packet.
    pub snaplen_bytes: u32,
    /// Live capture.
    pub af_packet: AfPacketSettings,
    /// How ctl reaches hosts.
    pub ssh: SshSettings,
    /// Where loggers send rows besides their files.
    pub sinks: Vec<SinkConfig>,
    /// Environment variables of every node.
    pub env_vars: BTreeMap<String, String>,
}

/// Live capture, for workers whose section says nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AfPacketSettings {
    /// Size of each worker's ring, bytes.
    pub buffer_size_bytes: u64,
    /// Size of one block of the ring, bytes.
    pub block_size_bytes: u32,
    /// Hand-over of a block that is not full, milliseconds.
    pub block_timeout_ms: u32,
    /// How packets are spread over the workers of an interface.
    pub fanout_mode: FanoutMode,
    /// With `cbpf` and `ebpf`: packets in a tunnel are spread by their inner flow.
    pub fanout_inner: bool,
    /// Kernel joins fragments before it chooses a worker.
    pub fanout_defrag: bool,
    /// See all packets of the link.
    pub promiscuous: bool,
    /// Who verifies checksums.
    pub checksums: ChecksumMode,
    /// Time stamps of the network card, where it has them.
    pub hw_timestamps: bool,
}

/// How ctl reaches hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SshSettings {
    /// Remote user; ssh decides when not given.
    pub user: Option<String>,
    /// Port of sshd; ssh decides when not given.
    pub port: Option<u16>,
    /// Seconds to wait for a connection.
    pub connect_timeout_s: u64,
    /// Hosts talked to at the same time.
    pub parallel_max: u32,
    /// File of known host keys; ssh's own when not given.
    pub known_hosts: Option<PathBuf>,
    /// Private key; ssh's own choice when not given.
    pub identity_file: Option<PathBuf>,
    /// Configuration of ssh; its own when not given.
    pub config_file: Option<PathBuf>,
    /// How commands share a connection.
    pub mode: SshMode,
}

/// How commands share one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SshMode {
    /// Speak with the master process of ssh directly.
    #[default]
    Native,
    /// One ssh process per command; needed with a jump host and agent forwarding together.
    Process,
}

impl Default for Settings {
    fn default() -> Self {
        let (watch, ship) = (WatchConfig::default(), ShipConfig::default());
        let logs = LogsConfig::default();
        Self {
            cluster: "tyto".to_owned(),
            prefix: "/opt/tyto".into(),
            port: 27760,
            log_rotation_interval_s: 3600,
            log_format: logs.format,
            json_timestamps: logs.json_timestamps,
            compress_logs: logs.compress,
            compress_level: logs.compress_level,
            parquet_logs: logs.parquet,
            archive_name: logs.archive_name,
            log_expire_interval: logs.expire,
            keep_logs: logs.keep,
            log_archive_bytes_max: logs.archive_bytes_max,
            log_free_min: logs.free_min,
            rotation_command: logs.rotation_command,
            rotation_command_timeout_s: logs.rotation_command_timeout_s.0,
            rotation_command_tries: logs.rotation_command_tries.0,
            streams: logs.streams,
            commit_interval_ms: 50,
            batch_rows_max: 1000,
            batch_interval_ms: 200,
            spool_bytes_max: 1 << 30,
            spool_age_max_s: ship.spool_age_max_s,
            spool_drop_first: ship.spool_drop_first.join(" "),
            doubt_timeout_s: ship.doubt_timeout_s,
            loggers_gone: None,
            log_lag_max_s: AlarmConfig::default().log_lag_max_s,
            metrics_listen: Some(METRICS_LISTEN),
            memory_bytes_max: None,
            nice: 0,
            core_dumps: false,
            watchdog_s: watch.watchdog_s,
            crash_reports_max: watch.crash_reports_max,
            crash_expire_days: watch.crash_expire_days,
            stop_timeout_s: 60,
            command_timeout_s: 60,
            keep_releases: 3,
            private_address_space_is_local: true,
            ignore_checksums: false,
            community_id: false,
            flows_max: FlowsMax::default().0,
            traceroute: false,
            unknown_protocols: false,
            software_version_changes: None,
            disabled_analyzers: None,
            hash_files: true,
            ssl_fingerprints: false,
            validate_certificates: false,
            trusted_certificates: None,
            ssh_hassh: false,
            log_passwords: false,
            extract_files: false,
            extract_bytes_max: ExtractBytesMax::default().0,
            extract_total_bytes_max: ExtractTotalBytesMax::default().0,
            filter: None,
            snaplen_bytes: CaptureConfig::new("").snaplen_bytes,
            af_packet: AfPacketSettings::default(),
            ssh: SshSettings::default(),
            sinks: Vec::new(),
            env_vars: BTreeMap::new(),
        }
    }
}

impl Default for AfPacketSettings {
    fn default() -> Self {
        let capture = CaptureConfig::new("");
        Self {
            buffer_size_bytes: capture.buffer_size_bytes,
            block_size_bytes: capture.block_size_bytes,
            block_timeout_ms: capture.block_timeout_ms,
            fanout_mode: capture.fanout_mode,
            fanout_inner: capture.fanout_inner,
            fanout_defrag: capture.fanout_defrag,
            promiscuous: capture.promiscuous,
            checksums: capture.checksums,
            hw_timestamps: capture.hw_timestamps,
        }
    }
}

impl Default for SshSettings {
    fn default() -> Self {
        Self {
            user: None,
            port: None,
            connect_timeout_s: 10,
            parallel_max: 16,
            known_hosts: None,
            identity_file: None,
            config_file: None,
            mode: SshMode::Native,
        }
    }
}

impl Settings {
    /// Reads the file, and says where each key stands that is in it. The defaults are returned
    /// when it has faults, so that the rest of the configuration can be checked too.
    pub fn parse(file: &str, text: &str, faults: &mut Vec<Fault>) -> (Self, Places) {
        let (file, lines) = (At::file(file), key_lines(text));
        let mut checker = Checker { file, lines, places: Places::default(), faults: Vec::new() };
        let settings = checker.read(text);
        faults.append(&mut checker.faults);
        (settings.unwrap_or_default(), checker.places)
    }

    /// Programs whose change of version is worth a notice.
    pub fn software_version_changes(&self) -> BTreeSet<String> {
        let names = self.software_version_changes.iter().flat_map(|names| names.split(','));
        names.map(|name| name.trim().to_owned()).collect()
    }

    /// Protocols that are not analysed.
    pub fn disabled_analyzers(&self) -> BTreeSet<String> {
        let names = self.disabled_analyzers.iter().flat_map(|names| names.split_whitespace());
        names.map(str::to_owned).collect()
    }

    /// Every key with its value, in the order of the manual; what is not set is empty.
    /// The names are those of the table: `ssh.user`.
    pub fn list(&self) -> Vec<(&'static str, String)> {
        let tree = serde_yaml::to_value(self).unwrap_or_default();
        SETTING_KEYS
            .iter()
            .map(|key| {
                let mut value = &tree;
                for part in key.name.split('.') {
                    value = value.get(part).unwrap_or(&Value::Null);
                }
                (key.name, plain(value))
            })
            .collect()
    }
}

/// Where the keys of a tyto.yaml stand; a key that is not in it has no place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<&'static str, At>);

impl Places {
    /// The place of a key by the name in the table: `ssh.user`.
    pub fn at(&self, key: &str) -> Option<&At> {
        self.0.get(key)
    }
}

struct Checker {
    file: At,
    lines: KeyLines,
    places: Places,
    faults: Vec<Fault>,
}

impl Checker {
    fn read(&mut self, text: &str) -> Option<Settings> {
        let tree: Value = match serde_yaml::from_str(text) {
            Ok(Value::Null) => return Some(Settings::default()),
            Ok(tree) => tree,
            Err(error) => {
                self.yaml_fault(&error);
                return None;
            }
        };
        let Value::Mapping(mapping) = &tree else {
            let problem = "the file is not a list of `key: value` lines".to_owned();
            self.faults.push(Fault::new(&self.file, FaultKind::Yaml { problem }));
            return None;
        };
        self.check("", mapping);
        if !self.faults.is_empty() {
            return None;
        }
        // The table has let every value pass; serde sees to it that the struct agrees.
        match serde_yaml::from_value(tree) {
            Ok(settings) => {
                for (key, found, expected, hint) in log_checks::contradictions(&settings) {
                    let kind = FaultKind::BadSetting { key: key.to_owned(), found, expected };
                    self.faults.push(Fault::new(&self.at(key), kind).hint(hint));
                }
                Some(settings)
            }
            Err(error) => {
                self.yaml_fault(&error);
                None
            }
        }
    }

    fn yaml_fault(&mut self, error: &serde_yaml::Error) {
        let text = error.to_string();
        // serde_yaml has no place for this one.
        if text.contains("duplicate entry") && !self.lines.duplicates.is_empty() {
            for (key, (line, column), first_line) in std::mem::take(&mut self.lines.duplicates) {
                let at = self.file.place(line, column);
                let kind = FaultKind::DuplicateSetting { key, first_line };
                self.faults.push(Fault::new(&at, kind).hint("delete one of the two lines"));
            }
            return;
        }
        let at = error.location().map_or_else(
            || self.file.clone(),
            |place| {
                let line = u32::try_from(place.line()).unwrap_or(u32::MAX);
                self.file.place(line, u32::try_from(place.column()).unwrap_or(u32::MAX))
            },
        );
        // The place is said already.
        let problem = text.split(" at line ").next().unwrap_or(&text).to_owned();
        self.faults.push(Fault::new(&at, FaultKind::Yaml { problem }));
    }

    fn check(&mut self, above: &str, mapping: &Mapping) {
        for (name, value) in mapping {
            let name = plain(name);
            let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            let at = self.at(&path);
            let group = format!("{path}.");
            if SETTING_KEYS.iter().any(|key| key.name.starts_with(&group)) {
                match value {
                    Value::Null => {}
                    Value::Mapping(below) => self.check(&path, below),
                    _ => self.bad(&at, &path, value, "keys of its own, indented below it"),
                }
                continue;
            }
            match setting_key(&path) {
                Some(key) if key.kind.accepts(value) => {
                    if let (Kind::Optional(Kind::Filter), Value::String(text)) = (key.kind, value) {
                        self.check_filter(key.name, text, &at);
                    }
                    if matches!(key.kind, Kind::Streams) {
                        let faults = stream_keys::faults(value, |path| self.at(path));
                        self.faults.extend(faults);
                    }
                    self.places.0.insert(key.name, at);
                }
                Some(key) => {
                    self.bad(&at, &path, value, &key.kind.expected());
                    if let Some(hint) = key.kind.why_not(value) {
                        let told = self.faults.pop().map(|fault| fault.hint(hint));
                        self.faults.extend(told);
                    }
                }
                None => {
                    let hint = unknown_key::in_settings(&path);
                    let kind = FaultKind::UnknownSetting { key: path };
                    self.faults.push(Fault::new(&at, kind).hint(hint));
                }
            }
        }
    }

    fn check_filter(&mut self, key: &str, text: &str, at: &At) {
        let value = self.lines.values.get(key).filter(|(_, rest)| rest.starts_with(text));
        let value_at = value.map(|&(column, _)| at.place(at.line, column));
        let (key, link_type) = (format!("`{key}`"), filter_check::ETHERNET);
        self.faults.extend(filter_check::fault(&key, text, link_type, at, value_at.as_ref()));
    }

    fn bad(&mut self, at: &At, path: &str, value: &Value, expected: &str) {
        let (key, found) = (path.to_owned(), plain(value));
        let kind = FaultKind::BadSetting { key, found, expected: expected.to_owned() };
        self.faults.push(Fault::new(at, kind));
    }

    /// The place of a key, or of the nearest one above it when it is written in one line
    /// with others (`ssh: {user: root}`).
    fn at(&self, path: &str) -> At {
        let mut path = path;
        loop {
            if let Some(&(line, column)) = self.lines.first.get(path) {
                return self.file.place(line, column);
            }
            match path.rsplit_once('.') {
                Some((above, _)) => path = above,
                None => return self.file.clone(),
            }
        }
    }
}
