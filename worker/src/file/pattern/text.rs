//! The text of a pattern, read into steps.

use super::{ByteSet, Literal, Pattern, Step};

/// What is left of a pattern's text.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { rest: text.as_bytes() }
    }

    /// All was read.
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ways to match, up to the end of the group or of all.
    pub(super) fn alternatives(&mut self, ignores_case: bool) -> Option<Pattern> {
        let mut alternatives = vec![Vec::new()];
        while let Some(&byte) = self.rest.first() {
            match byte {
                b')' => break,
                b'|' => {
                    self.skip("|");
                    alternatives.push(Vec::new());
                }
                _ => {
                    let step = self.step(ignores_case)?;
                    push(alternatives.last_mut()?, step);
                }
            }
        }
        Some(Pattern { alternatives })
    }

    fn step(&mut self, ignores_case: bool) -> Option<Step> {
        if self.skip("(?") {
            let ignores_case = self.skip("i") || ignores_case;
            if !self.skip(":") {
                return None;
            }
            let pattern = self.alternatives(ignores_case)?;
            if !self.skip(")") {
                return None;
            }
            let (min, max) = self.times()?;
            return Some(Step::Group { pattern, min, max });
        }
        if self.skip(".") {
            let (min, max) = self.times()?;
            return Some(Step::Any { min, max });
        }
        let mut set = ByteSet::default();
        if self.skip("[") {
            set = self.class()?;
        } else if matches!(self.rest.first()?, b'*' | b'+' | b'?' | b'{' | b'(' | b'^' | b'$') {
            return None;
        } else {
            set.insert(self.byte()?);
        }
        let set = if ignores_case { set.in_both_cases() } else { set };
        let (min, max) = self.times()?;
        Some(Step::Class { set, min, max })
    }

    /// The rest of a class, whose bracket was read.
    fn class(&mut self) -> Option<ByteSet> {
        let mut set = ByteSet::default();
        let is_inverted = self.skip("^");
        while !self.skip("]") {
            let first = self.byte()?;
            let last = if self.skip("-") { self.byte()? } else { first };
            (first..=last).for_each(|byte| set.insert(byte));
        }
        Some(if is_inverted { set.inverted() } else { set })
    }

    /// How often the step before is repeated.
    fn times(&mut self) -> Option<(usize, usize)> {
        if self.skip("?") {
            return Some((0, 1));
        }
        if self.skip("*") {
            return Some((0, usize::MAX));
        }
        if self.skip("+") {
            return Some((1, usize::MAX));
        }
        if !self.skip("{") {
            return Some((1, 1));
        }
        let min = self.number()?;
        let max = if self.skip(",") { self.number()? } else { min };
        (self.skip("}") && min <= max).then_some((min, max))
    }

    fn number(&mut self) -> Option<usize> {
        let len = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// One byte, written as itself, behind a backslash, or by its number.
    fn byte(&mut self) -> Option<u8> {
        if self.skip("\\x") {
            let (digits, rest) = self.rest.split_at_checked(2)?;
            self.rest = rest;
            return u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        }
        let is_escaped = self.skip("\\");
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        (!is_escaped || byte.is_ascii_punctuation()).then_some(byte)
    }

    fn skip(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word.as_bytes()) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

/// Adds a step; bytes that follow each other become one literal.
fn push(steps: &mut Vec<Step>, step: Step) {
    let byte = match &step {
        Step::Class { set, min: 1, max: 1 } => set.only(),
        _ => None,
    };
    match (byte, steps.last_mut()) {
        (Some(byte), Some(Step::Literal(literal))) => literal.bytes.push(byte),
        (Some(byte), _) => {
            steps.push(Step::Literal(Literal { bytes: vec![byte], ..Literal::default() }));
        }
        (None, _) => steps.push(step),
    }
}
