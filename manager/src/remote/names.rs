//! The addresses of a cluster's hosts. Daemons get addresses only, so ctl resolves every name,
//! and what one machine calls itself (127.0.1.1) must not be told to the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use tyto_core::config::cluster::Cluster;
use tyto_core::config::error::At;
use tyto_core::config::name::HostName;
use tyto_core::config::nearest::nearest;

/// Where this machine keeps names of its own.
const HOSTS_FILE: &str = "/etc/hosts";

/// The addresses, and what is wrong with names.
#[derive(Debug, Default)]
pub struct Names {
    /// Of each host that has one, the address that the others use.
    pub addrs: BTreeMap<HostName, IpAddr>,
    /// All that is wrong, in node.cfg order.
    pub faults: Vec<NameFault>,
}

/// What is wrong with a host's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum NameFault {
    #[error("{at}: host `{host}` has no address: {said}")]
    Unresolved { at: At, host: HostName, said: String, near: Option<String>, is_needed: bool },
    #[error("{at}: host `{host}` is {addr} here, which other hosts take for themselves")]
    Loopback { at: At, host: HostName, addr: IpAddr, own: Option<IpAddr> },
    #[error("{at}: host `{host}` has {} addresses; the others will use {addr}", all.len())]
    Several { at: At, host: HostName, addr: IpAddr, all: Vec<IpAddr> },
}

impl NameFault {
    /// What can be typed.
    pub fn hint(&self) -> String {
        match self {
            Self::Unresolved { near: Some(near), .. } => format!("did you mean `host={near}`?"),
            Self::Unresolved { host, .. } => {
                format!("write its address after `host=`, or make `{host}` resolve here")
            }
            Self::Loopback { own: Some(own), .. } => format!("host={own}"),
            Self::Loopback { .. } => "write the address that the others reach it by".to_owned(),
            Self::Several { all, .. } => {
                let all: Vec<String> = all.iter().map(|addr| format!("`host={addr}`")).collect();
                format!("to be sure, write the one that all hosts reach: {}", all.join(" or "))
            }
        }
    }

    /// It harms nothing by itself: ssh may know the name, or the address may be the right one.
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::Unresolved { is_needed, .. } => !*is_needed,
            Self::Loopback { .. } => false,
            Self::Several { .. } => true,
        }
    }
}

/// Resolves the hosts of `cluster`.
pub fn resolve_all(cluster: &Cluster) -> Names {
    resolve_with(cluster, addresses_of)
}

fn resolve_with(
    cluster: &Cluster,
    addresses_of: impl Fn(&str) -> Result<Vec<IpAddr>, String>,
) -> Names {
    let mut names = Names::default();
    let hosts = cluster.hosts();
    let listens = cluster.ports();
    let mut loopback = Vec::new();
    for &host in &hosts {
        let mut nodes = cluster.nodes.iter().filter(|node| node.host == *host);
        let Some(first) = nodes.clone().next() else { continue };
        let at = first.given.get("host").map_or(&first.at, |given| &given.at).clone();
        let host = host.clone();
        match addresses_of(&host) {
            Err(said) => {
                let is_needed = nodes.any(|node| listens.contains_key(&node.name));
                // Which other name it may be meant to be is known when all have been tried.
                let fault = NameFault::Unresolved { at, host, said, near: None, is_needed };
                names.faults.push(fault);
            }
            Ok(all) => {
                let Some(addr) = choose(&all) else { continue };
                let is_a_name = host.parse::<IpAddr>().is_err() && !host.is_localhost();
                if addr.is_loopback() && is_a_name && hosts.len() > 1 {
                    loopback.push((at, host, addr));
                    continue;
                }
                let of_its_kind = all.iter().filter(|other| other.is_ipv4() == addr.is_ipv4());
                let of_its_kind: Vec<IpAddr> =
                    of_its_kind.filter(|other| !other.is_loopback()).copied().collect();
                if of_its_kind.len() > 1 && hosts.len() > 1 {
                    let (host, all) = (host.clone(), of_its_kind);
                    names.faults.push(NameFault::Several { at, host, addr, all });
                }
                names.addrs.insert(host, addr);
            }
        }
    }
    let own = names.addrs.values().find_map(|addr| own_address_towards(*addr));
    for (at, host, addr) in loopback {
        names.faults.push(NameFault::Loopback { at, host, addr, own });
    }
    for fault in &mut names.faults {
        if let NameFault::Unresolved { host, near, .. } = fault {
            *near = nearest_host(host, names.addrs.keys());
        }
    }
    names.faults.sort_by_key(|fault| match fault {
        NameFault::Unresolved { at, .. }
        | NameFault::Loopback { at, .. }
        | NameFault::Several { at, .. } => at.line,
    });
    names
}

/// All addresses of a host, each once.
pub(super) fn addresses_of(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(addr) = host.parse() {
        return Ok(vec![addr]);
    }
    let mut all: Vec<IpAddr> = Vec::new();
    for addr in (host, 0).to_socket_addrs().map_err(|error| said(&error))? {
        if !all.contains(&addr.ip()) {
            all.push(addr.ip());
        }
    }
    if all.is_empty() { Err("the name is known but has none".to_owned()) } else { Ok(all) }
}

/// The resolver's words without those of the standard library.
fn said(error: &std::io::Error) -> String {
    let text = error.to_string();
    let said = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    said.to_owned()
}

/// The address to use: one that others can use too, the first IPv4 one of those (as ZeekControl
/// chooses).
pub(super) fn choose(all: &[IpAddr]) -> Option<IpAddr> {
    let for_others = all.iter().filter(|addr| !addr.is_loopback());
    let v4 = for_others.clone().find(|addr| addr.is_ipv4());
    v4.or_else(|| for_others.clone().next()).or_else(|| all.first()).copied()
}

/// Our own address on the way to another; nothing is sent.
fn own_address_towards(addr: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = if addr.is_ipv4() {
        SocketAddr::from(([0, 0, 0, 0], 0))
    } else {
        SocketAddr::from(([0_u16; 8], 0))
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(SocketAddr::new(addr, 9)).ok()?;
    socket.local_addr().ok().map(|own| own.ip()).filter(|own| !own.is_loopback())
}

/// The name most like it among those of node.cfg that have an address and of this machine's
/// hosts file.
fn nearest_host<'a>(
    host: &HostName,
    resolved: impl Iterator<Item = &'a HostName>,
) -> Option<String> {
    let file = std::fs::read_to_string(HOSTS_FILE).unwrap_or_default();
    let lines = file.lines().map(|line| line.split('#').next().unwrap_or_default());
    let of_file = lines.flat_map(|line| line.split_whitespace().skip(1));
    nearest(host, of_file.chain(resolved.map(|other| other.as_str()))).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use tyto_core::config::cluster::{ConfigFile, ConfigFiles};

    use super::*;

    const NODE_CFG: &str = "[manager]\ntype=manager\nhost=head\n[logger]\ntype=logger\n\
                            host=head\n[proxy]\ntype=proxy\nhost=sensor1\n[worker]\n\
                            type=worker\nhost=senzor1\ninterface=eth0\n";

    fn names(known: &[(&str, &[&str])]) -> Names {
        let nodes = ConfigFile { name: "node.cfg", text: NODE_CFG };
        let cluster = Cluster::load(ConfigFiles { nodes, networks: None, settings: None }).unwrap();
        resolve_with(&cluster, |host| {
            let found = known.iter().find(|(name, _)| *name == host).ok_or("no such name")?;
            Ok(found.1.iter().map(|addr| addr.parse().unwrap()).collect())
        })
    }

    #[test]
    fn all_names_without_an_address_are_told_with_line_and_nearest_name() {
        let names = names(&[("sensor1", &["10.0.0.2"])]);
        let told: Vec<String> = names.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "node.cfg:3: host `head` has no address: no such name",
                "node.cfg:12: host `senzor1` has no address: no such name"
            ]
        );
        assert_eq!(names.faults[1].hint(), "did you mean `host=sensor1`?");
        // The others need the address of a host that listens only.
        assert_eq!(
            names.faults.iter().map(NameFault::is_warning).collect::<Vec<_>>(),
            [false, true]
        );
    }

    #[test]
    fn an_address_of_its_own_loopback_is_no_address_for_the_others() {
        let known: [(&str, &[&str]); 3] = [
            ("head", &["127.0.1.1"]),
            ("sensor1", &["10.0.0.2"]),
            ("senzor1", &["127.0.1.1", "10.0.0.3"]),
        ];
        let names = names(&known);
        let told: Vec<String> = names.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["node.cfg:3: host `head` is 127.0.1.1 here, which other hosts take for themselves"]
        );
        assert_eq!(names.addrs[&HostName::from("senzor1")].to_string(), "10.0.0.3");
    }

    #[test]
    fn several_addresses_are_a_warning_that_lists_them() {
        let known: [(&str, &[&str]); 3] = [
            ("head", &["10.0.0.1", "192.168.7.1", "fd00::1"]),
            ("sensor1", &["10.0.0.2", "fd00::2"]),
            ("senzor1", &["10.0.0.3"]),
        ];
        let names = names(&known);
        assert_eq!(names.faults.len(), 1);
        assert!(names.faults[0].is_warning());
        let text = names.faults[0].to_string();
        assert_eq!(text, "node.cfg:3: host `head` has 2 addresses; the others will use 10.0.0.1");
    }
}
