//! What happens on a fuzzed connection: made from the fuzzer's bytes alone, the same each time.

use tyto_core::net::{Proto, Side};

use crate::seeds::Seed;

/// Steps of one connection.
const STEPS_MAX: usize = 400;
/// Edits of one seed.
const EDITS_MAX: usize = 24;
/// Values that break lengths and counters.
const NASTY: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe, b'\n', b' '];

/// Something that happens to an analyzer.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Bytes(Side, Vec<u8>),
    Gap(Side, u64),
    EndOfSide(Side),
    Flip,
    /// Time passes, seconds.
    Pause(u64),
}

/// A connection's life.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) proto: Proto,
    pub(crate) steps: Vec<Step>,
}

/// The fuzzer's bytes, taken from the front; zeros when they are used up.
struct Dice<'a>(&'a [u8]);

impl Dice<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { self.number() % limit }
    }

    fn side(&mut self) -> Side {
        if self.byte() & 1 == 0 { Side::Orig } else { Side::Resp }
    }
}

impl Script {
    /// Damage to one of `seeds`, or the input as it is.
    pub(crate) fn of(input: &[u8], seeds: &[Seed]) -> Self {
        let mut dice = Dice(input);
        let kind = dice.byte();
        if seeds.is_empty() || kind & 7 == 0 {
            let proto = if kind & 8 == 0 { Proto::Tcp } else { Proto::Udp };
            return Self { proto, steps: raw(&mut dice) };
        }
        let seed = &seeds[dice.below(seeds.len())];
        let mut steps: Vec<Step> = seed
            .messages
            .iter()
            .take(STEPS_MAX)
            .map(|(side, bytes)| Step::Bytes(*side, bytes.clone()))
            .collect();
        for _ in 0..dice.below(EDITS_MAX) {
            edit(&mut steps, &mut dice);
        }
        Self { proto: seed.proto, steps }
    }
}

fn raw(dice: &mut Dice<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    while !dice.0.is_empty() && steps.len() < STEPS_MAX {
        let side = dice.side();
        let len = dice.below(300).min(dice.0.len());
        let (bytes, rest) = dice.0.split_at(len);
        steps.push(Step::Bytes(side, bytes.to_vec()));
        dice.0 = rest;
    }
    steps
}

/// Damages one place.
fn edit(steps: &mut Vec<Step>, dice: &mut Dice<'_>) {
    if steps.is_empty() {
        return;
    }
    let kind = dice.byte() % 14;
    let at = dice.below(steps.len());
    match kind {
        0 => steps[at] = Step::Gap(dice.side(), dice.number() as u64),
        1 => steps.insert(at, Step::EndOfSide(dice.side())),
        2 => steps.insert(at, Step::Flip),
        3 => steps.insert(at, Step::Pause(dice.number() as u64)),
        4 => steps.truncate(at),
        5 => {
            let other = dice.below(steps.len());
            steps.swap(at, other);
        }
        6 if steps.len() < STEPS_MAX => steps.insert(at, steps[at].clone()),
        7 => split(steps, at, dice),
        _ => {
            let Step::Bytes(side, bytes) = &mut steps[at] else { return };
            damage(side, bytes, kind, dice);
        }
    }
}

/// Cuts a message in two, or into single bytes.
fn split(steps: &mut Vec<Step>, at: usize, dice: &mut Dice<'_>) {
    let Step::Bytes(side, bytes) = steps[at].clone() else { return };
    let width = if dice.byte() & 1 == 0 { 1 } else { dice.below(bytes.len()).max(1) };
    let pieces = bytes.chunks(width).map(|piece| Step::Bytes(side, piece.to_vec()));
    steps.splice(at..=at, pieces);
}

fn damage(side: &mut Side, bytes: &mut Vec<u8>, kind: u8, dice: &mut Dice<'_>) {
    let at = dice.below(bytes.len() + 1);
    let end = (at + dice.below(64)).min(bytes.len());
    match kind {
        8 => *side = side.other(),
        9 => {
            bytes.drain(at..end);
        }
        10 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        11 => {
            let noise: Vec<u8> = (0..dice.below(32)).map(|_| dice.byte()).collect();
            bytes.splice(at..at, noise);
        }
        12 => {
            let nasty = NASTY[usize::from(dice.byte()) % NASTY.len()];
            bytes
                .iter_mut()
                .skip(at)
                .take(1 + usize::from(dice.byte() % 4))
                .for_each(|b| *b = nasty);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = dice.byte();
            }
        }
    }
}
