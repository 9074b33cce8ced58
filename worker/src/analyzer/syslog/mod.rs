//! Syslog over UDP (RFC 3164, RFC 5424): a row per datagram. It is never a connection's service:
//! any datagram may be a message, so that nothing confirms it.

use std::borrow::Cow;

use tyto_core::net::{ConnId, Proto, Side};
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

use super::bytes::Cursor;
use super::text::Text;
use super::{Analyzer, Cx, Spec};

#[cfg(test)]
mod tests;

/// Syslog as an analyzer.
pub static SPEC: Spec = Spec {
    name: "SYSLOG",
    ports: &[(Proto::Udp, 514)],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(Syslog),
};

/// A message.
#[derive(Debug, LogRecord)]
#[log(stream = "syslog")]
pub struct SyslogLog {
    /// When it was seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Transport of the connection.
    pub proto: Proto,
    /// What wrote it.
    pub facility: Text,
    /// How bad it is.
    pub severity: Text,
    /// What it says.
    pub message: Vec<u8>,
}

#[derive(Debug)]
struct Syslog;

impl Analyzer for Syslog {
    fn deliver(&mut self, _side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let Some((priority, message)) = parse(bytes) else {
            cx.violation("no priority", bytes);
            return;
        };
        let (facility, severity) = priority
            .map_or((Cow::Borrowed("UNSPECIFIED"), Cow::Borrowed("UNSPECIFIED")), |priority| {
                (facility(priority), severity(priority))
            });
        let row = SyslogLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            proto: cx.proto,
            facility: Text(facility),
            severity: Text(severity),
            message: message.to_vec(),
        };
        cx.row(&row);
    }

    fn end(&mut self, _cx: &mut Cx<'_>) {}
}

/// The number between angle brackets (RFC 3164 section 4.1.1), and what follows; without a number
/// the message is all of it. `None` when the number is broken.
fn parse(bytes: &[u8]) -> Option<(Option<u64>, &[u8])> {
    let mut cursor = Cursor::new(bytes);
    if cursor.peek()? != b'<' {
        return Some((None, bytes));
    }
    cursor.skip(1)?;
    let digits = cursor.until(b'>')?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Some((Some(number), cursor.rest()))
}

fn facility(priority: u64) -> Cow<'static, str> {
    let number = (priority & 0x03f8) >> 3;
    Cow::Borrowed(match number {
        0 => "KERN",
        1 => "USER",
        2 => "MAIL",
        3 => "DAEMON",
        4 => "AUTH",
        5 => "SYSLOG",
        6 => "LPR",
        7 => "NEWS",
        8 => "UUCP",
        9 => "CRON",
        10 => "AUTHPRIV",
        11 => "FTP",
        12 => "NTP",
        13 => "AUDIT",
        14 => "ALERT",
        15 => "CLOCK",
        16 => "LOCAL0",
        17 => "LOCAL1",
        18 => "LOCAL2",
        19 => "LOCAL3",
        20 => "LOCAL4",
        21 => "LOCAL5",
        22 => "LOCAL6",
        23 => "LOCAL7",
        _ => return Cow::Owned(format!("?-{number}")),
    })
}

const fn severity(priority: u64) -> Cow<'static, str> {
    Cow::Borrowed(match priority & 0x07 {
        0 => "EMERG",
        1 => "ALERT",
        2 => "CRIT",
        3 => "ERR",
        4 => "WARNING",
        5 => "NOTICE",
        6 => "INFO",
        _ => "DEBUG",
    })
}
