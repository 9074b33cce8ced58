//! The table of `ctl status`, column for column as ZeekControl prints it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use tyto_core::config::runtime::Role;

use crate::report::Look;

/// One node in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusRow {
    /// Its name.
    pub name: String,
    /// Its role.
    #[serde(rename = "type")]
    pub role: Role,
    /// The host as node.cfg names it.
    pub host: String,
    /// running, stopped, crashed and so on.
    pub status: String,
    /// Its process; none when there is none.
    pub pid: Option<u32>,
    /// When that started, ns since the Unix epoch.
    pub started_ns: Option<u64>,
    /// What went wrong last; none when nothing did.
    pub why: Option<String>,
    /// What starts its host's supervisor at boot, empty: nothing; none when that was not asked.
    pub boot: Option<String>,
}

/// The lines of the table, local time.
pub(crate) fn render(rows: &[StatusRow], look: Look) -> String {
    // ZeekControl widens the column for `standalone`, at the cost of the host's.
    let is_standalone = rows.first().is_some_and(|row| row.role == Role::Standalone);
    let (role_width, host_width) = if is_standalone { (10, 13) } else { (7, 16) };
    let mut text = format!(
        "{:<12} {:<role_width$} {:<host_width$} {:<9} {:<6} {}\n",
        "Name", "Type", "Host", "Status", "Pid", "Started"
    );
    for row in rows {
        let (name, role, host) = (&row.name, row.role.as_str(), &row.host);
        let head = format!("{name:<12} {role:<role_width$} {host:<host_width$}");
        let line = match row.pid {
            Some(pid) => {
                let status = paint(&row.status, 9, look);
                format!("{head} {status} {pid:<6} {}", started(row.started_ns, &TimeZone::system()))
            }
            None => format!("{head} {}", paint(&row.status, 0, look)),
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `11 Jan 20:29:48`; ZeekControl's TimeFmt.
fn started(ns: Option<u64>, zone: &TimeZone) -> String {
    ns.and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok())
        .map(|at| at.to_zoned(zone.clone()).strftime("%d %b %H:%M:%S").to_string())
        .unwrap_or_default()
}

/// The status in its colour, padded before it is painted.
fn paint(status: &str, width: usize, look: Look) -> String {
    let padded = format!("{status:<width$}");
    let colour = match status {
        _ if !look.has_colour => return padded,
        "running" => 32,
        "initializing" | "terminating" | "backoff" | "waiting" => 33,
        "stopped" => return padded,
        _ => 31,
    };
    format!("\x1b[{colour}m{padded}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { has_colour: false, is_terminal: false };

    fn row(name: &str, role: Role, status: &str, pid: Option<u32>) -> StatusRow {
        let host = "localhost".to_owned();
        let (name, status) = (name.to_owned(), status.to_owned());
        let (started_ns, why, boot) = (None, None, None);
        StatusRow { name, role, host, status, pid, started_ns, why, boot }
    }

    #[test]
    fn columns_are_those_of_zeekcontrol() {
        let rows = [
            row("logger-1", Role::Logger, "running", Some(14088)),
            row("worker-1-6", Role::Worker, "crashed", None),
        ];
        assert_eq!(
            render(&rows, PLAIN),
            "Name         Type    Host             Status    Pid    Started\n\
             logger-1     logger  localhost        running   14088\n\
             worker-1-6   worker  localhost        crashed\n"
        );
    }

    #[test]
    fn a_standalone_node_has_a_wider_type_column() {
        assert_eq!(
            render(&[row("zeek", Role::Standalone, "stopped", None)], PLAIN),
            "Name         Type       Host          Status    Pid    Started\n\
             zeek         standalone localhost     stopped\n"
        );
    }

    #[test]
    fn the_start_is_day_month_and_time() {
        let at = started(Some(1_736_627_388_123_456_789), &TimeZone::UTC);
        assert_eq!(at, "11 Jan 20:29:48");
        assert_eq!(started(None, &TimeZone::UTC), "");
    }

    #[test]
    fn colour_is_put_around_the_padded_word() {
        let look = Look { has_colour: true, is_terminal: true };
        assert_eq!(paint("crashed", 9, look), "\x1b[31mcrashed  \x1b[0m");
        assert_eq!(paint("stopped", 0, look), "stopped");
    }
}
