//! `sinks:` of tyto.yaml: where a logger's rows go besides its files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::condition::Condition;

/// Sinks of one cluster at most; each has a thread in every logger.
pub const SINKS_MAX: usize = 16;

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// Its name in counters, and of its cursor on disk.
    pub name: String,
    /// `tcp://HOST:PORT` or `tls://HOST:PORT`.
    pub to: SinkAddress,
    /// With `tls`: file with the CAs that the receiver's certificate is judged by, on the
    /// loggers' hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Log streams; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<String>,
    /// Only rows for which this holds (docs/conditions.md).
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Only these fields; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// Where a sink's rows go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SinkAddress {
    /// TLS around it.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Text that is not where rows can go.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not tcp://HOST:PORT or tls://HOST:PORT")]
pub struct BadSinkAddress(String);

impl TryFrom<String> for SinkAddress {
    type Error = BadSinkAddress;

    fn try_from(text: String) -> Result<Self, BadSinkAddress> {
        let bad = || BadSinkAddress(text.clone());
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port: u16 = port.parse().map_err(|_| bad())?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if port == 0 || host.is_empty() || !host.chars().all(is_host) {
            return Err(bad());
        }
        let tls = match scheme {
            "tcp" => false,
            "tls" => true,
            _ => return Err(bad()),
        };
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

impl From<SinkAddress> for String {
    fn from(address: SinkAddress) -> Self {
        let scheme = if address.tls { "tls" } else { "tcp" };
        let SinkAddress { host, port, .. } = address;
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    }
}

/// The sinks of a value of the file.
///
/// # Errors
/// What is wrong with them first, and a hint.
pub fn read(value: &serde_yaml::Value) -> Result<Vec<SinkConfig>, (String, String)> {
    let sinks: Vec<SinkConfig> = serde_yaml::from_value(value.clone()).map_err(|error| {
        (error.to_string(), "a sink has name, to, ca, streams, where, fields".to_owned())
    })?;
    match fault(&sinks) {
        Some(fault) => Err(fault),
        None => Ok(sinks),
    }
}

/// What is wrong with a list of sinks, in words, first fault only; and a hint.
fn fault(sinks: &[SinkConfig]) -> Option<(String, String)> {
    if sinks.len() > SINKS_MAX {
        return Some((format!("{} sinks", sinks.len()), format!("at most {SINKS_MAX}")));
    }
    let is_name = |name: &str| {
        (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    for (nth, sink) in sinks.iter().enumerate() {
        let name = &sink.name;
        if !is_name(name) {
            return Some((
                format!("sink `{name}`: that is not a name"),
                "1 to 32 lower-case letters, digits and `_`".to_owned(),
            ));
        }
        if sinks.iter().take(nth).any(|other| other.name == *name) {
            return Some((
                format!("sink `{name}` is there twice"),
                "give it another name".to_owned(),
            ));
        }
        if sink.to.tls != sink.ca.is_some() {
            let hint = if sink.to.tls {
                "`ca: /path/of/ca.pem` says whom to trust"
            } else {
                "`ca` is for tls://HOST:PORT"
            };
            return Some((
                format!("sink `{name}`: `ca` and `to` do not go together"),
                hint.to_owned(),
            ));
        }
        if let Some(Err(error)) = sink.condition.as_deref().map(Condition::parse) {
            let hint = error.suggestion().unwrap_or("docs/conditions.md has the language");
            return Some((format!("sink `{name}`: where: {error}"), hint.to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<String> {
        SinkAddress::try_from(text.to_owned()).ok().map(String::from)
    }

    #[test]
    fn addresses_print_as_they_are_read() {
        for text in ["tcp://siem.example:514", "tls://[2001:db8::1]:6514", "tcp://10.0.0.1:1"] {
            assert_eq!(address(text).as_deref(), Some(text));
        }
        for text in ["siem:514", "udp://siem:514", "tcp://siem", "tcp://:1", "tcp://siem:0"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn faults_of_a_list_are_told() {
        let sink = |text: &str| serde_yaml::from_str::<SinkConfig>(text).unwrap();
        let good = sink("{name: siem, to: 'tcp://a:1', where: 'id.resp_p == 443'}");
        assert_eq!(fault(std::slice::from_ref(&good)), None);
        assert!(fault(&[good.clone(), good]).unwrap().0.contains("twice"));
        assert!(fault(&[sink("{name: A, to: 'tcp://a:1'}")]).unwrap().0.contains("not a name"));
        assert!(fault(&[sink("{name: a, to: 'tls://a:1'}")]).unwrap().1.contains("ca"));
        let bad = sink("{name: a, to: 'tcp://a:1', where: 'x ='}");
        assert!(fault(&[bad]).unwrap().0.contains("column 3"));
    }
}
