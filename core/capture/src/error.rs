//! What can go wrong with live capture.

use std::io;

use tyto_core::filter::FilterError;

/// Why live capture cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A step of opening it failed.
    #[error("interface `{interface}`: cannot {step}")]
    Open {
        /// The interface.
        interface: String,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The interface exists but is not up.
    #[error("interface `{0}` is down; `ip link set {0} up` brings it up")]
    Down(String),
    /// Its frames cannot be read.
    #[error(
        "interface `{interface}`: link layer {hardware_type} (ARPHRD) is not supported; expected \
         Ethernet, IP without a link layer (tun, PPP, tunnels), Cisco HDLC, FDDI or 802.11"
    )]
    LinkLayer {
        /// The interface.
        interface: String,
        /// The kernel's number of its link layer.
        hardware_type: u16,
    },
    /// It is not what the configuration says it is.
    #[error(
        "interface `{interface}`: its link type is {found}; `af_packet_link_type` of node.cfg \
         says {expected}"
    )]
    OtherLinkType {
        /// The interface.
        interface: String,
        /// What it is, as a link type of capture files.
        found: u32,
        /// What it should be.
        expected: u16,
    },
    /// The ring cannot be made in these sizes.
    #[error(
        "interface `{interface}`: cannot make its ring of {blocks} blocks with {block_bytes} \
         bytes each; {}",
        ring_advice(source)
    )]
    Ring {
        /// The interface.
        interface: String,
        /// Number of blocks.
        blocks: u32,
        /// Bytes of each.
        block_bytes: u32,
        /// What the system said.
        source: io::Error,
    },
    /// Time stamps of the network card are wanted, and it has none.
    #[error(
        "interface `{0}`: its card does not stamp every packet that it receives, as `ethtool -T \
         {0}` tells; `af_packet_enable_hw_timestamping=F` in node.cfg does without"
    )]
    NoCardTimes(String),
    /// The filter cannot be run on this interface.
    #[error("interface `{interface}`: the filter does not fit{}", suggestion(source))]
    Filter {
        /// The interface.
        interface: String,
        /// Where and why.
        source: FilterError,
    },
    /// The kernel does not take the program of the fanout group.
    #[error(
        "interface `{interface}`: the kernel refuses its fanout program{}",
        program_advice(*is_ebpf, source)
    )]
    FanoutProgram {
        /// The interface.
        interface: String,
        /// It is eBPF, else classic BPF.
        is_ebpf: bool,
        /// What the system said.
        source: io::Error,
    },
    /// The interface was removed while capturing.
    #[error("interface `{0}` was removed")]
    Removed(String),
    /// The system refused a call on the running capture.
    #[error("interface `{interface}`: cannot {step}")]
    Run {
        /// The interface.
        interface: String,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl LiveError {
    /// The interface is not there or not up: a matter of waiting, not of a fault in the node.
    #[must_use]
    pub fn interface_gone(&self) -> bool {
        match self {
            Self::Down(_) | Self::Removed(_) => true,
            Self::Open { source, .. } | Self::Run { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENODEV | libc::ENETDOWN))
            }
            Self::LinkLayer { .. }
            | Self::OtherLinkType { .. }
            | Self::Ring { .. }
            | Self::Filter { .. }
            | Self::FanoutProgram { .. }
            | Self::NoCardTimes(_) => false,
        }
    }
}

/// What to change when the kernel refuses a ring.
fn ring_advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOMEM) => {
            "make `af_packet_buffer_size` smaller, or let the host have more free memory"
        }
        Some(libc::EINVAL) => {
            "make `af_packet_buffer_size` smaller, or `af_packet_block_size` a larger multiple \
             of the page size"
        }
        _ => "`af_packet_buffer_size` and `af_packet_block_size` set them",
    }
}

/// What to type instead of a filter that does not fit.
fn suggestion(source: &FilterError) -> String {
    source.suggestion().map(|hint| format!(" ({hint})")).unwrap_or_default()
}

/// What to do when the kernel refuses a fanout program.
fn program_advice(is_ebpf: bool, source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if is_ebpf => {
            "; eBPF needs the capability CAP_BPF (CAP_SYS_ADMIN before Linux 5.8), \
             `af_packet_fanout_mode=FANOUT_CBPF` does the same without"
        }
        _ if is_ebpf => "; `af_packet_fanout_mode=FANOUT_CBPF` does the same without eBPF",
        _ => "; `af_packet_fanout_mode=FANOUT_HASH` needs none",
    }
}
