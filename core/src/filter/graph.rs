//! Conditions into a program: a graph of tests, each with a way on for "holds" and for "does
//! not", in which tests whose outcome is known on the way are passed by, equal ends are shared,
//! and what is in the registers already is not loaded again.
//!
//! Every node's ways lead to nodes made before it, so falling numbers are an order in which
//! all jumps go forward.

use std::collections::HashMap;

use super::assembler::{Assembler, Label};
use super::ast::Joint;
use super::condition::{ByteTest, Condition};
use super::instruction::{Instruction, op};
use super::program::{Program, ProgramError};
use super::relation::holds;

/// Tests of a filter before any are left out.
const NODES_MAX: usize = 1 << 14;
/// Outcomes remembered on a way; the first ones are those that later tests ask for again.
const FACTS_MAX: usize = 32;
/// Rounds of leaving out; each makes room for the next, and few are ever needed.
const ROUNDS_MAX: usize = 16;

/// A node, or one of the two ends.
type NodeId = usize;
/// The packet does not match.
pub(super) const REJECT: NodeId = 0;
/// The packet matches.
pub(super) const ACCEPT: NodeId = 1;
const FIRST_NODE: NodeId = 2;

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Which of the tests.
    test: usize,
    then: NodeId,
    otherwise: NodeId,
}

/// The outcome of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fact {
    test: usize,
    holds: bool,
}

/// Too many tests.
#[derive(Debug)]
pub(super) struct TooLarge;

/// The graph while it grows.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    tests: Vec<ByteTest>,
    test_ids: HashMap<ByteTest, usize>,
    /// For each test the number of its loads: equal loads, equal numbers.
    loads: Vec<usize>,
    load_ids: HashMap<Vec<Instruction>, usize>,
}

impl Graph {
    /// Adds a condition; returns the node to begin with.
    pub(super) fn add(
        &mut self,
        condition: &Condition,
        then: NodeId,
        otherwise: NodeId,
    ) -> Result<NodeId, TooLarge> {
        match condition {
            Condition::Constant(holds) => Ok(if *holds { then } else { otherwise }),
            Condition::Not(inner) => self.add(inner, otherwise, then),
            Condition::Byte(test) => self.node(test, then, otherwise),
            Condition::Chain(first, rest) => {
                // From the last to the first: each part leads to those behind it.
                let (mut then, mut otherwise) = (then, otherwise);
                for (joint, part) in rest.iter().rev() {
                    let next = self.add(part, then, otherwise)?;
                    match joint {
                        Joint::And => then = next,
                        Joint::Or => otherwise = next,
                    }
                }
                self.add(first, then, otherwise)
            }
        }
    }

    fn node(
        &mut self,
        test: &ByteTest,
        then: NodeId,
        otherwise: NodeId,
    ) -> Result<NodeId, TooLarge> {
        if then == otherwise {
            return Ok(then);
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(TooLarge);
        }
        let test = self.test(test);
        self.nodes.push(Node { test, then, otherwise });
        Ok(self.nodes.len() - 1 + FIRST_NODE)
    }

    fn test(&mut self, test: &ByteTest) -> usize {
        if let Some(known) = self.test_ids.get(test) {
            return *known;
        }
        let next_load = self.load_ids.len();
        let load = *self.load_ids.entry(test.load.clone()).or_insert(next_load);
        self.loads.push(load);
        self.tests.push(test.clone());
        self.test_ids.insert(test.clone(), self.tests.len() - 1);
        self.tests.len() - 1
    }

    /// The program that begins with `entry` and keeps `keep_bytes` of what matches.
    ///
    /// # Errors
    /// When it is longer than the kernel takes.
    pub(super) fn program(
        &mut self,
        entry: NodeId,
        keep_bytes: u32,
    ) -> Result<Program, ProgramError> {
        let mut entry = entry;
        for _ in 0..ROUNDS_MAX {
            let is_shorter = self.leave_out(&mut entry);
            if !self.merge(&mut entry) && !is_shorter {
                break;
            }
        }
        self.emit(entry, keep_bytes)
    }

    /// Leads each way past tests whose outcome is known on it. Returns whether one was.
    fn leave_out(&mut self, entry: &mut NodeId) -> bool {
        let mut changed = false;
        let mut known: Vec<Option<Vec<Fact>>> = vec![None; self.nodes.len()];
        let first = self.past(*entry, &[]);
        changed |= first != *entry;
        *entry = first;
        if let Some(place) = entry.checked_sub(FIRST_NODE).and_then(|index| known.get_mut(index)) {
            *place = Some(Vec::new());
        }
        for index in (0..self.nodes.len()).rev() {
            let Some(facts) = known.get_mut(index).and_then(Option::take) else { continue };
            let Some(mut node) = self.nodes.get(index).copied() else { continue };
            for (way, holds) in [(&mut node.then, true), (&mut node.otherwise, false)] {
                let facts = self.with(&facts, Fact { test: node.test, holds });
                let target = self.past(*way, &facts);
                changed |= target != *way;
                *way = target;
                let place = target.checked_sub(FIRST_NODE).and_then(|target| known.get_mut(target));
                match place {
                    Some(Some(others)) => others.retain(|fact| facts.contains(fact)),
                    Some(place) => *place = Some(facts),
                    None => {}
                }
            }
            if let Some(place) = self.nodes.get_mut(index) {
                *place = node;
            }
        }
        changed
    }

    /// Leads ways to nodes that test the same and go on alike to the first of them. Returns
    /// whether there were any.
    fn merge(&mut self, entry: &mut NodeId) -> bool {
        let mut changed = false;
        let mut first: HashMap<(usize, NodeId, NodeId), NodeId> = HashMap::new();
        let mut alike: Vec<NodeId> = (0..self.nodes.len() + FIRST_NODE).collect();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            for way in [&mut node.then, &mut node.otherwise] {
                let target = alike.get(*way).copied().unwrap_or(*way);
                changed |= target != *way;
                *way = target;
            }
            let id = index + FIRST_NODE;
            let same = *first.entry((node.test, node.then, node.otherwise)).or_insert(id);
            let same = if node.then == node.otherwise { node.then } else { same };
            if let Some(place) = alike.get_mut(id) {
                *place = same;
            }
        }
        if let Some(target) = alike.get(*entry) {
            changed |= *target != *entry;
            *entry = *target;
        }
        changed
    }

    /// Where a way leads on which `facts` are known.
    fn past(&self, target: NodeId, facts: &[Fact]) -> NodeId {
        let mut target = target;
        while let Some(node) = self.of(target) {
            target = match self.outcome(node.test, facts) {
                Some(true) => node.then,
                Some(false) => node.otherwise,
                None if node.then == node.otherwise => node.then,
                None => break,
            };
        }
        target
    }

    /// What a test will say, as far as the facts tell.
    fn outcome(&self, test: usize, facts: &[Fact]) -> Option<bool> {
        let asked = self.tests.get(test)?;
        facts.iter().find_map(|fact| {
            if fact.test == test {
                return Some(fact.holds);
            }
            let given = self.tests.get(fact.test)?;
            let by_constants = (asked.code | given.code) & op::X == 0;
            if self.loads.get(test) != self.loads.get(fact.test) || !by_constants {
                return None;
            }
            if given.code == op::JEQ && fact.holds {
                return Some(holds(asked.code, given.k, asked.k));
            }
            // A number that the fact rules out is not the one asked for.
            let is_ruled_out =
                asked.code == op::JEQ && holds(given.code, asked.k, given.k) != fact.holds;
            is_ruled_out.then_some(false)
        })
    }

    fn with(&self, facts: &[Fact], news: Fact) -> Vec<Fact> {
        let is_exact = |fact: Fact| {
            fact.holds && self.tests.get(fact.test).is_some_and(|test| test.code == op::JEQ)
        };
        let load = |fact: Fact| self.loads.get(fact.test);
        let mut facts: Vec<Fact> = facts.to_vec();
        if is_exact(news) {
            // All else about this number follows.
            facts.retain(|fact| load(*fact) != load(news));
        }
        if facts.len() < FACTS_MAX {
            facts.push(news);
        }
        facts
    }

    fn of(&self, id: NodeId) -> Option<Node> {
        self.nodes.get(id.checked_sub(FIRST_NODE)?).copied()
    }

    fn emit(&self, entry: NodeId, keep_bytes: u32) -> Result<Program, ProgramError> {
        let mut assembler = Assembler::default();
        let labels: Vec<Label> =
            (0..self.nodes.len() + FIRST_NODE).map(|_| assembler.label()).collect();
        let mut before: Vec<Option<Registers>> = vec![None; labels.len()];
        let unknown = Registers { load: None, header: None };
        if let Some(place) = before.get_mut(entry) {
            *place = Some(unknown);
        }
        for id in (FIRST_NODE..labels.len()).rev() {
            let Some(registers) = before.get(id).copied().flatten() else { continue };
            let (Some(node), Some(label)) = (self.of(id), labels.get(id)) else { continue };
            assembler.bind(*label);
            let after = self.emit_load(&mut assembler, node.test, registers);
            if let (Some(test), Some(then), Some(otherwise)) =
                (self.tests.get(node.test), labels.get(node.then), labels.get(node.otherwise))
            {
                assembler.jump(test.code, test.k, *then, *otherwise);
            }
            for target in [node.then, node.otherwise] {
                if let Some(place) = before.get_mut(target) {
                    *place = Some(place.map_or(after, |other| other.shared_with(after)));
                }
            }
        }
        for (end, bytes) in [(ACCEPT, keep_bytes), (REJECT, 0)] {
            if let (Some(Some(_)), Some(label)) = (before.get(end), labels.get(end)) {
                assembler.bind(*label);
                assembler.push(op::RET_K, bytes);
            }
        }
        assembler.finish()
    }

    /// Loads what the test needs and the registers do not hold yet.
    fn emit_load(&self, assembler: &mut Assembler, test: usize, registers: Registers) -> Registers {
        let (Some(byte_test), Some(load)) = (self.tests.get(test), self.loads.get(test)) else {
            return registers;
        };
        if registers.load == Some(*load) && byte_test.code & op::X == 0 {
            return registers;
        }
        let mut header = registers.header;
        for (index, instruction) in byte_test.load.iter().enumerate() {
            let is_there =
                index == 0 && instruction.code == op::LDX_MSH && header == Some(instruction.k);
            if !is_there {
                assembler.push(instruction.code, instruction.k);
            }
            header = match instruction.code {
                op::LDX_MSH => Some(instruction.k),
                op::TAX | op::LDX_IMM | op::LDX_LEN | op::LDX_MEM => None,
                _ => header,
            };
        }
        Registers { load: Some(*load), header }
    }
}

/// What is known to be in A and X.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registers {
    /// What these loads bring into A.
    load: Option<usize>,
    /// X is the length of the IPv4 header that begins here.
    header: Option<u32>,
}

impl Registers {
    fn shared_with(self, other: Self) -> Self {
        Self {
            load: self.load.filter(|load| other.load == Some(*load)),
            header: self.header.filter(|header| other.header == Some(*header)),
        }
    }
}
