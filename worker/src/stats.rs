//! The counters of a pipeline.

use crate::decode::fragment::FragmentStats;
use crate::file::FileStats;
use crate::hearing::NoteStats;
use crate::shed::ShedStats;

/// What a pipeline has seen and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Packets taken from the source and analysed.
    pub packets: u64,
    /// Packets without a byte, which are not looked at and in no other number here.
    pub empty: u64,
    /// The others' bytes on the wire.
    pub wire_bytes: u64,
    /// Packets, also inside of tunnels, that could not be read: cut, broken, not IP.
    pub unread: u64,
    /// Packets, also inside of tunnels, with a wrong checksum.
    pub bad_checksums: u64,
    /// Connections begun.
    pub flows: u64,
    /// Connections ended early because the table was full.
    pub flows_evicted: u64,
    /// Connections open now.
    pub flows_open: u64,
    /// What happened to fragments.
    pub fragments: FragmentStats,
    /// Directions of TCP connections that reached a bound of the reassembly: their further gaps
    /// are not counted.
    pub streams_given_up: u64,
    /// Bytes of TCP streams beyond holes, kept now.
    pub beyond_bytes: u64,
    /// Bytes of fragments, kept now.
    pub fragment_bytes: u64,
    /// Of the connections begun: TCP, UDP, ICMP.
    pub flows_by_kind: [u64; 3],
    /// Of the connections open: TCP, UDP, ICMP.
    pub flows_open_by_kind: [u64; 3],
    /// What was left out because packets came too fast.
    pub shed: ShedStats,
    /// What happened to files.
    pub files: FileStats,
    /// Protocols that were found and not followed, because the connection had enough of them.
    pub analyzers_refused: u64,
    /// Rows of DHCP written before their time, because there were too many.
    pub dhcp_rows_early: u64,
    /// What came of announced connections, and of notes for other workers.
    pub notes: NoteStats,
    /// Tunnels and known hosts that were forgotten at their limits.
    pub forgotten: u64,
}
