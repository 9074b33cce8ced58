//! `weird.log`: what should not be on a network, by Zeek's names.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

use crate::flow::conn::ConnCore;
use crate::output::Output;

/// Something odd.
#[derive(Debug, LogRecord)]
#[log(stream = "weird")]
pub struct WeirdLog {
    /// When it was seen.
    pub ts: Ts,
    /// The connection, where it was one.
    pub uid: Option<Uid>,
    /// Who with whom.
    #[log(nested)]
    pub id: Option<ConnId>,
    /// What it was.
    pub name: &'static str,
    /// A word more.
    pub addl: Option<String>,
    /// A notice was made of it, too.
    pub notice: bool,
    /// The node that saw it.
    pub peer: Option<String>,
    /// The analyzer that saw it.
    pub source: Option<&'static str>,
}

/// Counts and writes weirds.
#[derive(Debug, Default)]
pub struct Weirds {
    seen: u64,
}

impl Weirds {
    /// `name` was seen on a connection.
    pub fn of_connection(
        &mut self,
        now: Ts,
        conn: &ConnCore,
        name: &'static str,
        addl: &str,
        source: Option<&'static str>,
        out: &mut Output,
    ) {
        self.seen += 1;
        out.row(&WeirdLog {
            ts: now,
            uid: Some(conn.uid),
            id: Some(conn.id()),
            name,
            addl: (!addl.is_empty()).then(|| addl.to_owned()),
            notice: false,
            peer: None,
            source,
        });
    }
}
