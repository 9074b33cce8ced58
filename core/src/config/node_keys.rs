//! The keys of a node in node.cfg: ZeekControl's own, each with what it means here. The
//! reader, the faults and `ctl help` all take them from this table.

/// For which nodes a key means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every node.
    Any,
    /// Workers and standalone.
    Capture,
    /// Workers only.
    Worker,
    /// Accepted because ZeekControl has it, without effect.
    Nothing,
}

/// One key of node.cfg.
#[derive(Clone, Copy, Debug)]
pub struct NodeKey {
    /// Its name, in lower case, `_` for `.`.
    pub name: &'static str,
    /// For which nodes it means something.
    pub scope: Scope,
    /// What a value has to be; follows "expected".
    pub expected: &'static str,
    /// Unit of its number; empty for none.
    pub unit: &'static str,
    /// What counts when the key is not given.
    pub unset: Unset,
    /// What it does; for [`Scope::Nothing`] why it does nothing.
    pub doc: &'static str,
    /// ZeekControl does not have it.
    pub is_ours: bool,
}

/// What counts when a node does not have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// Nothing: there is no default.
    Nothing,
    /// This value, as it would be written.
    Value(&'static str),
    /// That key of tyto.yaml.
    Setting(&'static str),
    /// What is made of other things, in words.
    Made(&'static str),
}

impl NodeKey {
    /// The default in words; empty for none.
    pub fn default(&self) -> String {
        match self.unset {
            Unset::Nothing => String::new(),
            Unset::Value(text) | Unset::Made(text) => text.to_owned(),
            Unset::Setting(name) => format!("{name} of tyto.yaml"),
        }
    }

    const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    const fn value(self, value: &'static str) -> Self {
        Self { unset: Unset::Value(value), ..self }
    }

    const fn setting(self, name: &'static str) -> Self {
        Self { unset: Unset::Setting(name), ..self }
    }

    const fn ours(self) -> Self {
        Self { is_ours: true, ..self }
    }

    const fn made(self, how: &'static str) -> Self {
        Self { unset: Unset::Made(how), ..self }
    }
}

const fn key(
    name: &'static str,
    scope: Scope,
    expected: &'static str,
    doc: &'static str,
) -> NodeKey {
    NodeKey { name, scope, expected, unit: "", unset: Unset::Nothing, doc, is_ours: false }
}

const fn nothing(name: &'static str, doc: &'static str) -> NodeKey {
    key(name, Scope::Nothing, "any text", doc)
}

/// All keys, in the order of the manual.
pub const NODE_KEYS: &[NodeKey] = &[
    key(
        "type",
        Scope::Any,
        "standalone, logger, manager, proxy or worker",
        "role of the node; required",
    ),
    key(
        "host",
        Scope::Any,
        "a host name or an address",
        "host that the node runs on, as ssh knows it; required",
    ),
    key(
        "interface",
        Scope::Capture,
        "the name of a network interface",
        "interface to capture on; `af_packet::` may stand before it",
    ),
    key(
        "filter",
        Scope::Capture,
        "a tcpdump expression, such as `not port 22`",
        "only packets that it matches are captured; the kernel drops all others",
    )
    .setting("filter")
    .ours(),
    key("snaplen", Scope::Capture, "bytes from 128 to 262144", "bytes kept of each packet")
        .unit("bytes")
        .setting("snaplen_bytes")
        .ours(),
    key(
        "lb_method",
        Scope::Worker,
        "af_packet",
        "how packets are spread over the worker's processes; needs lb_procs",
    ),
    key(
        "lb_procs",
        Scope::Worker,
        "a whole number from 1 to 256",
        "processes of this worker; NAME becomes NAME-1 to NAME-N",
    )
    .unit("processes"),
    key(
        "pin_cpus",
        Scope::Any,
        "CPU numbers or ranges, such as `0,2,8-11`",
        "CPU of each process in turn, from the first again when there are more processes",
    ),
    key(
        "env_vars",
        Scope::Any,
        "NAME=value pairs with commas between, such as `A=1,B=2`",
        "environment variables; they win over env_vars of tyto.yaml",
    )
    .setting("env_vars"),
    key(
        "memory_bytes_max",
        Scope::Any,
        "bytes from 67108864 to 17592186044416, such as `4*1024*1024*1024`, or 0",
        "memory that each process may use, bytes; 0: no limit",
    )
    .unit("bytes")
    .setting("memory_bytes_max")
    .ours(),
    key(
        "nice",
        Scope::Any,
        "a whole number from -20 to 19",
        "niceness of each process; a higher one yields to others",
    )
    .setting("nice")
    .ours(),
    key("core_dumps", Scope::Any, "T or F", "let the kernel write a core when a process crashes")
        .setting("core_dumps")
        .ours(),
    key(
        "af_packet_buffer_size",
        Scope::Capture,
        "bytes from 1048576 to 68719476736, such as `128*1024*1024`",
        "size of each process's ring, bytes",
    )
    .unit("bytes")
    .setting("af_packet.buffer_size_bytes"),
    key(
        "af_packet_block_size",
        Scope::Capture,
        "bytes from 16384 to 16777216, a power of two, such as `256*1024`",
        "size of one block of the ring, bytes",
    )
    .unit("bytes")
    .setting("af_packet.block_size_bytes"),
    key(
        "af_packet_block_timeout",
        Scope::Capture,
        "whole milliseconds from 1 to 1000, such as `10msec`",
        "a block that is not full is handed over after this long",
    )
    .unit("milliseconds")
    .setting("af_packet.block_timeout_ms"),
    key(
        "af_packet_enable_fanout",
        Scope::Capture,
        "T or F",
        "share the interface's packets with the other workers on it; F: see all of them",
    )
    .value("T"),
    key(
        "af_packet_fanout_id",
        Scope::Capture,
        "a whole number from 1 to 65535",
        "number of the fanout group",
    )
    .made("made from the interface's name, distinct per interface of a host"),
    key(
        "af_packet_fanout_mode",
        Scope::Capture,
        "FANOUT_HASH, FANOUT_CPU, FANOUT_QM, FANOUT_CBPF or FANOUT_EBPF",
        "how the kernel spreads packets over the group",
    )
    .setting("af_packet.fanout_mode"),
    key(
        "af_packet_fanout_inner",
        Scope::Capture,
        "T or F",
        "with FANOUT_CBPF and FANOUT_EBPF: packets in a tunnel are spread by their inner flow",
    )
    .setting("af_packet.fanout_inner")
    .ours(),
    key(
        "af_packet_enable_defrag",
        Scope::Capture,
        "T or F",
        "let the kernel join fragments before it chooses a worker",
    )
    .setting("af_packet.fanout_defrag"),
    key(
        "af_packet_promiscuous",
        Scope::Capture,
        "T or F",
        "see all packets of the link, not only those for this host",
    )
    .setting("af_packet.promiscuous")
    .ours(),
    key(
        "af_packet_checksum_validation_mode",
        Scope::Capture,
        "CHECKSUM_ON, CHECKSUM_KERNEL or CHECKSUM_OFF",
        "who verifies: the worker, it unless the kernel vouches for a packet, or nobody",
    )
    .setting("af_packet.checksums"),
    key(
        "af_packet_enable_hw_timestamping",
        Scope::Capture,
        "T or F",
        "take the time stamps of the network card where it has them",
    )
    .setting("af_packet.hw_timestamps"),
    key(
        "af_packet_link_type",
        Scope::Capture,
        "a link type from 0 to 65535, such as 1 for Ethernet",
        "what the interface has to be; capture does not start on another",
    )
    .made("what the interface is"),
    key(
        "lb_interfaces",
        Scope::Worker,
        "no value",
        "interfaces of lb_method=interfaces; write one worker section for each instead",
    ),
    nothing("aux_scripts", "Tyto runs no Zeek scripts"),
    nothing("zone_id", "scoped IPv6 addresses are not supported"),
    nothing("ether", "ZeekControl does not use it either"),
    nothing("zeekbase", "Zeek is not needed"),
    nothing("count", "the number of a node is its place in the file"),
];

/// The key of that name.
pub fn node_key(name: &str) -> Option<&'static NodeKey> {
    NODE_KEYS.iter().find(|key| key.name == name)
}
