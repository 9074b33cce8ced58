//! Filter expressions of tcpdump (pcap-filter(7)), compiled to classic BPF: the same text
//! filters live packets in the kernel and packets of a file in [`Program::run`]. What is
//! taken and what is not: docs/filters.md. tcpdump is the oracle of the tests.
//!
//! Text → `lexer` → `parser` → meaning (`ast`) → `codegen` for one kind of link →
//! tests of bytes (`condition`) → `graph` without needless tests → [`Program`].

mod arithmetic;
pub mod assembler;
mod ast;
mod codegen;
mod condition;
mod error;
mod graph;
pub mod instruction;
mod lexer;
mod link;
mod names;
mod operand;
mod parser;
mod program;
mod relation;

pub use self::error::FilterError;
pub use self::instruction::Instruction;
pub use self::program::{PacketFacts, Program, ProgramError};

use self::ast::{Expression, Test};
use self::codegen::{Generator, OuterTag};
use self::condition::Condition;
use self::graph::{ACCEPT, Graph, REJECT, TooLarge};
use self::instruction::{INSTRUCTIONS_MAX, ancillary, op};
use self::link::Link;

/// A filter that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    text: String,
    /// None: the text is empty, all packets match.
    expression: Option<Expression>,
}

/// Where the packets come from. A matching packet is kept up to `snaplen` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A packet socket of Linux: the kernel has taken the outer VLAN tag out of the frame and
    /// holds it beside. So tests before `vlan` see through an outer tag, as in tcpdump.
    Live {
        /// Bytes kept of a packet that matches; 0 counts as 1, as 0 means "no match".
        snaplen: u32,
    },
    /// A capture file: only the bytes count.
    File {
        /// Bytes kept of a packet that matches; 0 counts as 1, as 0 means "no match".
        snaplen: u32,
    },
}

impl Filter {
    /// Reads a filter. An empty one matches all packets.
    ///
    /// # Errors
    /// Where it is no filter: the column, what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let is_empty = text.trim().is_empty();
        let expression = if is_empty { None } else { Some(parser::parse(text)?) };
        Ok(Self { text: text.to_owned(), expression })
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The program for packets of a link type
    /// (<https://www.tcpdump.org/linktypes.html>; DLT numbers of raw IP are taken too).
    ///
    /// # Errors
    /// When this kind of link does not have what the filter asks for, no packet can match, or
    /// the program is longer than the kernel takes.
    pub fn compile(&self, link_type: u32, target: Target) -> Result<Program, FilterError> {
        let (Target::Live { snaplen } | Target::File { snaplen }) = target;
        let keep_bytes = snaplen.max(1);
        let Some(expression) = &self.expression else {
            return Program::new(vec![Instruction::new(op::RET_K, keep_bytes)]).map_err(too_long);
        };
        let link = Link::of(link_type).ok_or_else(|| {
            let expected = "Ethernet, raw IP, Linux cooked, BSD loopback or PPP";
            FilterError::expected(1, &format!("link type {link_type}"), expected)
        })?;
        let condition = |tag| Generator::new(link, target, tag).expression(expression);
        let in_frame = condition(OuterTag::InFrame)?;
        let mut graph = Graph::default();
        let mut entry = graph.add(&in_frame, ACCEPT, REJECT).map_err(too_large)?;
        let is_live = matches!(target, Target::Live { .. });
        if is_live && link == Link::Ethernet && mentions_vlan(expression) {
            // Everything twice, as all offsets depend on where the tag is.
            let extracted = condition(OuterTag::Extracted)?;
            let extracted = graph.add(&extracted, ACCEPT, REJECT).map_err(too_large)?;
            let load = vec![Instruction::new(op::LD_B_ABS, ancillary::VLAN_TAG_PRESENT)];
            let is_extracted = Condition::test(load, op::JEQ, 1);
            entry = graph.add(&is_extracted, extracted, entry).map_err(too_large)?;
        }
        let program = graph.program(entry, keep_bytes).map_err(too_long)?;
        match program.instructions() {
            [Instruction { code: op::RET_K, k: 0, .. }] => {
                let message = format!("no packet of {} can match", link.name());
                Err(FilterError::new(1, message))
            }
            _ => Ok(program),
        }
    }
}

fn mentions_vlan(expression: &Expression) -> bool {
    match expression {
        Expression::Chain(first, rest) => {
            mentions_vlan(first) || rest.iter().any(|(_, part)| mentions_vlan(part))
        }
        Expression::Not(inner) => mentions_vlan(inner),
        Expression::Test { test, .. } => matches!(test, Test::Vlan(_)),
    }
}

fn too_large(_: TooLarge) -> FilterError {
    let message = "the filter has too many tests";
    FilterError::new(1, message)
        .hint("networks (`net 10.0.0.0/8`) and `portrange` say more at once")
}

fn too_long(error: ProgramError) -> FilterError {
    let found = match error {
        ProgramError::Length { found } => found,
        // The other faults cannot come from a graph whose jumps all go forward.
        _ => INSTRUCTIONS_MAX,
    };
    let message =
        format!("the filter makes {found} instructions; the kernel takes {INSTRUCTIONS_MAX}");
    FilterError::new(1, message)
        .hint("networks (`net 10.0.0.0/8`) and `portrange` say more at once")
}
