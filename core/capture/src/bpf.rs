//! Loading an eBPF program by the raw bpf(2) call. Programs are of the type for sockets, call
//! no helper and use no map.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use tyto_core::fanout_program::ebpf::EbpfInstruction;

/// BPF_PROG_LOAD and BPF_PROG_TYPE_SOCKET_FILTER (linux/bpf.h), which libc does not name.
const PROGRAM_LOAD: libc::c_long = 5;
const SOCKET_FILTER: u32 = 1;
/// Bytes of what the kernel's verifier says of a program that it refuses.
const VERIFIER_TEXT_MAX: usize = 1 << 16;

/// The first members of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes all behind them
/// as zero. Pointers are 64 bits wide on every machine.
#[repr(C)]
#[derive(Debug, Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    text_level: u32,
    text_size: u32,
    text: u64,
}

/// Loads a program; it lives as long as the descriptor or a socket that uses it.
///
/// # Errors
/// EPERM without CAP_BPF (or CAP_SYS_ADMIN) where the kernel asks for it; ENOSYS when the
/// kernel has no bpf(2); EACCES or EINVAL, with the verifier's last line, when it refuses the
/// program.
pub(crate) fn load_socket_program(program: &[EbpfInstruction]) -> io::Result<OwnedFd> {
    let bytes: Vec<u8> = program.iter().flat_map(EbpfInstruction::bytes).collect();
    let refused = match load(&bytes, program.len(), &mut []) {
        Ok(descriptor) => return Ok(descriptor),
        Err(error) => error,
    };
    if !matches!(refused.raw_os_error(), Some(libc::EACCES | libc::EINVAL)) {
        return Err(refused);
    }
    // Once more, for what the verifier has to say.
    let mut text = vec![0; VERIFIER_TEXT_MAX];
    match load(&bytes, program.len(), &mut text) {
        Ok(descriptor) => Ok(descriptor),
        Err(error) => {
            let text: Vec<u8> = text.into_iter().take_while(|byte| *byte != 0).collect();
            let text = String::from_utf8_lossy(&text);
            let said = text.trim().lines().last().unwrap_or_default().to_owned();
            Err(io::Error::new(error.kind(), format!("{error}: {said}")))
        }
    }
}

fn load(bytes: &[u8], count: usize, text: &mut [u8]) -> io::Result<OwnedFd> {
    let size = |len: usize| u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput);
    // The program calls nothing that is reserved to programs under the GPL.
    let license = c"Apache-2.0";
    let has_text = !text.is_empty();
    let attributes = LoadAttributes {
        program_type: SOCKET_FILTER,
        instruction_count: size(count)?,
        instructions: address(bytes.as_ptr()),
        license: address(license.as_ptr().cast()),
        text_level: u32::from(has_text),
        text_size: size(text.len())?,
        text: if has_text { address(text.as_mut_ptr()) } else { 0 },
    };
    // SAFETY: `attributes` is as long as said and outlives the call. The kernel reads
    // `instruction_count` instructions of 8 bytes from `bytes`, which holds them (one array of 8
    // per instruction, see `load_socket_program`), reads the license up to its final zero, and
    // writes at most `text_size` bytes to `text`, which is that long and borrowed mutably here.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROGRAM_LOAD,
            ptr::from_ref(&attributes),
            size_of::<LoadAttributes>(),
        )
    };
    let descriptor = RawFd::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor (it is not negative) with close-on-exec
    // set, and nothing else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A pointer as the kernel takes it.
fn address(pointer: *const u8) -> u64 {
    u64::try_from(pointer.addr()).unwrap_or_default()
}
