//! The keys of node.cfg that say what a node captures: interface, filter, load balancing and
//! `af_packet_*`. Part of [`super::node`], which reads the rest.

use super::error::{Fault, FaultKind};
use super::node::Reader;
use super::runtime::{ChecksumMode, FanoutMode, Role};
use super::{filter_check, value};

/// Processes of one worker section at most.
pub const LB_PROCS_MAX: u32 = 256;

/// What one node captures; `None` where tyto.yaml or the default counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureKeys {
    /// Only packets that this tcpdump expression matches.
    pub filter: Option<String>,
    /// Bytes kept of each packet.
    pub snaplen_bytes: Option<u32>,
    /// Size of the ring, bytes.
    pub buffer_size_bytes: Option<u64>,
    /// Size of a block, bytes.
    pub block_size_bytes: Option<u32>,
    /// Hand-over of a block that is not full, milliseconds.
    pub block_timeout_ms: Option<u32>,
    /// Share the interface with the other workers on it.
    pub enable_fanout: Option<bool>,
    /// Number of the fanout group.
    pub fanout_id: Option<u16>,
    /// How packets are spread.
    pub fanout_mode: Option<FanoutMode>,
    /// Packets in tunnels are spread by their inner flow.
    pub fanout_inner: Option<bool>,
    /// Kernel joins fragments first.
    pub fanout_defrag: Option<bool>,
    /// See all packets of the link.
    pub promiscuous: Option<bool>,
    /// Who verifies checksums.
    pub checksums: Option<ChecksumMode>,
    /// Time stamps of the network card.
    pub hw_timestamps: Option<bool>,
    /// What the interface has to be (a link type of pcap files).
    pub link_type: Option<u16>,
}

impl Reader<'_> {
    pub(super) fn interface(&mut self, role: Option<Role>) -> Option<String> {
        let captures = matches!(role, Some(Role::Worker | Role::Standalone));
        let Some(&entry) = self.values.get("interface") else {
            if captures {
                let kind = FaultKind::NoInterface { node: self.node() };
                self.warnings.push(Fault::new(&self.section.at, kind));
            }
            return None;
        };
        if let Some((source, interface)) = entry.value.split_once("::")
            && source != "af_packet"
        {
            let reason = "packets come from AF_PACKET sockets";
            let hint = format!("interface={interface}");
            self.unsupported("interface", reason, &hint);
            return None;
        }
        let interface = self.value("interface", |text| {
            let name = text.strip_prefix("af_packet::").unwrap_or(text);
            value::is_interface(name).then(|| name.to_owned())
        });
        interface.filter(|_| captures)
    }

    /// Number of processes, when the section is to be expanded.
    pub(super) fn lb_procs(&mut self, role: Option<Role>) -> Option<u32> {
        if role.is_some_and(|role| role != Role::Worker) {
            return None;
        }
        self.lb_method();
        let entry = *self.values.get("lb_procs")?;
        if !self.values.contains_key("lb_method") {
            let needs = "lb_method";
            let kind = FaultKind::KeyNeeds { node: self.node(), key: "lb_procs", needs };
            self.faults.push(Fault::new(&entry.at, kind).hint("lb_method=af_packet"));
        }
        let before = self.faults.len();
        let procs = self.value("lb_procs", |text| {
            value::whole(text, 1, LB_PROCS_MAX.into()).and_then(|n| u32::try_from(n).ok())
        });
        if let Some(fault) = self.faults.get_mut(before) {
            let interface = self.values.get("interface").map_or("eth0", |e| e.value.as_str());
            let interface = interface.trim_start_matches("af_packet::");
            fault.hint = Some(format!(
                "one process per receive queue is usual; `ethtool -l {interface}` lists the queues"
            ));
        }
        procs
    }

    fn lb_method(&mut self) {
        let Some(&method) = self.values.get("lb_method") else {
            if let Some(&entry) = self.values.get("lb_interfaces") {
                let needs = "lb_method";
                let kind = FaultKind::KeyNeeds { node: self.node(), key: "lb_interfaces", needs };
                self.faults.push(Fault::new(&entry.at, kind));
            }
            return;
        };
        if !self.values.contains_key("lb_procs") {
            let needs = "lb_procs";
            let kind = FaultKind::KeyNeeds { node: self.node(), key: "lb_method", needs };
            self.faults.push(Fault::new(&method.at, kind).hint("lb_procs=4"));
        }
        let use_af_packet = "lb_method=af_packet";
        match method.value.as_str() {
            "af_packet" => {
                if let Some(&entry) = self.values.get("lb_interfaces") {
                    let reason = "it belongs to lb_method=interfaces";
                    let node = self.node();
                    let kind = FaultKind::NoEffect { node, key: "lb_interfaces", reason };
                    self.warnings.push(Fault::new(&entry.at, kind));
                }
            }
            "interfaces" => {
                let hint = "write one worker section with its `interface` for each of them";
                self.unsupported("lb_method", "one section is one interface here", hint);
            }
            "pf_ring" | "myricom" | "custom" => {
                let reason = "packets come from AF_PACKET sockets";
                self.unsupported("lb_method", reason, use_af_packet);
            }
            _ => {
                let before = self.faults.len();
                self.value("lb_method", |_| None::<()>);
                if let Some(fault) = self.faults.get_mut(before) {
                    fault.hint = Some(use_af_packet.to_owned());
                }
            }
        }
    }

    pub(super) fn capture(&mut self) -> CaptureKeys {
        CaptureKeys {
            filter: self.filter(),
            snaplen_bytes: self.value("snaplen", |text| {
                value::size_bytes(text, 128, 262_144).and_then(|bytes| u32::try_from(bytes).ok())
            }),
            buffer_size_bytes: self
                .value("af_packet_buffer_size", |t| value::size_bytes(t, 1 << 20, 1 << 36)),
            block_size_bytes: self.value("af_packet_block_size", |t| {
                let bytes = value::size_bytes(t, 1 << 14, 1 << 24)?;
                u32::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two())
            }),
            block_timeout_ms: self.value("af_packet_block_timeout", |t| {
                value::duration_ms(t, 1, 1000).and_then(|ms| u32::try_from(ms).ok())
            }),
            enable_fanout: self.value("af_packet_enable_fanout", value::boolean),
            fanout_id: self.value("af_packet_fanout_id", |t| {
                value::whole(t, 1, u16::MAX.into()).and_then(|id| u16::try_from(id).ok())
            }),
            fanout_mode: self.fanout_mode(),
            fanout_inner: self.value("af_packet_fanout_inner", value::boolean),
            fanout_defrag: self.value("af_packet_enable_defrag", value::boolean),
            promiscuous: self.value("af_packet_promiscuous", value::boolean),
            checksums: self.value("af_packet_checksum_validation_mode", value::checksum_mode),
            hw_timestamps: self.value("af_packet_enable_hw_timestamping", value::boolean),
            link_type: self.value("af_packet_link_type", |t| {
                value::whole(t, 0, u16::MAX.into()).and_then(|number| u16::try_from(number).ok())
            }),
        }
    }

    fn filter(&mut self) -> Option<String> {
        let entry = *self.values.get("filter")?;
        // A value of several lines is one expression.
        let text = entry.value.replace('\n', " ");
        let link_type = self.values.get("af_packet_link_type").and_then(|e| e.value.parse().ok());
        let link_type = link_type.unwrap_or(filter_check::ETHERNET);
        let key = format!("node `{}`: `filter`", self.node());
        let value_at = entry.value_at.as_ref();
        match filter_check::fault(&key, &text, link_type, &entry.at, value_at) {
            None => return Some(text),
            Some(fault) => self.fault_once(fault),
        }
        None
    }

    fn fanout_mode(&mut self) -> Option<FanoutMode> {
        const KEY: &str = "af_packet_fanout_mode";
        let word = value::enum_word(&self.values.get(KEY)?.value, "FANOUT_");
        let reason = match word.as_str() {
            "ROLLOVER" => {
                "a full ring would spill packets of its flows to workers that do not know these \
                 flows"
            }
            "LB" | "RND" => "it tears flows apart: the packets of each go to all workers",
            _ => return self.value(KEY, value::fanout_mode),
        };
        self.unsupported(KEY, reason, "af_packet_fanout_mode=FANOUT_HASH");
        None
    }
}
