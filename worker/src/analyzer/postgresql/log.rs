//! `postgresql.log`: login, queries and errors, each with what the server said to it.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// An exchange.
#[derive(Debug, LogRecord)]
#[log(stream = "postgresql")]
pub(super) struct PostgresqlLog {
    /// When it began.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// User of the session.
    pub user: Option<Vec<u8>>,
    /// Database of the session.
    pub database: Option<Vec<u8>>,
    /// The client's program.
    pub application_name: Option<Vec<u8>>,
    /// What the client sent.
    pub frontend: Option<&'static str>,
    /// Its argument: of queries the text.
    pub frontend_arg: Option<Vec<u8>>,
    /// What the server answered.
    pub backend: Option<String>,
    /// What it said of it.
    pub backend_arg: Option<Vec<u8>>,
    /// It succeeded.
    pub success: Option<bool>,
    /// Rows that came back.
    pub rows: Option<u64>,
}

/// Name of a field of an error.
pub(super) fn error_field(code: u8) -> String {
    let name = match code {
        b'S' => "SeverityLocalized",
        b'V' => "Severity",
        b'C' => "Code",
        b'M' => "Message",
        b'D' => "Detail",
        b'H' => "Hint",
        b'P' => "Position",
        b'p' => "InternalPosition",
        b'q' => "InternalQuery",
        b'W' => "Where",
        b's' => "Schema",
        b't' => "Table",
        b'c' => "Column",
        b'd' => "Data",
        b'n' => "Constraint",
        b'F' => "File",
        b'L' => "Line",
        b'R' => "Routine",
        _ => return format!("UnknownErrorId{}", char::from(code)),
    };
    name.to_owned()
}

/// Name of a way to log in.
pub(super) fn authentication(id: u32) -> String {
    let name = match id {
        2 => "KerberosV5",
        3 => "CleartextPassword",
        5 => "MD5Password",
        7 => "GSSAPI",
        8 => "GSSAPIContinue",
        9 => "SSPI",
        10 => "SASL",
        11 => "SASLContinue",
        12 => "SASLFinal",
        _ => return format!("UnknownAuthId{id}"),
    };
    name.to_owned()
}
