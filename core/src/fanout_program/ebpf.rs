//! A fanout program in eBPF (PACKET_FANOUT_EBPF), instruction for instruction from the classic
//! one: A is r0, X is r7, scratch memory is on the stack, and packet bytes are loaded by the
//! legacy instructions, which end the program with 0 past the end of a packet as classic BPF
//! does. No helper is called and no map is used.

use crate::filter::Program;
use crate::filter::instruction::{Instruction, ancillary, op};

/// One instruction of eBPF (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EbpfInstruction {
    code: u8,
    dst: u8,
    src: u8,
    offset: i16,
    constant: u32,
}

/// A classic instruction that fanout programs do not use.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("instruction {at} of the classic program (opcode {code:#x}) has no counterpart here")]
pub struct Untranslatable {
    /// Which, from 0.
    pub at: usize,
    /// Its opcode.
    pub code: u16,
}

/// A and the result.
const R0: u8 = 0;
/// The packet, at the begin.
const R1: u8 = 1;
/// The packet, where the load instructions look for it.
const R6: u8 = 6;
/// X.
const R7: u8 = 7;
/// The end of the stack.
const R10: u8 = 10;

// linux/bpf.h
const MOVE_64: u8 = 0xbf;
const MOVE_32: u8 = 0xbc;
const MOVE_32_CONSTANT: u8 = 0xb4;
const LOAD_WORD: u8 = 0x61;
const STORE_WORD: u8 = 0x63;
const TO_BIG_ENDIAN: u8 = 0xdc;
const JUMP: u8 = 0x05;
const EXIT: u8 = 0x95;
/// Class of arithmetic on 32 bits, and "the operand is a register".
const ALU_32: u16 = 0x04;
const JUMP_32: u8 = 0x06;

/// Where facts stand in `struct __sk_buff`.
const PACKET_TYPE_AT: i16 = 4;
const PROTOCOL_AT: i16 = 16;

impl EbpfInstruction {
    /// As the kernel reads it on this machine.
    pub fn bytes(&self) -> [u8; 8] {
        let registers = if cfg!(target_endian = "big") {
            self.dst << 4 | self.src
        } else {
            self.src << 4 | self.dst
        };
        let [offset0, offset1] = self.offset.to_ne_bytes();
        let [c0, c1, c2, c3] = self.constant.to_ne_bytes();
        [self.code, registers, offset0, offset1, c0, c1, c2, c3]
    }

    const fn new(code: u8, dst: u8, src: u8, offset: i16, constant: u32) -> Self {
        Self { code, dst, src, offset, constant }
    }
}

/// The same program in eBPF.
///
/// # Errors
/// When it has an instruction that fanout programs do not use, or jumps farther than eBPF can.
pub fn translate(program: &Program) -> Result<Vec<EbpfInstruction>, Untranslatable> {
    let classic = program.instructions();
    // A and X begin with 0, as in classic BPF.
    let prologue = [
        EbpfInstruction::new(MOVE_64, R6, R1, 0, 0),
        EbpfInstruction::new(MOVE_32_CONSTANT, R0, 0, 0, 0),
        EbpfInstruction::new(MOVE_32_CONSTANT, R7, 0, 0, 0),
    ];
    // Where each classic instruction's translation begins.
    let mut starts = Vec::with_capacity(classic.len());
    let mut next = 0;
    for (at, instruction) in classic.iter().enumerate() {
        starts.push(next);
        next += match instruction.code {
            op::JA => 1,
            code if is_jump(code) => 2,
            _ => plain(at, *instruction)?.len(),
        };
    }
    let mut out = prologue.to_vec();
    for (at, instruction) in classic.iter().enumerate() {
        let Instruction { code, jt, jf, k } = *instruction;
        let fault = || Untranslatable { at, code };
        let distance = |skip: usize, from: usize| -> Option<i16> {
            let target: usize = *starts.get(at.checked_add(1)?.checked_add(skip)?)?;
            i16::try_from(target.checked_sub(from)?).ok()
        };
        let here = starts.get(at).copied().ok_or_else(fault)?;
        if code == op::JA {
            let skip = distance(k as usize, here + 1).ok_or_else(fault)?;
            out.push(EbpfInstruction::new(JUMP, 0, 0, skip, 0));
        } else if is_jump(code) {
            let then = distance(jt.into(), here + 1).ok_or_else(fault)?;
            let otherwise = distance(jf.into(), here + 2).ok_or_else(fault)?;
            let operation = low(code & 0xf0);
            let register = low(code & op::X);
            let source = if register == 0 { 0 } else { R7 };
            out.push(EbpfInstruction::new(JUMP_32 | operation | register, R0, source, then, k));
            out.push(EbpfInstruction::new(JUMP, 0, 0, otherwise, 0));
        } else {
            out.extend(plain(at, *instruction)?);
        }
    }
    Ok(out)
}

fn is_jump(code: u16) -> bool {
    matches!(code & !op::X, op::JEQ | op::JGT | op::JGE | op::JSET)
}

/// What an instruction that is no jump becomes.
fn plain(at: usize, instruction: Instruction) -> Result<Vec<EbpfInstruction>, Untranslatable> {
    let Instruction { code, k, .. } = instruction;
    let new = EbpfInstruction::new;
    let one = match code {
        op::LD_H_ABS if k == ancillary::PROTOCOL => {
            return Ok(vec![
                new(LOAD_WORD, R0, R6, PROTOCOL_AT, 0),
                new(TO_BIG_ENDIAN, R0, 0, 0, 16),
            ]);
        }
        op::LD_B_ABS if k == ancillary::PACKET_TYPE => new(LOAD_WORD, R0, R6, PACKET_TYPE_AT, 0),
        op::LD_W_ABS | op::LD_H_ABS | op::LD_B_ABS if k < ancillary::FIRST => {
            new(low(code), 0, 0, 0, k)
        }
        op::LD_W_IND | op::LD_H_IND | op::LD_B_IND => new(low(code), 0, R7, 0, k),
        op::LD_IMM => new(MOVE_32_CONSTANT, R0, 0, 0, k),
        op::LDX_IMM => new(MOVE_32_CONSTANT, R7, 0, 0, k),
        op::LD_MEM => new(LOAD_WORD, R0, R10, slot(k), 0),
        op::LDX_MEM => new(LOAD_WORD, R7, R10, slot(k), 0),
        op::ST => new(STORE_WORD, R10, R0, slot(k), 0),
        op::STX => new(STORE_WORD, R10, R7, slot(k), 0),
        op::TAX => new(MOVE_32, R7, R0, 0, 0),
        op::TXA => new(MOVE_32, R0, R7, 0, 0),
        op::RET_A => new(EXIT, 0, 0, 0, 0),
        op::RET_K => {
            return Ok(vec![new(MOVE_32_CONSTANT, R0, 0, 0, k), new(EXIT, 0, 0, 0, 0)]);
        }
        _ => match code & !op::X {
            op::ADD | op::SUB | op::MUL | op::OR | op::AND | op::LSH | op::RSH | op::XOR => {
                let register = low(code & op::X);
                let (source, constant) = if register == 0 { (0, k) } else { (R7, 0) };
                new(low(ALU_32 | code & 0xf0) | register, R0, source, 0, constant)
            }
            _ => return Err(Untranslatable { at, code }),
        },
    };
    Ok(vec![one])
}

/// A word of scratch memory, from the end of the stack. A [`Program`] uses sixteen at most.
fn slot(word: u32) -> i16 {
    let word = i16::try_from(word).unwrap_or_default();
    -4 * (word + 1)
}

/// Classic opcodes of instructions fit eight bits.
fn low(code: u16) -> u8 {
    u8::try_from(code & 0xff).unwrap_or_default()
}
