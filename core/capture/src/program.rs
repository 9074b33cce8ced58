//! The programs that the kernel runs for a capture: which packets it takes and how much of
//! each (`filter`, snaplen, the loopback rule), and to which member of a fanout group a packet
//! goes (`fanout_mode` cbpf and ebpf).

use std::io;

use tyto_core::config::runtime::{CaptureConfig, FanoutMode};
use tyto_core::fanout_program::{FanoutProgram, ebpf};
use tyto_core::filter::instruction::{ancillary, op};
use tyto_core::filter::{Filter, Instruction, Target};

use crate::bpf;
use crate::error::LiveError;
use crate::frame::LinkType;
use crate::sys::PacketSocket;

/// Takes nothing: while a socket is bound and no member of its group yet.
pub(crate) fn take_nothing() -> Vec<libc::sock_filter> {
    for_kernel(&[Instruction::new(op::RET_K, 0)])
}

/// The program of a running capture: keeps the first bytes of each frame that the filter, if
/// there is one, matches. On a loopback interface each frame comes twice, sent and received;
/// the sent one is left out.
///
/// # Errors
/// When the filter is none, or asks for what this kind of link does not have.
pub(crate) fn take(
    config: &CaptureConfig,
    link_type: LinkType,
    is_loopback: bool,
) -> Result<Vec<libc::sock_filter>, LiveError> {
    let target = Target::Live { snaplen: config.snaplen_bytes };
    let text = config.filter.as_deref().unwrap_or_default();
    let program = Filter::parse(text)
        .and_then(|filter| filter.compile(link_type.0, target))
        .map_err(|source| LiveError::Filter { interface: config.interface.clone(), source })?;
    let mut instructions = Vec::new();
    if is_loopback {
        instructions.extend([
            Instruction::new(op::LD_B_ABS, ancillary::PACKET_TYPE),
            Instruction::jump(op::JEQ, ancillary::PACKET_OUTGOING, 0, 1),
            Instruction::new(op::RET_K, 0),
        ]);
    }
    instructions.extend(program.instructions());
    Ok(for_kernel(&instructions))
}

/// Gives the fanout group its program, if it is of a mode that has one. Each member does so
/// when it has joined: the group has one program, and all bring the same.
///
/// # Errors
/// When the kernel refuses it; for eBPF that is mostly a missing capability.
pub(crate) fn spread(
    socket: &PacketSocket,
    config: &CaptureConfig,
    link_type: LinkType,
) -> Result<(), LiveError> {
    let refused = |is_ebpf| {
        let interface = config.interface.clone();
        move |source| LiveError::FanoutProgram { interface, is_ebpf, source }
    };
    let has_ethernet_header = link_type == LinkType::ETHERNET;
    let classic = || {
        let program = FanoutProgram { has_ethernet_header, inner: config.fanout_inner }.classic();
        program.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    };
    match config.fanout_mode {
        FanoutMode::Hash | FanoutMode::Cpu | FanoutMode::Qm => Ok(()),
        FanoutMode::Cbpf => {
            let program = classic().map_err(refused(false))?;
            let program = for_kernel(program.instructions());
            socket.set_fanout_program(&program).map_err(refused(false))
        }
        FanoutMode::Ebpf => {
            let program = classic().map_err(refused(true))?;
            let program = ebpf::translate(&program)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
                .map_err(refused(true))?;
            let loaded = bpf::load_socket_program(&program).map_err(refused(true))?;
            // The group holds the program from here on.
            socket.set_fanout_descriptor(&loaded).map_err(refused(true))
        }
    }
}

fn for_kernel(instructions: &[Instruction]) -> Vec<libc::sock_filter> {
    let raw = |Instruction { code, jt, jf, k }: &Instruction| libc::sock_filter {
        code: *code,
        jt: *jt,
        jf: *jf,
        k: *k,
    };
    instructions.iter().map(raw).collect()
}
