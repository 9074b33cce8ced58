//! `mysql.log`: logins and commands, each with what the server said to it.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// A command.
#[derive(Debug, LogRecord)]
#[log(stream = "mysql")]
pub(super) struct MysqlLog {
    /// When it was sent.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// The command: `login`, `query` …
    pub cmd: String,
    /// Its argument.
    pub arg: Vec<u8>,
    /// The server said that it succeeded, or that it failed.
    pub success: Option<bool>,
    /// Rows that it touched.
    pub rows: Option<u64>,
    /// What the server said of a failure.
    pub response: Option<Vec<u8>>,
}

/// Names of commands, by number.
const COMMANDS: [&str; 32] = [
    "sleep",
    "quit",
    "init_db",
    "query",
    "field_list",
    "create_db",
    "drop_db",
    "refresh",
    "shutdown",
    "statistics",
    "process_info",
    "connect",
    "process_kill",
    "debug",
    "ping",
    "time",
    "delayed_insert",
    "change_user",
    "binlog_dump",
    "table_dump",
    "connect_out",
    "register_slave",
    "stmt_prepare",
    "stmt_execute",
    "stmt_send_long_data",
    "stmt_close",
    "stmt_reset",
    "set_option",
    "stmt_fetch",
    "daemon",
    "binlog_dump_gtid",
    "reset_connection",
];

/// The name of command number `command`.
pub(super) fn command_name(command: u8) -> String {
    COMMANDS
        .get(usize::from(command))
        .map_or_else(|| format!("unknown-{command}"), |name| (*name).to_owned())
}
