//! Comparisons of numbers into tests: instructions that bring the left side into A, and the
//! right side into X when it is no constant.

use super::ast::{Number, Relation};
use super::codegen::{Generator, IP6_HEADER_LEN};
use super::condition::{Condition, Size};
use super::error::FilterError;
use super::instruction::{Instruction, SCRATCH_WORDS, op};
use super::names::Protocol;

/// Largest constant index: no packet is longer, and far behind it stand the offsets that mean
/// something else to the kernel.
const INDEX_MAX: u32 = 1 << 18;

impl Generator {
    pub(super) fn relation(
        &self,
        left: &Number,
        relation: Relation,
        right: &Number,
    ) -> Result<Condition, FilterError> {
        let (code, is_opposite) = match relation {
            Relation::Equal => (op::JEQ, false),
            Relation::NotEqual => (op::JEQ, true),
            Relation::Greater => (op::JGT, false),
            Relation::LessOrEqual => (op::JGT, true),
            Relation::GreaterOrEqual => (op::JGE, false),
            Relation::Less => (op::JGE, true),
        };
        let test = match (left, right) {
            (Number::Constant(left), Number::Constant(right)) => {
                Condition::Constant(holds(code, *left, *right))
            }
            (_, Number::Constant(right)) => {
                let mut load = Vec::new();
                self.number(left, 0, &mut load)?;
                with_constant(load, code, *right)
            }
            _ => {
                let mut load = Vec::new();
                self.both(left, right, 0, &mut load)?;
                Condition::test(load, code | op::X, 0)
            }
        };
        let test = if is_opposite { test.negate() } else { test };
        // Of a packet of another protocol neither the relation nor its opposite holds.
        Ok(self.presence(left)?.and(self.presence(right)?).and(test))
    }

    /// The packet has the headers whose bytes are meant.
    fn presence(&self, number: &Number) -> Result<Condition, FilterError> {
        match number {
            Number::Constant(_) | Number::PacketLength => Ok(Condition::Constant(true)),
            Number::Negative(inner) => self.presence(inner),
            Number::Operation { left, right, .. } => {
                Ok(self.presence(left)?.and(self.presence(right)?))
            }
            Number::Bytes { protocol, index, column, .. } => {
                let own = match (protocol.ethernet_type(), protocol.over_ip()) {
                    (None, Some((number, _))) if *protocol == Protocol::Icmp6 => self
                        .is_protocol(Protocol::Ip6, *column)?
                        .and(self.network(Size::Byte, 6, number)),
                    (None, Some((number, _))) => self
                        .is_protocol(Protocol::Ip, *column)?
                        .and(self.ipv4_protocol(number))
                        .and(self.not_a_later_fragment()),
                    _ => self.is_protocol(*protocol, *column)?,
                };
                Ok(self.presence(index)?.and(own))
            }
        }
    }

    /// Brings a number into A. Scratch words from `scratch` on are free.
    fn number(
        &self,
        number: &Number,
        scratch: u32,
        out: &mut Vec<Instruction>,
    ) -> Result<(), FilterError> {
        match number {
            Number::Constant(constant) => out.push(Instruction::new(op::LD_IMM, *constant)),
            Number::PacketLength => out.push(Instruction::new(op::LD_LEN, 0)),
            Number::Negative(inner) => {
                self.number(inner, scratch, out)?;
                out.push(Instruction::new(op::NEG, 0));
            }
            Number::Operation { operation, left, right } => {
                if let Number::Constant(constant) = **right {
                    self.number(left, scratch, out)?;
                    out.push(Instruction::new(*operation, constant));
                } else {
                    self.both(left, right, scratch, out)?;
                    out.push(Instruction::new(*operation | op::X, 0));
                }
            }
            Number::Bytes { protocol, index, size, column } => {
                self.bytes(*protocol, index, size_of(*size), *column, scratch, out)?;
            }
        }
        Ok(())
    }

    /// Brings `left` into A and `right` into X.
    fn both(
        &self,
        left: &Number,
        right: &Number,
        scratch: u32,
        out: &mut Vec<Instruction>,
    ) -> Result<(), FilterError> {
        if scratch as usize >= SCRATCH_WORDS {
            let message = format!("more than {SCRATCH_WORDS} operations wait for another");
            return Err(FilterError::new(1, message).hint("compare in several tests"));
        }
        self.number(left, scratch, out)?;
        out.push(Instruction::new(op::ST, scratch));
        self.number(right, scratch + 1, out)?;
        out.push(Instruction::new(op::TAX, 0));
        out.push(Instruction::new(op::LD_MEM, scratch));
        Ok(())
    }

    fn bytes(
        &self,
        protocol: Protocol,
        index: &Number,
        size: Size,
        column: usize,
        scratch: u32,
        out: &mut Vec<Instruction>,
    ) -> Result<(), FilterError> {
        let (base, behind_ipv4) = match protocol {
            Protocol::Link => (self.link_at, false),
            Protocol::Icmp6 => (self.network_at + IP6_HEADER_LEN, false),
            _ => (self.network_at, protocol.over_ip().is_some()),
        };
        let header = Instruction::new(op::LDX_MSH, self.network_at);
        if let Number::Constant(index) = *index {
            if index > INDEX_MAX {
                let expected = format!("an index from 0 to {INDEX_MAX}");
                return Err(FilterError::expected(column, &index.to_string(), &expected));
            }
            if behind_ipv4 {
                out.push(header);
                out.push(Instruction::new(size.indexed(), base + index));
            } else {
                out.push(Instruction::new(size.absolute(), base + index));
            }
            return Ok(());
        }
        self.number(index, scratch, out)?;
        if behind_ipv4 {
            out.push(header);
            out.push(Instruction::new(op::ADD | op::X, 0));
        }
        out.push(Instruction::new(op::TAX, 0));
        out.push(Instruction::new(size.indexed(), base));
        Ok(())
    }
}

/// Compares A with a constant; `A & k == 0` is one jump.
fn with_constant(mut load: Vec<Instruction>, code: u16, k: u32) -> Condition {
    match load.last() {
        Some(Instruction { code: op::AND, k: mask, .. }) if code == op::JEQ && k == 0 => {
            let mask = *mask;
            load.pop();
            Condition::test(load, op::JSET, mask).negate()
        }
        _ => Condition::test(load, code, k),
    }
}

/// Whether a jump's test holds for constants.
pub(super) const fn holds(code: u16, a: u32, k: u32) -> bool {
    match code {
        op::JEQ => a == k,
        op::JGT => a > k,
        op::JGE => a >= k,
        _ => a & k != 0,
    }
}

const fn size_of(bytes: u8) -> Size {
    match bytes {
        1 => Size::Byte,
        2 => Size::Half,
        _ => Size::Word,
    }
}
