//! A checked program of classic BPF and its interpreter. Programs of any source and packets
//! of any content are safe: jumps go forward only, so a run ends after at most as many steps
//! as there are instructions, and a load past the captured bytes ends it with "no match".
//! Nothing is allocated per packet.

use super::instruction::{INSTRUCTIONS_MAX, Instruction, SCRATCH_WORDS, ancillary, op};

/// A program that was checked as the kernel checks it (sk_chk_filter).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
}

/// Why a list of instructions is no program.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProgramError {
    /// No instruction at all, or more than the kernel takes.
    #[error("{found} instructions; expected 1 to {INSTRUCTIONS_MAX}")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// An opcode that classic BPF does not have, or a load of what the interpreter does not know.
    #[error("instruction {at}: opcode {code:#x} with operand {k:#x} is not one of classic BPF")]
    Unknown {
        /// Which instruction, from 0.
        at: usize,
        /// Its opcode.
        code: u16,
        /// Its operand.
        k: u32,
    },
    /// A jump past the last instruction.
    #[error("instruction {at} jumps past the end")]
    Jump {
        /// Which instruction, from 0.
        at: usize,
    },
    /// A constant divisor of zero, a constant shift of 32 bits or more, or scratch memory that
    /// is not there.
    #[error("instruction {at}: operand {k} is not possible")]
    Operand {
        /// Which instruction, from 0.
        at: usize,
        /// Its operand.
        k: u32,
    },
    /// The last instruction does not end the program.
    #[error("the last instruction does not return")]
    NoReturn,
}

/// What the kernel knows of a live packet besides its bytes. For files: the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketFacts {
    /// The outer VLAN tag (priority and identifier) when the kernel took it out of the frame.
    pub vlan_tag: Option<u16>,
    /// PACKET_HOST (0) and so on, as in `sll_pkttype`; 4 is an outgoing packet.
    pub packet_type: u8,
    /// Ethernet protocol past the outer tag, as in `sll_protocol` but in host byte order.
    pub protocol: u16,
    /// Number of the interface.
    pub interface: u32,
}

impl Program {
    /// Checks the instructions.
    ///
    /// # Errors
    /// When one is unknown, has an impossible operand or jumps out of the program, when there
    /// are none or too many, or when the last does not end the program.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, ProgramError> {
        let len = instructions.len();
        if len == 0 || len > INSTRUCTIONS_MAX {
            return Err(ProgramError::Length { found: len });
        }
        for (at, instruction) in instructions.iter().enumerate() {
            check(at, len, *instruction)?;
        }
        match instructions.last() {
            Some(Instruction { code: op::RET_K | op::RET_A, .. }) => Ok(Self { instructions }),
            _ => Err(ProgramError::NoReturn),
        }
    }

    /// The instructions, for the kernel.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Runs over a packet of a file; returns how many of its bytes are to be kept, 0 when it
    /// does not match. `wire_len` is its length before it was cut to `packet`.
    pub fn run(&self, packet: &[u8], wire_len: u32) -> u32 {
        self.run_with(packet, wire_len, &PacketFacts::default())
    }

    /// Runs over a packet as the kernel has it, VLAN tag and direction beside it.
    pub fn run_with(&self, packet: &[u8], wire_len: u32, facts: &PacketFacts) -> u32 {
        let mut machine =
            Machine { packet, wire_len, facts, a: 0, x: 0, scratch: [0; SCRATCH_WORDS] };
        // `None`: a load past the end, or a division by an X of zero.
        machine.run(&self.instructions).unwrap_or(0)
    }
}

fn check(at: usize, len: usize, instruction: Instruction) -> Result<(), ProgramError> {
    let Instruction { code, jt, jf, k } = instruction;
    let within = |skip: usize| at.checked_add(1 + skip).is_some_and(|target| target < len);
    let is_possible = match code {
        op::LD_W_ABS | op::LD_H_ABS | op::LD_B_ABS if k >= ancillary::FIRST => {
            let known = matches!(
                k,
                ancillary::PROTOCOL
                    | ancillary::PACKET_TYPE
                    | ancillary::INTERFACE
                    | ancillary::VLAN_TAG
                    | ancillary::VLAN_TAG_PRESENT
            );
            return if known { Ok(()) } else { Err(ProgramError::Unknown { at, code, k }) };
        }
        op::LD_W_ABS | op::LD_H_ABS | op::LD_B_ABS => true,
        op::LD_W_IND | op::LD_H_IND | op::LD_B_IND | op::LDX_MSH => true,
        op::LD_IMM | op::LD_LEN | op::LDX_IMM | op::LDX_LEN => true,
        op::LD_MEM | op::LDX_MEM | op::ST | op::STX => (k as usize) < SCRATCH_WORDS,
        op::RET_K | op::RET_A | op::TAX | op::TXA | op::NEG => true,
        op::JA => return jump_checked(at, within(k as usize)),
        _ => match code & !op::X {
            op::JEQ | op::JGT | op::JGE | op::JSET => {
                return jump_checked(at, within(jt.into()) && within(jf.into()));
            }
            op::ADD | op::SUB | op::MUL | op::OR | op::AND | op::XOR => true,
            op::DIV | op::MOD => code & op::X != 0 || k != 0,
            op::LSH | op::RSH => code & op::X != 0 || k < 32,
            _ => return Err(ProgramError::Unknown { at, code, k }),
        },
    };
    if is_possible { Ok(()) } else { Err(ProgramError::Operand { at, k }) }
}

const fn jump_checked(at: usize, is_within: bool) -> Result<(), ProgramError> {
    if is_within { Ok(()) } else { Err(ProgramError::Jump { at }) }
}

struct Machine<'a> {
    packet: &'a [u8],
    wire_len: u32,
    facts: &'a PacketFacts,
    a: u32,
    x: u32,
    scratch: [u32; SCRATCH_WORDS],
}

impl Machine<'_> {
    fn run(&mut self, instructions: &[Instruction]) -> Option<u32> {
        let mut at = 0_usize;
        loop {
            let Instruction { code, jt, jf, k } = *instructions.get(at)?;
            at += 1;
            let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match code {
                op::LD_H_ABS => self.a = self.absolute::<2>(k)?,
                op::LD_W_ABS => self.a = self.absolute::<4>(k)?,
                op::LD_B_ABS => self.a = self.absolute::<1>(k)?,
                op::JEQ => branch(self.a == k),
                op::JSET => branch(self.a & k != 0),
                op::JGT => branch(self.a > k),
                op::JGE => branch(self.a >= k),
                op::LDX_MSH => self.x = 4 * (self.bytes::<1>(k)? & 0xf),
                op::LD_H_IND => self.a = self.bytes::<2>(self.x.checked_add(k)?)?,
                op::LD_W_IND => self.a = self.bytes::<4>(self.x.checked_add(k)?)?,
                op::LD_B_IND => self.a = self.bytes::<1>(self.x.checked_add(k)?)?,
                op::RET_K => return Some(k),
                op::RET_A => return Some(self.a),
                op::JA => at += k as usize,
                op::LD_IMM => self.a = k,
                op::LD_MEM => self.a = *self.scratch.get(k as usize)?,
                op::LD_LEN => self.a = self.wire_len,
                op::LDX_IMM => self.x = k,
                op::LDX_MEM => self.x = *self.scratch.get(k as usize)?,
                op::LDX_LEN => self.x = self.wire_len,
                op::ST => *self.scratch.get_mut(k as usize)? = self.a,
                op::STX => *self.scratch.get_mut(k as usize)? = self.x,
                op::TAX => self.x = self.a,
                op::TXA => self.a = self.x,
                op::NEG => self.a = self.a.wrapping_neg(),
                _ => {
                    let operand = if code & op::X == 0 { k } else { self.x };
                    match code & !op::X {
                        op::JEQ => branch(self.a == operand),
                        op::JSET => branch(self.a & operand != 0),
                        op::JGT => branch(self.a > operand),
                        op::JGE => branch(self.a >= operand),
                        operation => self.a = apply(operation, self.a, operand)?,
                    }
                }
            }
        }
    }

    /// `LEN` bytes at `offset` as one number, or what the kernel knows when the offset says so.
    #[inline]
    fn absolute<const LEN: usize>(&self, offset: u32) -> Option<u32> {
        if offset < ancillary::FIRST { self.bytes::<LEN>(offset) } else { self.fact(offset) }
    }

    #[inline]
    fn bytes<const LEN: usize>(&self, offset: u32) -> Option<u32> {
        let bytes: &[u8; LEN] = self.packet.get(offset as usize..)?.first_chunk()?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn fact(&self, offset: u32) -> Option<u32> {
        match offset {
            ancillary::PROTOCOL => Some(self.facts.protocol.into()),
            ancillary::PACKET_TYPE => Some(self.facts.packet_type.into()),
            ancillary::INTERFACE => Some(self.facts.interface),
            ancillary::VLAN_TAG => Some(self.facts.vlan_tag.unwrap_or_default().into()),
            ancillary::VLAN_TAG_PRESENT => Some(self.facts.vlan_tag.is_some().into()),
            _ => None,
        }
    }
}

/// Arithmetic of 32 bits without overflow; none when it divides by zero. As libpcap's
/// interpreter, a shift by 32 or more leaves nothing.
pub(super) fn apply(operation: u16, a: u32, b: u32) -> Option<u32> {
    match operation {
        op::ADD => Some(a.wrapping_add(b)),
        op::SUB => Some(a.wrapping_sub(b)),
        op::MUL => Some(a.wrapping_mul(b)),
        op::DIV => a.checked_div(b),
        op::MOD => a.checked_rem(b),
        op::AND => Some(a & b),
        op::OR => Some(a | b),
        op::XOR => Some(a ^ b),
        op::LSH => Some(a.checked_shl(b).unwrap_or(0)),
        op::RSH => Some(a.checked_shr(b).unwrap_or(0)),
        _ => None,
    }
}
