//! The keys of tyto.yaml: kind, range, unit and words of each. The checker, the faults, the
//! manual and the example file all go by this table.

use std::path::{Component, Path};

/// Bytes of the prefix at most: `PREFIX/run/supervisor.sock` has to fit into the 108 bytes
/// of a unix socket's address.
const PREFIX_BYTES_MAX: usize = 80;

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

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A number from `min` to `max`.
    Whole {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A number from `min` to `max` that may be negative.
    Signed {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A power of two from `min` to `max`.
    PowerOfTwo {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// One of some words.
    Choice(&'static [&'static str]),
    /// Text of a certain form.
    Text {
        /// What is expected, in words.
        expected: &'static str,
        /// True for text of that form.
        is_valid: fn(&str) -> bool,
    },
    /// An expression of tcpdump.
    Filter,
    /// Names and values.
    EnvVars,
    /// Another kind, or nothing.
    Optional(&'static Kind),
}

impl Kind {
    /// What is expected, in words, to follow "expected".
    pub fn expected(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Signed { min, max } => format!("a whole number from {min} to {max}"),
            Self::PowerOfTwo { min, max } => format!("a power of two from {min} to {max}"),
            Self::Choice(words) => words.join(" or "),
            Self::Text { expected, .. } => (*expected).to_owned(),
            Self::Filter => "a tcpdump expression".to_owned(),
            Self::EnvVars => "lines of `NAME: \"value\"`, indented below it, or {}".to_owned(),
            Self::Optional(kind) => format!("{}, or nothing", kind.expected()),
        }
    }
}

const fn key(name: &'static str, kind: Kind, unit: &'static str, doc: &'static str) -> SettingKey {
    SettingKey { name, kind, unit, doc }
}

const fn whole(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max }
}

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
    key("log_format", Kind::Choice(&["tsv", "json"]), "", "format of the log files"),
    key("compress_logs", Kind::Bool, "", "compress archived logs with gzip"),
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
    key("env_vars", Kind::EnvVars, "", "environment variables of every node; node.cfg wins"),
];

/// The key of that name.
pub fn setting_key(name: &str) -> Option<&'static SettingKey> {
    SETTING_KEYS.iter().find(|key| key.name == name)
}

/// The cluster's name is a trust domain of SPIFFE: lower case, 63 characters here.
fn is_cluster_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() != 0)
}

fn is_prefix(text: &str) -> bool {
    let path = Path::new(text);
    text.len() <= PREFIX_BYTES_MAX
        && path.is_absolute()
        && path.components().count() > 1
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
}

fn are_analyzers(text: &str) -> bool {
    text.split_whitespace().next().is_some()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ' '))
}

fn are_programs(text: &str) -> bool {
    !text.contains(char::is_control) && text.split(',').all(|name| !name.trim().is_empty())
}

fn is_absolute_path(text: &str) -> bool {
    text.starts_with('/') && is_path(text)
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && !text.contains(['\n', '\0'])
}

fn is_user(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-\\@+".contains(&b))
}

fn are_nodes(text: &str) -> bool {
    text.split_whitespace().next().is_some()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
}
