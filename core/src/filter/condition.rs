//! A filter as tests of bytes at fixed places, joined by `and`, `or` and `not`: between the
//! language and the program. Each test loads all that it needs, so that tests can be left out
//! or reached from anywhere.

use super::ast::Joint;
use super::instruction::{Instruction, op};

/// What must hold for a packet to match.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Always or never.
    Constant(bool),
    /// One test.
    Byte(ByteTest),
    /// Parts joined from left to right; a part is only tried when it matters.
    Chain(Box<Condition>, Vec<(Joint, Condition)>),
    /// The opposite.
    Not(Box<Condition>),
}

/// Loads a number and compares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ByteTest {
    /// Brings the number into A, and for a comparison with X that into X.
    pub(super) load: Vec<Instruction>,
    /// The jump's opcode.
    pub(super) code: u16,
    /// What A is compared with.
    pub(super) k: u32,
}

/// Size of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Byte,
    Half,
    Word,
}

impl Size {
    const fn all_ones(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => u32::MAX,
        }
    }

    /// `ld [k]` of this size.
    pub(super) const fn absolute(self) -> u16 {
        match self {
            Self::Byte => op::LD_B_ABS,
            Self::Half => op::LD_H_ABS,
            Self::Word => op::LD_W_ABS,
        }
    }

    /// `ld [x + k]` of this size.
    pub(super) const fn indexed(self) -> u16 {
        match self {
            Self::Byte => op::LD_B_IND,
            Self::Half => op::LD_H_IND,
            Self::Word => op::LD_W_IND,
        }
    }
}

impl Condition {
    /// Bytes at `offset` are `value`.
    pub(super) fn equal(size: Size, offset: u32, value: u32) -> Self {
        Self::masked(size, offset, size.all_ones(), value)
    }

    /// Bytes at `offset` are `value` where `mask` has ones.
    pub(super) fn masked(size: Size, offset: u32, mask: u32, value: u32) -> Self {
        if mask == 0 {
            return Self::Constant(value == 0);
        }
        let mut load = vec![Instruction::new(size.absolute(), offset)];
        if mask != size.all_ones() {
            load.push(Instruction::new(op::AND, mask));
        }
        Self::test(load, op::JEQ, value)
    }

    /// Bytes at `offset` compared by a jump.
    pub(super) fn compared(size: Size, offset: u32, code: u16, value: u32) -> Self {
        Self::test(vec![Instruction::new(size.absolute(), offset)], code, value)
    }

    /// A test of what `load` brings into A.
    pub(super) fn test(load: Vec<Instruction>, code: u16, k: u32) -> Self {
        Self::Byte(ByteTest { load, code, k })
    }

    /// Both; `other` is only tried when this holds.
    pub(super) fn and(self, other: Self) -> Self {
        self.join(Joint::And, other)
    }

    /// One at least; `other` is only tried when this does not hold.
    pub(super) fn or(self, other: Self) -> Self {
        self.join(Joint::Or, other)
    }

    /// The opposite.
    pub(super) fn negate(self) -> Self {
        match self {
            Self::Constant(holds) => Self::Constant(!holds),
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// This joined with what follows.
    pub(super) fn join(self, joint: Joint, other: Self) -> Self {
        match (self, joint, other) {
            (Self::Constant(true), Joint::And, other)
            | (Self::Constant(false), Joint::Or, other) => other,
            (Self::Constant(false), Joint::And, _) => Self::Constant(false),
            (Self::Constant(true), Joint::Or, _) => Self::Constant(true),
            (this, Joint::And, Self::Constant(true)) | (this, Joint::Or, Self::Constant(false)) => {
                this
            }
            (Self::Chain(first, mut rest), joint, other) => {
                rest.push((joint, other));
                Self::Chain(first, rest)
            }
            (this, joint, other) => Self::Chain(Box::new(this), vec![(joint, other)]),
        }
    }
}
