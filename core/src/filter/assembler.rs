//! Puts a program together from instructions and jumps to labels. All jumps go forward; a
//! conditional jump too far for its eight bits goes through an unconditional one behind it.

use super::instruction::{Instruction, op};
use super::program::{Program, ProgramError};

/// Instructions that a conditional jump can skip.
const SKIP_MAX: usize = u8::MAX as usize;

/// A place in the program, known before the program is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// The program so far.
#[derive(Debug, Default)]
pub struct Assembler {
    items: Vec<Item>,
    /// For each label the item that it stands before.
    labels: Vec<Option<usize>>,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Plain(Instruction),
    Jump { code: u16, k: u32, then: Label, otherwise: Label },
    Goto(Label),
}

impl Assembler {
    /// A label that stands nowhere yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Lets `label` stand before what comes next.
    pub fn bind(&mut self, label: Label) {
        let here = self.items.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(here);
        }
    }

    /// Adds an instruction that is no jump.
    pub fn push(&mut self, code: u16, k: u32) {
        self.items.push(Item::Plain(Instruction::new(code, k)));
    }

    /// Adds a conditional jump.
    pub fn jump(&mut self, code: u16, k: u32, then: Label, otherwise: Label) {
        self.items.push(Item::Jump { code, k, then, otherwise });
    }

    /// Adds a jump.
    pub fn goto(&mut self, label: Label) {
        self.items.push(Item::Goto(label));
    }

    /// The program.
    ///
    /// # Errors
    /// When a label stands nowhere or behind a jump to it, or the program is too long.
    pub fn finish(self) -> Result<Program, ProgramError> {
        // How many instructions each item becomes. Only grows, so this ends.
        let mut sizes: Vec<usize> = vec![1; self.items.len()];
        loop {
            let starts = starts(&sizes);
            let mut grown = false;
            for (index, item) in self.items.iter().enumerate() {
                let Item::Jump { then, otherwise, .. } = *item else { continue };
                let next = start(&starts, index)? + 1;
                let far = [then, otherwise]
                    .into_iter()
                    .map(|label| Ok(self.skip(&starts, label, next)? > SKIP_MAX))
                    .collect::<Result<Vec<bool>, ProgramError>>()?;
                let size = 1 + far.into_iter().filter(|is_far| *is_far).count();
                let before = sizes.get_mut(index).filter(|before| **before < size);
                grown |= before.map(|before| *before = size).is_some();
            }
            if !grown {
                return Program::new(self.instructions(&sizes, &starts)?);
            }
        }
    }

    fn instructions(
        &self,
        sizes: &[usize],
        starts: &[usize],
    ) -> Result<Vec<Instruction>, ProgramError> {
        let mut out = Vec::with_capacity(starts.len());
        for (index, (item, size)) in self.items.iter().zip(sizes).enumerate() {
            let at = start(starts, index)?;
            match *item {
                Item::Plain(instruction) => out.push(instruction),
                Item::Goto(label) => {
                    out.push(Instruction::new(
                        op::JA,
                        narrow(self.skip(starts, label, at + 1)?, at)?,
                    ));
                }
                Item::Jump { code, k, then, otherwise } => {
                    let mut relays = Vec::new();
                    let mut skips = [0_u8; 2];
                    for (skip, label) in skips.iter_mut().zip([then, otherwise]) {
                        let distance = self.skip(starts, label, at + 1)?;
                        let needs_relay = distance > SKIP_MAX;
                        let distance = if needs_relay {
                            let relay = relays.len();
                            relays.push(self.skip(starts, label, at + 2 + relay)?);
                            relay
                        } else {
                            distance
                        };
                        *skip = u8::try_from(distance).map_err(|_| ProgramError::Jump { at })?;
                    }
                    out.push(Instruction::jump(code, k, skips[0], skips[1]));
                    for relay in &relays {
                        out.push(Instruction::new(op::JA, narrow(*relay, at)?));
                    }
                    // Distances only grow with the sizes: what needed a relay needs it still.
                    debug_assert_eq!(1 + relays.len(), *size);
                }
            }
        }
        Ok(out)
    }

    /// Instructions between `from` and the label.
    fn skip(&self, starts: &[usize], label: Label, from: usize) -> Result<usize, ProgramError> {
        let place = self.labels.get(label.0).copied().flatten();
        place
            .and_then(|item| starts.get(item).copied())
            .and_then(|target| target.checked_sub(from))
            .ok_or(ProgramError::Jump { at: from })
    }
}

fn start(starts: &[usize], index: usize) -> Result<usize, ProgramError> {
    starts.get(index).copied().ok_or(ProgramError::Jump { at: index })
}

fn narrow(skip: usize, at: usize) -> Result<u32, ProgramError> {
    u32::try_from(skip).map_err(|_| ProgramError::Jump { at })
}

/// Where each item's instructions begin; at the end the program's length.
fn starts(sizes: &[usize]) -> Vec<usize> {
    let mut next = 0;
    let mut starts = Vec::with_capacity(sizes.len() + 1);
    for size in sizes {
        starts.push(next);
        next += size;
    }
    starts.push(next);
    starts
}
