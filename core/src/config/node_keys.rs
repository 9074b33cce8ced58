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
    /// Value when the key is not given, as it would be written.
    pub default: &'static str,
    /// What it does; for [`Scope::Nothing`] why it does nothing.
    pub doc: &'static str,
}

const fn key(
    name: &'static str,
    scope: Scope,
    expected: &'static str,
    default: &'static str,
    doc: &'static str,
) -> NodeKey {
    NodeKey { name, scope, expected, default, doc }
}

/// All keys, in the order of the manual.
pub const NODE_KEYS: &[NodeKey] = &[
    key(
        "type",
        Scope::Any,
        "standalone, logger, manager, proxy or worker",
        "",
        "role of the node; required",
    ),
    key(
        "host",
        Scope::Any,
        "a host name or an address",
        "",
        "host that the node runs on, as ssh knows it; required",
    ),
    key(
        "interface",
        Scope::Capture,
        "the name of a network interface",
        "",
        "interface to capture on; `af_packet::` may stand before it",
    ),
    key(
        "lb_method",
        Scope::Worker,
        "af_packet",
        "",
        "how packets are spread over the worker's processes; needs lb_procs",
    ),
    key(
        "lb_procs",
        Scope::Worker,
        "a whole number from 1 to 256",
        "",
        "processes of this worker; NAME becomes NAME-1 to NAME-N",
    ),
    key(
        "pin_cpus",
        Scope::Any,
        "CPU numbers or ranges, such as `0,2,8-11`",
        "",
        "CPU of each process in turn, from the first again when there are more processes",
    ),
    key(
        "env_vars",
        Scope::Any,
        "NAME=value pairs with commas between, such as `A=1,B=2`",
        "",
        "environment variables; they win over env_vars of tyto.yaml",
    ),
    key(
        "af_packet_buffer_size",
        Scope::Capture,
        "bytes from 1048576 to 68719476736, such as `128*1024*1024`",
        "af_packet.buffer_size_bytes of tyto.yaml",
        "size of each process's ring, bytes",
    ),
    key(
        "af_packet_block_size",
        Scope::Capture,
        "bytes from 16384 to 16777216, a power of two, such as `256*1024`",
        "af_packet.block_size_bytes of tyto.yaml",
        "size of one block of the ring, bytes",
    ),
    key(
        "af_packet_block_timeout",
        Scope::Capture,
        "whole milliseconds from 1 to 1000, such as `10msec`",
        "af_packet.block_timeout_ms of tyto.yaml",
        "a block that is not full is handed over after this long",
    ),
    key(
        "af_packet_enable_fanout",
        Scope::Capture,
        "T or F",
        "T",
        "share the interface's packets with the other workers on it; F: see all of them",
    ),
    key(
        "af_packet_fanout_id",
        Scope::Capture,
        "a whole number from 1 to 65535",
        "made from the interface's name, distinct per interface of a host",
        "number of the fanout group",
    ),
    key(
        "af_packet_fanout_mode",
        Scope::Capture,
        "FANOUT_HASH, FANOUT_CPU or FANOUT_QM",
        "af_packet.fanout_mode of tyto.yaml",
        "how the kernel spreads packets over the group",
    ),
    key(
        "af_packet_enable_defrag",
        Scope::Capture,
        "T or F",
        "af_packet.fanout_defrag of tyto.yaml",
        "let the kernel join fragments before it chooses a worker",
    ),
    key(
        "af_packet_checksum_validation_mode",
        Scope::Capture,
        "CHECKSUM_ON or CHECKSUM_OFF",
        "ignore_checksums of tyto.yaml",
        "OFF takes packets with a wrong checksum as good",
    ),
    key(
        "af_packet_enable_hw_timestamping",
        Scope::Capture,
        "F",
        "F",
        "time stamps of the network card; not supported",
    ),
    key("af_packet_link_type", Scope::Capture, "1", "1", "1 is Ethernet, the only one supported"),
    key(
        "lb_interfaces",
        Scope::Worker,
        "no value",
        "",
        "interfaces of lb_method=interfaces; write one worker section for each instead",
    ),
    key("aux_scripts", Scope::Nothing, "any text", "", "Tyto runs no Zeek scripts"),
    key("zone_id", Scope::Nothing, "any text", "", "scoped IPv6 addresses are not supported"),
    key("ether", Scope::Nothing, "any text", "", "ZeekControl does not use it either"),
    key("zeekbase", Scope::Nothing, "any text", "", "Zeek is not needed"),
    key("count", Scope::Nothing, "any text", "", "the number of a node is its place in the file"),
];

/// The key of that name.
pub fn node_key(name: &str) -> Option<&'static NodeKey> {
    NODE_KEYS.iter().find(|key| key.name == name)
}
