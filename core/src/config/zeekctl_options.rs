//! What became of ZeekControl: each option of zeekctl.cfg, with its place in tyto.yaml, or the
//! reason why it has none. `ctl import`, the hints about unknown keys and docs/from-zeekctl.md
//! all go by this table. ZeekControl's own list: ZeekControl/options.py and its plugins.

/// One option of zeekctl.cfg.
#[derive(Clone, Copy, Debug)]
pub struct ZeekctlOption {
    /// Its name as ZeekControl's manual writes it; letter case does not matter.
    pub name: &'static str,
    /// What it is here.
    pub fate: Fate,
}

/// What an option is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A key of tyto.yaml.
    Setting {
        /// The key.
        key: &'static str,
        /// How the value is taken over.
        conversion: Conversion,
        /// What differs; empty for nothing.
        note: &'static str,
    },
    /// Nothing to set: Tyto does it by itself, or needs no such thing.
    ByItself(&'static str),
    /// Tyto does not have it, and why or what to do instead.
    NotThere(&'static str),
}

/// How the value of an option becomes that of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// The same number.
    Whole,
    /// `1`, `0`, `true`, `false`.
    Bool,
    /// The same text.
    Text,
    /// As Bool; a method that is taken already stays.
    Compress,
    /// The program that compresses.
    CompressCmd,
    /// Megabytes to bytes.
    Megabytes,
    /// Kilobytes to bytes; `unlimited` is nothing.
    MemoryKb,
    /// `A=1,B=2`.
    EnvVars,
    /// The command line of Zeek: what of it there is a key for.
    ZeekArgs,
}

/// A heading of the documentation, and the options below it.
pub type Group = (&'static str, &'static [ZeekctlOption]);

const fn setting(
    name: &'static str,
    key: &'static str,
    conversion: Conversion,
    note: &'static str,
) -> ZeekctlOption {
    ZeekctlOption { name, fate: Fate::Setting { key, conversion, note } }
}

const fn by_itself(name: &'static str, how: &'static str) -> ZeekctlOption {
    ZeekctlOption { name, fate: Fate::ByItself(how) }
}

const fn not_there(name: &'static str, why: &'static str) -> ZeekctlOption {
    ZeekctlOption { name, fate: Fate::NotThere(why) }
}

const GRPC: &str = "ctl speaks with supervisors and nodes by gRPC, over ssh";
const NO_TOPICS: &str = "nodes are asked directly, without topics";
const ENCRYPTED: &str = "all traffic between nodes is encrypted; keys are made at the first deploy";
const METRICS: &str =
    "`metrics_listen` of tyto.yaml: the supervisor of each host tells the metrics of all its nodes";
const NO_PF_RING: &str =
    "packets come from AF_PACKET sockets; `lb_procs` and the fanout group replace it";
const NO_TIME_MACHINE: &str = "there is no Time Machine to talk to";
const NO_SCRIPTS: &str = "Tyto runs no Zeek scripts";
const NO_PLUGINS: &str = "neither Zeek nor ZeekControl plugins are loaded";
const NO_MAIL: &str =
    "nothing is mailed; `ctl status` ends with exit code 1 when a node is not running";
const PREFIX: &str = "`prefix` of tyto.yaml, a folder of its own beside Zeek's";
const SPOOL_TMP: &str =
    "`spool/tmp` below `prefix` of tyto.yaml; a symbolic link there leads elsewhere";
const PROXIES: &str = "what nodes share is in the proxies, with a snapshot in their spool folders";
const ETC: &str = "`--etc DIR` or TYTO_ETC; the files are node.cfg, networks.cfg and tyto.yaml";
const STATE: &str = "the supervisor of each host keeps its state below `prefix`";
const NO_SHELL: &str = "there are no shell scripts to configure";
const IN_THE_RELEASE: &str = "the programs, and what they need, are in the release below `prefix`";
const AUTOMATIC: &str = "nobody sets it; `ctl config` shows what there is of it";

/// All options, in the order of the documentation.
pub const ZEEKCTL_OPTIONS: &[Group] = &[
    (
        "Ports and communication",
        &[
            setting("ZeekPort", "port", Conversion::Whole, ""),
            setting("BroPort", "port", Conversion::Whole, "older name of ZeekPort"),
            by_itself("ClusterBackend", "nodes speak gRPC with mTLS, an identity for each"),
            by_itself("UseWebSocket", GRPC),
            by_itself("WebSocketHost", GRPC),
            by_itself("WebSocketPort", GRPC),
            by_itself("WebSocketUrl", GRPC),
            by_itself("WebSocketTimeout", GRPC),
            by_itself(
                "CommTimeout",
                "each call to a node has a deadline of its own within command_timeout_s",
            ),
            by_itself("ControlTopic", NO_TOPICS),
            by_itself("ClusterTopicSeparator", NO_TOPICS),
            by_itself("cluster_backend_zeromq.use_curve_encryption", ENCRYPTED),
            by_itself("cluster_backend_zeromq.curve_dir", ENCRYPTED),
            by_itself("cluster_backend_zeromq.disable_unencrypted_warning", ENCRYPTED),
            by_itself("MetricsPort", METRICS),
            by_itself("MetricsAddress", METRICS),
        ],
    ),
    (
        "Logs",
        &[
            setting("LogRotationInterval", "log_rotation_interval_s", Conversion::Whole, ""),
            setting(
                "CompressLogs",
                "compress_logs",
                Conversion::Compress,
                "gzip or zstd, in the logger itself; the level is compress_level",
            ),
            setting(
                "CompressCmd",
                "compress_logs",
                Conversion::CompressCmd,
                "gzip and zstd, in the logger itself; there is no other method",
            ),
            by_itself("CompressExtension", "it is that of compress_logs: `gz` or `zst`"),
            not_there(
                "CompressLogsInFlight",
                "logs are compressed when they are archived (compress_logs, compress_level)",
            ),
            not_there(
                "MakeArchiveName",
                "archives have ZeekControl's names; other names are a pattern, `archive_name`, no script",
            ),
            setting(
                "LogExpireInterval",
                "log_expire_interval",
                Conversion::Text,
                "without cron; also by size (log_archive_bytes_max) and free space (log_free_min)",
            ),
            setting("KeepLogs", "keep_logs", Conversion::Text, ""),
            not_there(
                "StatsLogEnable",
                "there is no stats.log; nodes report their counters to the manager",
            ),
            not_there("StatsLogExpireInterval", "there is no stats.log"),
            not_there(
                "TimeFmt",
                "times are shown in ZeekControl's default format; `--json` has them exactly",
            ),
        ],
    ),
    (
        "Nodes and hosts",
        &[
            setting("StopTimeout", "stop_timeout_s", Conversion::Whole, ""),
            setting("CommandTimeout", "command_timeout_s", Conversion::Whole, ""),
            setting(
                "MemLimit",
                "memory_bytes_max",
                Conversion::MemoryKb,
                "kilobytes there, bytes here; `unlimited` is nothing",
            ),
            setting("Env_Vars", "env_vars", Conversion::EnvVars, ""),
            setting(
                "CrashExpireInterval",
                "crash_expire_days",
                Conversion::Whole,
                "days; 0 keeps reports for ever, up to crash_reports_max of each node",
            ),
            by_itself(
                "StopWait",
                "a node has closed its logs when stop says so; there is no post-terminate script",
            ),
            by_itself(
                "HaveNFS",
                "each host has its own copy of the release; only what it lacks is copied",
            ),
            not_there("StatusCmdShowAll", "`ctl status` shows no peers"),
            not_there(
                "CronCmd",
                "supervisors restart nodes at once, without cron; give the command to cron itself",
            ),
            not_there(
                "MinDiskSpace",
                "no warning before the disk is full; workers keep what a logger cannot write",
            ),
            not_there(
                "Debug",
                "not a setting: `env_vars=TYTO_TRACE=debug` in node.cfg makes a node say more",
            ),
            not_there("SaveTraces", "packets are not kept"),
            by_itself(
                "FileExtractDir",
                "with `extract_files` they are in extract_files of each node's spool",
            ),
        ],
    ),
    (
        "Capture and analysis",
        &[
            setting("PcapSnaplen", "snaplen_bytes", Conversion::Whole, ""),
            setting(
                "PcapBufsize",
                "af_packet.buffer_size_bytes",
                Conversion::Megabytes,
                "megabytes there, bytes here",
            ),
            setting(
                "PrivateAddressSpaceIsLocal",
                "private_address_space_is_local",
                Conversion::Bool,
                "",
            ),
            setting(
                "ZeekArgs",
                "filter",
                Conversion::ZeekArgs,
                "`-f EXPRESSION` is `filter`, `-C` is `ignore_checksums`; nothing else has a place",
            ),
            setting("BroArgs", "filter", Conversion::ZeekArgs, "older name of ZeekArgs"),
            not_there("PFRINGClusterID", NO_PF_RING),
            not_there("PFRINGClusterType", NO_PF_RING),
            not_there("PFRINGFirstAppInstance", NO_PF_RING),
            not_there("lb_custom.InterfacePrefix", NO_PF_RING),
            not_there("lb_custom.InterfaceSuffix", NO_PF_RING),
            not_there("TimeMachineHost", NO_TIME_MACHINE),
            not_there("TimeMachinePort", NO_TIME_MACHINE),
        ],
    ),
    (
        "Scripts and plugins",
        &[
            not_there("SitePolicyScripts", NO_SCRIPTS),
            not_there("SitePolicyPath", NO_SCRIPTS),
            not_there("Prefixes", NO_SCRIPTS),
            not_there("PolicyDir", NO_SCRIPTS),
            not_there("PolicyDirSiteInstall", NO_SCRIPTS),
            not_there("PolicyDirSiteInstallAuto", NO_SCRIPTS),
            not_there("SitePluginPath", NO_PLUGINS),
            not_there("PluginDir", NO_PLUGINS),
            not_there("PluginZeekDir", NO_PLUGINS),
            not_there("PluginBroDir", NO_PLUGINS),
        ],
    ),
    (
        "Mail",
        &[
            not_there("MailTo", NO_MAIL),
            not_there("MailFrom", NO_MAIL),
            not_there("MailReplyTo", NO_MAIL),
            not_there("MailSubjectPrefix", NO_MAIL),
            not_there("MailAlarmsTo", NO_MAIL),
            not_there("MailAlarmsInterval", NO_MAIL),
            not_there("MailConnectionSummary", NO_MAIL),
            not_there("MailHostUpDown", NO_MAIL),
            not_there(
                "MailArchiveLogFail",
                "nothing is mailed; a logger reports `archive_faults`, and its log says why",
            ),
            not_there("MailReceivingPackets", NO_MAIL),
            not_there("SendMail", NO_MAIL),
            not_there("TraceSummary", "there are no connection summaries"),
        ],
    ),
    (
        "Places",
        &[
            by_itself("ZeekBase", PREFIX),
            by_itself("BroBase", PREFIX),
            by_itself(
                "LogDir",
                "`logs` below `prefix` of tyto.yaml; a symbolic link there leads elsewhere",
            ),
            by_itself(
                "SpoolDir",
                "`spool` below `prefix` of tyto.yaml; a symbolic link there leads elsewhere",
            ),
            by_itself("TmpDir", SPOOL_TMP),
            by_itself("TmpExecDir", SPOOL_TMP),
            not_there("StatsDir", "there are no files of statistics"),
            by_itself("BrokerDBDir", PROXIES),
            by_itself("DefaultStoreDir", PROXIES),
            by_itself("CfgDir", ETC),
            by_itself("NodeCfg", ETC),
            by_itself("LocalNetsCfg", ETC),
            by_itself("StateFile", STATE),
            by_itself("LockFile", STATE),
            by_itself("DebugLog", STATE),
            by_itself("StatsLog", STATE),
            by_itself("ZeekCtlConfigDir", NO_SHELL),
            by_itself("BroCtlConfigDir", NO_SHELL),
            by_itself("BinDir", IN_THE_RELEASE),
            by_itself("Zeek", IN_THE_RELEASE),
            by_itself("Bro", IN_THE_RELEASE),
            by_itself("LibDir", IN_THE_RELEASE),
            by_itself("LibDir64", IN_THE_RELEASE),
            by_itself("LibDirInternal", IN_THE_RELEASE),
            by_itself("StaticDir", IN_THE_RELEASE),
            by_itself("ScriptsDir", IN_THE_RELEASE),
            by_itself("PostProcDir", IN_THE_RELEASE),
            by_itself("HelperDir", IN_THE_RELEASE),
            by_itself("CapstatsPath", IN_THE_RELEASE),
        ],
    ),
    (
        "Set by ZeekControl itself",
        &[
            by_itself("Version", AUTOMATIC),
            by_itself("StandAlone", AUTOMATIC),
            by_itself("OS", AUTOMATIC),
            by_itself("Time", AUTOMATIC),
            by_itself("LogExpireMinutes", AUTOMATIC),
        ],
    ),
];

/// The option of that name, in any letter case.
pub fn zeekctl_option(name: &str) -> Option<&'static ZeekctlOption> {
    let mut options = ZEEKCTL_OPTIONS.iter().flat_map(|(_, options)| options.iter());
    options.find(|option| option.name.eq_ignore_ascii_case(name))
}
