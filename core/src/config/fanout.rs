//! Fanout groups: workers of one interface of one host share its packets. Each (host,
//! interface) has its own number; two interfaces with one number would fail in the kernel,
//! which keeps one list of groups per network namespace.

use std::collections::BTreeMap;

use super::error::{Fault, FaultKind};
use super::name::HostName;
use super::node::Node;

/// Smallest number that is made: people write small ones by hand (Zeek's default is 23,
/// Suricata's 99), and another program on the host may use them.
const MADE_ID_MIN: u16 = 1024;

/// Reports numbers in node.cfg that clash.
pub(super) fn check(nodes: &[Node], faults: &mut Vec<Fault>) {
    let mut by_id: BTreeMap<(&HostName, u16), &str> = BTreeMap::new();
    let mut by_interface: BTreeMap<(&HostName, &str), (&Node, u16)> = BTreeMap::new();
    let mut sections: Vec<&str> = Vec::new();
    for node in nodes.iter().filter(|node| shares(node)) {
        let (Some(interface), Some(id)) = (node.interface.as_deref(), node.capture.fanout_id)
        else {
            continue;
        };
        if sections.contains(&node.section.as_str()) {
            continue;
        }
        sections.push(&node.section);
        let name = || node.section.clone();
        let other = *by_id.entry((&node.host, id)).or_insert(interface);
        if other != interface {
            let kind = FaultKind::FanoutTaken { node: name(), id, other: other.to_owned() };
            let hint = "delete `af_packet_fanout_id`: distinct numbers are made without it";
            faults.push(Fault::new(&node.at, kind).hint(hint));
        }
        let (first, other_id) = *by_interface.entry((&node.host, interface)).or_insert((node, id));
        if other_id != id {
            let (other, interface) = (first.section.clone(), interface.to_owned());
            let kind = FaultKind::FanoutSplit { node: name(), id, other, other_id, interface };
            let hint = "two groups see all packets twice; give both the same number or none";
            faults.push(Fault::new(&node.at, kind).hint(hint));
        }
    }
}

/// The number of each node's group, by the node's name; none for a node that is alone on its
/// interface or wants all of its packets.
pub(super) fn ids(nodes: &[Node]) -> BTreeMap<&str, u16> {
    let mut groups: BTreeMap<(&HostName, &str), Vec<&Node>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| shares(node)) {
        if let Some(interface) = &node.interface {
            groups.entry((&node.host, interface)).or_default().push(node);
        }
    }
    let written = |group: &[&Node]| group.iter().find_map(|node| node.capture.fanout_id);
    let mut taken: BTreeMap<&HostName, Vec<u16>> = BTreeMap::new();
    for ((host, _), group) in &groups {
        taken.entry(host).or_default().extend(written(group));
    }
    let mut ids = BTreeMap::new();
    for ((host, interface), group) in &groups {
        let explicit = written(group);
        if group.len() < 2 && explicit.is_none() {
            continue;
        }
        let taken = taken.entry(host).or_default();
        let id = explicit.unwrap_or_else(|| made_id(interface, taken));
        taken.push(id);
        ids.extend(group.iter().map(|node| (node.name.as_str(), id)));
    }
    ids
}

fn shares(node: &Node) -> bool {
    node.interface.is_some() && node.capture.enable_fanout != Some(false)
}

/// A number from the interface's name, so that a new section in node.cfg does not change the
/// numbers of running groups. FNV-1a, folded to 16 bits; the next free one on a clash.
fn made_id(interface: &str, taken: &[u16]) -> u16 {
    let hash = interface
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let range = u32::from(u16::MAX - MADE_ID_MIN) + 1;
    let first = hash % range;
    (0..range)
        .map(|step| (first + step) % range + u32::from(MADE_ID_MIN))
        .filter_map(|id| u16::try_from(id).ok())
        .find(|id| !taken.contains(id))
        .unwrap_or(MADE_ID_MIN)
}
