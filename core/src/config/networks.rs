//! networks.cfg: one local network in CIDR notation per line, with words about it behind it;
//! `#` begins a comment line. The format is ZeekControl's.

use std::net::IpAddr;

use ipnet::IpNet;

use super::error::{At, Fault, FaultKind};

/// One local network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The network, without bits behind its prefix.
    pub net: IpNet,
    /// What the operator says about it; may be empty.
    pub tag: String,
    /// Where it is.
    pub at: At,
}

/// Reads all lines; bits behind a prefix are only warned of, as Zeek cuts them too.
pub fn parse_networks(
    file: &str,
    text: &str,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Fault>,
) -> Vec<Network> {
    let file = At::file(file);
    let mut networks = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (n, line) in text.lines().enumerate() {
        let found = line.trim();
        if found.is_empty() || found.starts_with('#') {
            continue;
        }
        let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let number = u32::try_from(n + 1).unwrap_or(u32::MAX);
        let at = file.place(number, u32::try_from(column).unwrap_or(u32::MAX));
        let (cidr, tag) = found.split_once(char::is_whitespace).unwrap_or((found, ""));
        let Some(net) = parse_cidr(cidr) else {
            let fault = Fault::new(&at, FaultKind::BadNetwork { found: cidr.to_owned() });
            faults.push(match cidr.parse::<IpAddr>() {
                Ok(addr) => fault.hint(IpNet::from(addr).to_string()),
                Err(_) => fault.hint("192.0.2.0/24 or 2001:db8::/32"),
            });
            continue;
        };
        if net != net.trunc() {
            let (found, taken) = (cidr.to_owned(), net.trunc().to_string());
            warnings.push(Fault::new(&at, FaultKind::HostBits { found, taken }));
        }
        networks.push(Network { net: net.trunc(), tag: tag.trim().to_owned(), at });
    }
    networks
}

/// An IPv6 prefix may stand in brackets, as in Zeek's scripts.
fn parse_cidr(text: &str) -> Option<IpNet> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once("]/"));
    match bracketed {
        Some((addr, length)) => format!("{addr}/{length}").parse().ok(),
        None => text.parse().ok(),
    }
}
