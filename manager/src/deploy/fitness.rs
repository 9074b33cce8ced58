//! Whether a host is able to run its release: each lack is a [`HostFault`] with its own message
//! and what to do about it. Pure: what the host is comes from the [`super::survey`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use tyto_core::config::error::At;
use tyto_core::config::name::HostName;
use tyto_core::config::nearest::nearest;
use tyto_core::config::node::Node;

use super::facts::Listener;
use super::survey::Survey;
use crate::identity::ca::CLOCK_SLACK;

/// Room that must be left on a host beside the release, bytes: spools and logs begin at once.
pub const SPARE_BYTES_MIN: u64 = 64 << 20;
/// A clock that is off by this much is told of, ns. Logs of several hosts no longer fit
/// together then.
const CLOCK_OFF_NS_MIN: i128 = 1_000_000_000;
/// A clock that is behind by more than this makes a new certificate one of the future: the CA
/// dates them back by so much.
const CLOCK_BEHIND_NS_MAX: i128 = CLOCK_SLACK.as_nanos() as i128;
/// A clock that is ahead by more than this finds certificates expired before deploy renews them,
/// which it does past half of their thirty days.
const CLOCK_AHEAD_NS_MAX: i128 = 15 * 24 * 3600 * 1_000_000_000;
/// Oldest kernel that the supervisor works on: it watches processes by pidfd (waitid with
/// P_PIDFD is of 5.4).
const KERNEL_MIN: (u32, u32) = (5, 4);
/// Bit of CAP_NET_RAW (capabilities(7)): without it there are no packet sockets.
const CAP_NET_RAW: u64 = 1 << 13;
/// Interfaces that a message lists; the rest is counted.
const INTERFACES_SHOWN_MAX: usize = 8;

/// What keeps a host from running its release, or may surprise the operator there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum HostFault {
    #[error("it is {found}; the programs beside ctl are for {expected}")]
    Machine { found: String, expected: String },
    #[error("its kernel is {found}; expected {}.{} or later", KERNEL_MIN.0, KERNEL_MIN.1)]
    Kernel { found: String },
    #[error("its kernel has no packet sockets (no /proc/net/packet), so nothing can be captured")]
    NoPacketSockets,
    #[error("its shell has no {}", tools.join(", "))]
    Tools { tools: Vec<String> },
    #[error("`{folder}` is on `{point}`, which is mounted read-only")]
    ReadOnly { folder: String, point: String },
    #[error("the prefix is on `{point}`, which is mounted noexec: no program runs from there")]
    NoExec { point: String },
    #[error("`{folder}` is not writable for the login of ssh{}", login(login_name))]
    Unwritable { folder: String, login_name: String },
    #[error("{free_mib} MiB are free below the prefix; {needed_mib} MiB are needed")]
    NoRoom { free_mib: u64, needed_mib: u64 },
    #[error("{at}: there is no interface `{name}`; it has {there}")]
    NoInterface { at: At, name: String, there: String, near: Option<String> },
    #[error("{at}: interface `{name}` is down: nothing is seen on it until it is up")]
    InterfaceDown { at: At, name: String },
    #[error("login `{login_name}` may not capture (no CAP_NET_RAW)")]
    NoCapture { login_name: String },
    #[error("port {port} of node `{node}` is taken by {by}")]
    PortTaken { node: String, port: u16, by: String },
    #[error("its clock is {off} {} ours: it shows {shows}, here it is {here}", way(*is_ahead))]
    Clock { off: String, is_ahead: bool, shows: String, here: String, breaks_tls: bool },
    #[error("`{prefix}` holds the installation of cluster `{found}`; this one is `{ours}`")]
    OtherCluster { prefix: String, found: String, ours: String },
    #[error("`{prefix}` holds what is not of Tyto: {}", names.join(", "))]
    ForeignFiles { prefix: String, names: Vec<String> },
}

fn login(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" (`{name}`)") }
}

const fn way(is_ahead: bool) -> &'static str {
    if is_ahead { "ahead of" } else { "behind" }
}

impl HostFault {
    /// What can be typed.
    pub fn hint(&self) -> String {
        match self {
            Self::Machine { found, .. } => format!("build Tyto for {found} and deploy from there"),
            Self::Kernel { .. } => "install a newer kernel and boot it".to_owned(),
            Self::NoPacketSockets => {
                "`modprobe af_packet`, or a kernel with CONFIG_PACKET".to_owned()
            }
            Self::Tools { .. } => "install coreutils, findutils and sed, or busybox".to_owned(),
            Self::ReadOnly { point, .. } => {
                format!("`mount -o remount,rw {point}`, or choose another `prefix` in tyto.yaml")
            }
            Self::NoExec { point } => {
                format!("`mount -o remount,exec {point}`, or choose another `prefix` in tyto.yaml")
            }
            Self::Unwritable { folder, .. } => format!(
                "chown it to that login, or choose another `prefix` in tyto.yaml ({folder})"
            ),
            Self::NoRoom { .. } => "make room, or lower `keep_releases` in tyto.yaml".to_owned(),
            Self::NoInterface { near: Some(near), .. } => {
                format!("did you mean `interface={near}`?")
            }
            Self::NoInterface { .. } => "write one of them after `interface=`".to_owned(),
            Self::InterfaceDown { name, .. } => format!("ip link set {name} up"),
            Self::NoCapture { login_name } => format!(
                "log in as root (`ssh.user: root` in tyto.yaml), or run the supervisor as a \
                 service with AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN and User={login_name}, \
                 or `setcap cap_net_raw,cap_net_admin=eip` on its programs after each install"
            ),
            Self::PortTaken { .. } => {
                "end that program, or choose another `port` in tyto.yaml".to_owned()
            }
            Self::Clock { .. } => {
                "`timedatectl set-ntp true` or `chronyc makestep` on the one that is wrong"
                    .to_owned()
            }
            Self::OtherCluster { found, .. } => format!(
                "choose another `prefix` in tyto.yaml; or, if `{found}` is this cluster under its \
                 old name: `cluster: {found}`; or stop that one and remove its folder"
            ),
            Self::ForeignFiles { .. } => {
                "choose a `prefix` of its own in tyto.yaml: deploy removes and replaces below it"
                    .to_owned()
            }
        }
    }

    /// It harms, but does not keep the release from running.
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::Clock { breaks_tls, .. } => !*breaks_tls,
            // A service or the files' own capabilities may give what the login does not have.
            Self::NoCapture { .. } | Self::InterfaceDown { .. } => true,
            _ => false,
        }
    }
}

/// What a host is to be able to.
#[derive(Debug)]
pub struct Expected<'a> {
    /// Name of the cluster.
    pub cluster: &'a str,
    /// Prefix of the installation.
    pub prefix: &'a Path,
    /// Architecture of the programs, as `uname -m` would tell it.
    pub machine: &'a str,
    /// Bytes that have to be copied.
    pub missing_bytes: u64,
    /// Nodes that shall run there.
    pub nodes: Vec<&'a Node>,
    /// Those of them that listen, with their ports.
    pub ports: Vec<(&'a Node, u16)>,
    /// Its address, where it has one.
    pub addr: Option<IpAddr>,
}

/// All faults of a host.
pub fn faults(survey: &Survey, expected: &Expected<'_>) -> Vec<HostFault> {
    let mut faults = Vec::new();
    platform(survey, expected, &mut faults);
    folder(survey, expected, &mut faults);
    capture(survey, expected, &mut faults);
    ports(survey, expected, &mut faults);
    clock(survey, &mut faults);
    faults
}

fn platform(survey: &Survey, expected: &Expected<'_>, faults: &mut Vec<HostFault>) {
    let (found, expected) = (&survey.machine, expected.machine);
    if !is_same_machine_kind(found, expected) {
        let (found, expected) = (found.clone(), expected.to_owned());
        faults.push(HostFault::Machine { found, expected });
    }
    let kernel = &survey.facts.kernel;
    if version(kernel).is_some_and(|found| found < KERNEL_MIN) {
        faults.push(HostFault::Kernel { found: kernel.clone() });
    }
    if !survey.missing_tools.is_empty() {
        faults.push(HostFault::Tools { tools: survey.missing_tools.clone() });
    }
}

/// 64-bit ARM has two names.
fn is_same_machine_kind(found: &str, expected: &str) -> bool {
    let plain = |name: &str| if name == "arm64" { "aarch64".to_owned() } else { name.to_owned() };
    plain(found) == plain(expected)
}

/// `6.1.0-44-amd64`: (6, 1).
fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut parts = kernel.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn folder(survey: &Survey, expected: &Expected<'_>, faults: &mut Vec<HostFault>) {
    let prefix = expected.prefix.display().to_string();
    if let Some(found) = survey.facts.cluster.clone().filter(|found| found != expected.cluster) {
        let (prefix, ours) = (prefix.clone(), expected.cluster.to_owned());
        faults.push(HostFault::OtherCluster { prefix, found, ours });
    }
    if !survey.facts.foreign.is_empty() {
        faults.push(HostFault::ForeignFiles { prefix, names: survey.facts.foreign.clone() });
    }
    let mount = survey.facts.mount.as_ref();
    if let Some(folder) = survey.unwritable.clone() {
        faults.push(match mount.filter(|mount| mount.has("ro")) {
            Some(mount) => HostFault::ReadOnly { folder, point: mount.point.clone() },
            None => HostFault::Unwritable { folder, login_name: survey.facts.login.clone() },
        });
    }
    if let Some(mount) = mount.filter(|mount| mount.has("noexec")) {
        faults.push(HostFault::NoExec { point: mount.point.clone() });
    }
    let needed = expected.missing_bytes + SPARE_BYTES_MIN;
    if let Some(free) = survey.free_bytes.filter(|free| *free < needed) {
        let (free_mib, needed_mib) = (free >> 20, needed.div_ceil(1 << 20));
        faults.push(HostFault::NoRoom { free_mib, needed_mib });
    }
}

fn capture(survey: &Survey, expected: &Expected<'_>, faults: &mut Vec<HostFault>) {
    let there = &survey.facts.interfaces;
    let mut seen: Vec<&str> = Vec::new();
    for node in &expected.nodes {
        let Some(name) = node.interface.as_deref().filter(|name| !seen.contains(name)) else {
            continue;
        };
        seen.push(name);
        let at = node.given.get("interface").map_or(&node.at, |given| &given.at).clone();
        let name = name.to_owned();
        match there.iter().find(|interface| interface.name == name) {
            Some(interface) if interface.is_up => {}
            Some(_) => faults.push(HostFault::InterfaceDown { at, name }),
            None if survey.missing_interfaces.contains(&name) => {
                let near = nearest(&name, there.iter().map(|i| i.name.as_str())).map(str::to_owned);
                let there = listed(there.iter().map(|i| i.name.as_str()));
                faults.push(HostFault::NoInterface { at, name, there, near });
            }
            None => {}
        }
    }
    if seen.is_empty() {
        return;
    }
    if survey.facts.has_no_packet_sockets {
        faults.push(HostFault::NoPacketSockets);
    }
    if survey.facts.capabilities.is_some_and(|caps| caps & CAP_NET_RAW == 0) {
        faults.push(HostFault::NoCapture { login_name: survey.facts.login.clone() });
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(INTERFACES_SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".to_owned(),
        n if n > INTERFACES_SHOWN_MAX => format!("{shown} and {} more", n - INTERFACES_SHOWN_MAX),
        _ => shown,
    }
}

fn ports(survey: &Survey, expected: &Expected<'_>, faults: &mut Vec<HostFault>) {
    for &(node, port) in &expected.ports {
        let is_in_the_way = |listener: &&Listener| {
            let meets = listener.on_all || expected.addr.is_none_or(|addr| is_at(listener, addr));
            listener.port == port && !listener.is_ours && meets
        };
        let Some(listener) = survey.facts.listeners.iter().find(is_in_the_way) else { continue };
        let by = match &listener.process {
            Some((pid, name)) => format!("`{name}` (process {pid})"),
            None => "a program that this login may not see".to_owned(),
        };
        faults.push(HostFault::PortTaken { node: node.name.to_string(), port, by });
    }
}

/// The kernel writes addresses as 32-bit words in the machine's own order, little-endian on all
/// that Tyto is built for.
fn is_at(listener: &Listener, addr: IpAddr) -> bool {
    let bytes = match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let hex: String =
        bytes.chunks(4).flat_map(|word| word.iter().rev()).map(|b| format!("{b:02X}")).collect();
    listener.addr == hex
}

fn clock(survey: &Survey, faults: &mut Vec<HostFault>) {
    let Some(clock) = survey.facts.clock else { return };
    let off = clock.certain_ns();
    if off.abs() < CLOCK_OFF_NS_MIN {
        return;
    }
    let second = |moment: jiff::Timestamp| moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let shows = jiff::Timestamp::try_from(clock.shown).unwrap_or_default();
    faults.push(HostFault::Clock {
        off: duration(off.unsigned_abs()),
        is_ahead: off > 0,
        shows: second(shows),
        here: second(here(shows, off)),
        breaks_tls: !(-CLOCK_BEHIND_NS_MAX..=CLOCK_AHEAD_NS_MAX).contains(&off),
    });
}

/// What our clock showed when the host's showed `shows`.
fn here(shows: jiff::Timestamp, off_ns: i128) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(shows.as_nanosecond() - off_ns).unwrap_or_default()
}

/// For people: seconds with a tenth, then minutes, hours, days.
fn duration(ns: u128) -> String {
    let s = ns / 1_000_000_000;
    match s {
        0..120 => format!("{s}.{} s", ns / 100_000_000 % 10),
        120..7200 => format!("{} min", (s + 30) / 60),
        7200..172_800 => format!("{} h", (s + 1800) / 3600),
        _ => format!("{} days", s / 86_400),
    }
}

/// Hosts that are one machine, or share the folder of the prefix: two supervisors would fight
/// for it. Each with the one it equals and that machine's own name and folder.
pub fn same_hosts(surveys: &BTreeMap<HostName, Survey>) -> Vec<(&HostName, &HostName, &Survey)> {
    let mut first: BTreeMap<&str, &HostName> = BTreeMap::new();
    let mut same = Vec::new();
    for (host, survey) in surveys {
        let Some(id) = &survey.facts.folder_id else { continue };
        match first.get(id.as_str()) {
            Some(other) => same.push((host, *other, survey)),
            None => drop(first.insert(id, host)),
        }
    }
    same
}

#[cfg(test)]
mod tests;
