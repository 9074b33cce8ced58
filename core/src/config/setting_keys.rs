//! The keys of tyto.yaml: kind, range, unit and words of each. The checker, the faults, the
//! manual and the example file all go by this table.

pub use super::setting_kind::Kind;
use super::setting_kind::{
    are_analyzers, are_nodes, are_patterns, are_programs, is_absolute_path, is_address,
    is_cluster_name, is_command, is_path, is_prefix, is_user,
};

/// Least memory a node can be limited to: less does not hold a ring and a flow table.
pub(super) const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// Most memory a node can be limited to.
pub(super) const MEMORY_BYTES_MAX: u64 = 1 << 44;

/// One key of tyto.yaml.
#[derive(Clone, Copy, Debug)]
pub struct SettingKey {
    /// Its name; `.` stands for one step of indentation.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Unit of its number; empty for none.
    pub unit: &'static str,
    /// What it does.
    pub doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, unit: &'static str, doc: &'static str) -> SettingKey {
    SettingKey { name, kind, unit, doc }
}

const fn whole(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max }
}

pub(super) const FORMATS: Kind = Kind::Choice(&["tsv", "json", "both"]);
pub(super) const PARQUET: Kind = Kind::BoolOr(&["only"]);
const LEVEL: Kind = whole(1, 22);
const ARCHIVE_BYTES: Kind = whole(1 << 20, 1 << 60);
const FREE: Kind = Kind::Free;
const PATTERNS: Kind = Kind::Text {
    expected: "shell patterns of file names with spaces between, such as `conn.* notice.*`",
    is_valid: are_patterns,
};
const COMMAND: Kind = Kind::Text {
    expected: "the absolute path of a program, and arguments with spaces between",
    is_valid: is_command,
};
const PORT: Kind = whole(1, 65535);
const MEMORY: Kind = whole(MEMORY_BYTES_MIN, MEMORY_BYTES_MAX);
const FILTER: Kind = Kind::Filter;
const PATH: Kind = Kind::Text { expected: "the path of a file", is_valid: is_path };
const ADDRESS: Kind = Kind::Text {
    expected: "an address and a port, such as `127.0.0.1:27759` or `[::]:27759`",
    is_valid: is_address,
};
const ANALYZERS: Kind = Kind::Text {
    expected: "names of analyzers with spaces between, such as `REDIS QUIC`",
    is_valid: are_analyzers,
};
const PROGRAMS: Kind = Kind::Text {
    expected: "names of programs as software.log has them, commas between, such as `OpenSSH, Apache`",
    is_valid: are_programs,
};
const ABSOLUTE_PATH: Kind =
    Kind::Text { expected: "the absolute path of a file", is_valid: is_absolute_path };
const USER: Kind = Kind::Text { expected: "the name of a user", is_valid: is_user };
const STREAMS: Kind = Kind::Text {
    expected: "names of log streams with spaces between, such as `stats weird`",
    is_valid: are_analyzers,
};
const LOGGERS: Kind = Kind::Text {
    expected: "names of loggers with spaces between, such as `logger-2`",
    is_valid: are_nodes,
};

/// All keys, in the order of the example file.
pub const SETTING_KEYS: &[SettingKey] = &[
    key(
        "cluster",
        Kind::Text {
            expected: "lower-case letters, digits, `-` and `.`, at most 63",
            is_valid: is_cluster_name,
        },
        "",
        "name of the cluster; in every certificate",
    ),
    key(
        "prefix",
        Kind::Text {
            expected: "an absolute path of letters, digits and `/._-`, at most 80 bytes, no `..`",
            is_valid: is_prefix,
        },
        "",
        "folder of the installation, the same on every host",
    ),
    key(
        "port",
        whole(1024, 65000),
        "",
        "first port; the manager listens on port + 3, then loggers and proxies on one more each",
    ),
    key(
        "log_rotation_interval_s",
        whole(0, 604_800),
        "seconds",
        "logs are rotated at whole multiples of this; 0 never",
    ),
    key(
        "log_format",
        FORMATS,
        "",
        "format of the log files; both: NAME.log is tsv, NAME.json.log beside it is JSON",
    ),
    key(
        "json_timestamps",
        Kind::Choice(&["epoch", "millis", "millis_unsigned", "iso8601"]),
        "",
        "how times print in JSON, as LogAscii::json_timestamps of Zeek",
    ),
    key(
        "compress_logs",
        Kind::BoolOr(&["gzip", "zstd"]),
        "",
        "how archived logs are compressed; true is gzip",
    ),
    key(
        "compress_level",
        Kind::Optional(&LEVEL),
        "",
        "level of that, gzip 1 to 9, zstd 1 to 22; nothing: 6 and 3",
    ),
    key(
        "parquet_logs",
        PARQUET,
        "",
        "write finished logs as Parquet files too; only: instead of text",
    ),
    key(
        "archive_name",
        Kind::ArchiveName,
        "",
        "names of archived logs: codes of strftime for the time of opening, {stream}, {closed:%H%M}",
    ),
    key(
        "log_expire_interval",
        Kind::Keep,
        "",
        "archived logs are removed after this long: `30 day`, `4 hr`; 0 never",
    ),
    key(
        "keep_logs",
        Kind::Optional(&PATTERNS),
        "",
        "archived files that are never removed, shell patterns with spaces between",
    ),
    key(
        "log_archive_bytes_max",
        Kind::Optional(&ARCHIVE_BYTES),
        "bytes",
        "that archived logs of a host may take; past this the oldest go",
    ),
    key(
        "log_free_min",
        Kind::Optional(&FREE),
        "",
        "free space of the archive's file system below which the oldest logs go",
    ),
    key(
        "rotation_command",
        Kind::Optional(&COMMAND),
        "",
        "program run for each archived file: path, stream, opened, closed, logger are its arguments",
    ),
    key(
        "rotation_command_timeout_s",
        whole(1, 86_400),
        "seconds",
        "that the rotation command may take for one file before it is killed",
    ),
    key(
        "rotation_command_tries",
        whole(1, 1000),
        "",
        "how often the rotation command is tried for one file",
    ),
    key("streams", Kind::Streams, "", "what is different for single log streams"),
    key(
        "commit_interval_ms",
        whole(0, 10_000),
        "milliseconds",
        "how long rows wait for others before they are synced to disk together",
    ),
    key(
        "batch_rows_max",
        whole(1, 100_000),
        "rows",
        "rows of a log stream that travel together at most",
    ),
    key(
        "batch_interval_ms",
        whole(1, 10_000),
        "milliseconds",
        "how long a row may wait for its batch to fill",
    ),
    key(
        "spool_bytes_max",
        whole(1 << 20, 1 << 44),
        "bytes",
        "a worker's rows on disk that no logger has taken yet; past this rows are dropped",
    ),
    key(
        "spool_age_max_s",
        whole(0, 31_536_000),
        "seconds",
        "rows that no logger has taken for so long are dropped; 0 never",
    ),
    key(
        "spool_drop_first",
        STREAMS,
        "",
        "log streams that a full spool drops first, in this order: `stats weird`",
    ),
    key(
        "doubt_timeout_s",
        whole(0, 604_800),
        "seconds",
        "batches whose logger has been away for so long are copied to another one, as in doubt; 0 never",
    ),
    key(
        "loggers_gone",
        Kind::Optional(&LOGGERS),
        "",
        "loggers that will not come back; batches in doubt at them go to others: `logger-2`",
    ),
    key(
        "log_lag_max_s",
        whole(0, 86_400),
        "seconds",
        "an alarm when rows come into their files, or wait for that, so long after their packet; 0 never",
    ),
    key(
        "metrics_listen",
        Kind::Optional(&ADDRESS),
        "",
        "where each host's supervisor answers Prometheus; nothing: nowhere",
    ),
    key(
        "memory_bytes_max",
        Kind::Optional(&MEMORY),
        "bytes",
        "memory that each node may use; nothing: no limit",
    ),
    key(
        "nice",
        Kind::Signed { min: -20, max: 19 },
        "",
        "niceness of each node; a higher one yields to others",
    ),
    key("core_dumps", Kind::Bool, "", "let the kernel write a core when a node crashes"),
    key(
        "watchdog_s",
        whole(0, 3600),
        "seconds",
        "a node that reports nothing for so long hangs and is killed; 0 never",
    ),
    key(
        "crash_reports_max",
        whole(1, 1000),
        "reports",
        "crash reports kept of each node; the oldest go first",
    ),
    key(
        "crash_expire_days",
        whole(0, 3650),
        "days",
        "crash reports older than this are removed; 0 never",
    ),
    key("stop_timeout_s", whole(1, 3600), "seconds", "from SIGTERM to SIGKILL"),
    key("command_timeout_s", whole(1, 3600), "seconds", "time that a command on a host may take"),
    key(
        "keep_releases",
        whole(1, 100),
        "releases",
        "releases kept on each host, the current one included",
    ),
    key(
        "private_address_space_is_local",
        Kind::Bool,
        "",
        "private addresses count as local, besides networks.cfg",
    ),
    key(
        "ignore_checksums",
        Kind::Bool,
        "",
        "take packets with a wrong checksum as good, those of capture files too",
    ),
    key("community_id", Kind::Bool, "", "add the column community_id to conn.log"),
    key(
        "flows_max",
        whole(1000, 100_000_000),
        "connections",
        "connections that each worker follows at the same time; one takes some 750 bytes",
    ),
    key("traceroute", Kind::Bool, "", "look for traceroutes: traceroute.log and a notice"),
    key(
        "unknown_protocols",
        Kind::Bool,
        "",
        "write unknown_protocols.log: what no analyzer below TCP and UDP knows",
    ),
    key(
        "software_version_changes",
        Kind::Optional(&PROGRAMS),
        "",
        "programs whose change of version is worth a notice, commas between: `OpenSSH, Apache`",
    ),
    key(
        "disabled_analyzers",
        Kind::Optional(&ANALYZERS),
        "",
        "protocols that are not analysed, by Zeek's names: `REDIS QUIC`",
    ),
    key(
        "hash_files",
        Kind::Bool,
        "",
        "log MD5, SHA-1 and SHA-256 of files; bulk transfers cost half as much without",
    ),
    key("ssl_fingerprints", Kind::Bool, "", "add the columns ja3, ja3s and ja4 to ssl.log"),
    key(
        "validate_certificates",
        Kind::Bool,
        "",
        "add the column validation_status to ssl.log, and notices of servers that are not trusted",
    ),
    key(
        "trusted_certificates",
        Kind::Optional(&ABSOLUTE_PATH),
        "",
        "file of the certificates that are trusted, PEM; nothing: each host's own store",
    ),
    key("ssh_hassh", Kind::Bool, "", "add the columns of hassh to ssh.log"),
    key(
        "log_passwords",
        Kind::Bool,
        "",
        "log passwords that FTP, HTTP, LDAP and SOCKS send in the clear",
    ),
    key(
        "extract_files",
        Kind::Bool,
        "",
        "write the content of files into the folder extract_files of each node's spool",
    ),
    key(
        "extract_bytes_max",
        whole(1, 1_000_000_000_000),
        "bytes",
        "of one file that are written at most",
    ),
    key(
        "extract_total_bytes_max",
        whole(1, 1_000_000_000_000_000),
        "bytes",
        "of all files in a node's folder at most; what comes then is counted, not written",
    ),
    key(
        "filter",
        Kind::Optional(&FILTER),
        "",
        "only packets that it matches are captured; the kernel drops all others",
    ),
    key("snaplen_bytes", whole(128, 262_144), "bytes", "bytes kept of each packet"),
    key(
        "af_packet.buffer_size_bytes",
        whole(1 << 20, 1 << 36),
        "bytes",
        "size of each worker's ring",
    ),
    key(
        "af_packet.block_size_bytes",
        Kind::PowerOfTwo { min: 1 << 14, max: 1 << 24 },
        "bytes",
        "size of one block of the ring",
    ),
    key(
        "af_packet.block_timeout_ms",
        whole(1, 1000),
        "milliseconds",
        "a block that is not full is handed over after this long",
    ),
    key(
        "af_packet.fanout_mode",
        Kind::Choice(&["hash", "cpu", "qm", "cbpf", "ebpf"]),
        "",
        "how the kernel spreads packets over the workers of an interface",
    ),
    key(
        "af_packet.fanout_inner",
        Kind::Bool,
        "",
        "with cbpf and ebpf: packets in a tunnel are spread by their inner flow",
    ),
    key(
        "af_packet.fanout_defrag",
        Kind::Bool,
        "",
        "let the kernel join fragments before it chooses a worker",
    ),
    key(
        "af_packet.promiscuous",
        Kind::Bool,
        "",
        "see all packets of the link, not only those for this host",
    ),
    key(
        "af_packet.checksums",
        Kind::Choice(&["on", "kernel", "off"]),
        "",
        "who verifies: the worker, it unless the kernel vouches for a packet, or nobody",
    ),
    key(
        "af_packet.hw_timestamps",
        Kind::Bool,
        "",
        "take the time stamps of the network card where it has them",
    ),
    key("ssh.user", Kind::Optional(&USER), "", "remote user; nothing: ssh decides"),
    key("ssh.port", Kind::Optional(&PORT), "", "port of sshd; nothing: ssh decides"),
    key("ssh.connect_timeout_s", whole(1, 300), "seconds", "time to wait for a connection"),
    key("ssh.parallel_max", whole(1, 256), "hosts", "hosts talked to at the same time"),
    key(
        "ssh.known_hosts",
        Kind::Optional(&PATH),
        "",
        "file of known host keys; nothing: ssh's own; an unknown host is refused",
    ),
    key("ssh.identity_file", Kind::Optional(&PATH), "", "private key; nothing: ssh decides"),
    key(
        "ssh.config_file",
        Kind::Optional(&PATH),
        "",
        "configuration of ssh; nothing: ssh's own files",
    ),
    key(
        "ssh.mode",
        Kind::Choice(&["native", "process"]),
        "",
        "process: one ssh process per command, for a jump host with agent forwarding",
    ),
    key(
        "sinks",
        Kind::Sinks,
        "",
        "receivers of rows besides the log files: JSON lines by TCP or TLS",
    ),
    key("env_vars", Kind::EnvVars, "", "environment variables of every node; node.cfg wins"),
];

/// The key of that name.
pub fn setting_key(name: &str) -> Option<&'static SettingKey> {
    SETTING_KEYS.iter().find(|key| key.name == name)
}
