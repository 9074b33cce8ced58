//! For which machines a program is: its ELF header says so (System V ABI, `e_machine`).

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of the header up to the end of `e_machine`.
const HEADER_BYTES: usize = 20;

/// The machine as `uname -m` of one tells it; none for what is no ELF file, or of a kind that
/// Tyto is not built for.
pub(super) fn machine_of(program: &Path) -> Option<&'static str> {
    let mut header = [0; HEADER_BYTES];
    File::open(program).ok()?.read_exact(&mut header).ok()?;
    machine(&header)
}

fn machine(header: &[u8; HEADER_BYTES]) -> Option<&'static str> {
    let [0x7f, b'E', b'L', b'F', class, order, .., low, high] = *header else { return None };
    let is_64_bits = class == 2;
    let is_little = order == 1;
    let number =
        if is_little { u16::from_le_bytes([low, high]) } else { u16::from_be_bytes([low, high]) };
    Some(match (number, is_64_bits, is_little) {
        (62, true, _) => "x86_64",
        (183, true, _) => "aarch64",
        (21, true, true) => "ppc64le",
        (21, true, false) => "ppc64",
        (22, true, _) => "s390x",
        (243, true, _) => "riscv64",
        (258, true, _) => "loongarch64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_machine_is_for_this_machine() {
        let ours = std::env::current_exe().unwrap();
        assert_eq!(machine_of(&ours), Some(std::env::consts::ARCH));
        assert_eq!(machine_of(Path::new("/etc/hosts")), None);
    }

    #[test]
    fn the_machine_is_read_in_the_files_own_byte_order() {
        let mut header = [0; HEADER_BYTES];
        header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        header[18..].copy_from_slice(&[183, 0]);
        assert_eq!(machine(&header), Some("aarch64"));
        header[5] = 2;
        header[18..].copy_from_slice(&[0, 22]);
        assert_eq!(machine(&header), Some("s390x"));
    }
}
