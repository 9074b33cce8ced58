//! Reads structures whose lengths are not to be trusted. A [`Reader`] stands at the begin of one
//! record; what runs over its end is a [`Fault`], which prints as Zeek's parsers (binpac) do,
//! since the text stands in analyzer.log.

use std::cell::Cell;
use std::fmt;

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A field ends behind the end of what there is, counted from the begin of its record.
    OutOfBound {
        /// Record and field.
        field: &'static str,
        /// Bytes up to the end of the field.
        needed: u64,
        /// Bytes that there are.
        given: u64,
    },
    /// A number chooses between layouts, and there is none for it.
    InvalidCase {
        /// Record.
        record: &'static str,
        /// The number.
        index: u64,
    },
    /// A length comes out below zero.
    NegativeLength {
        /// Record and field.
        field: &'static str,
        /// The length.
        length: i64,
    },
    /// A field has not the value that it must have.
    Enforced {
        /// Record and field.
        field: &'static str,
    },
    /// A message is longer than what is kept.
    TooLong {
        /// Its length, bytes.
        length: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binpac exception: binpac exception: ")?;
        match self {
            Self::OutOfBound { field, needed, given } => {
                write!(f, "out_of_bound: {field}: {needed} > {given}")
            }
            Self::InvalidCase { record, index } => {
                write!(f, "invalid index for case: {record}: {index}")
            }
            Self::NegativeLength { field, length } => {
                write!(f, "invalid length string: {field}: {length}")
            }
            Self::Enforced { field } => write!(f, "&enforce violation : {field}"),
            Self::TooLong { length } => {
                write!(f, "flowbuffer allocation failed: expand past max capacity: {length}")
            }
        }
    }
}

/// Bytes of one record, and how far they are read. Numbers are little-endian unless made
/// otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    whole: &'a [u8],
    start: usize,
    pos: usize,
    is_big: bool,
    oversize: Option<&'a Cell<usize>>,
}

impl<'a> Reader<'a> {
    /// A reader of little-endian numbers.
    pub const fn little(bytes: &'a [u8]) -> Self {
        Self { whole: bytes, start: 0, pos: 0, is_big: false, oversize: None }
    }

    /// A reader of big-endian numbers.
    pub const fn big(bytes: &'a [u8]) -> Self {
        Self { whole: bytes, start: 0, pos: 0, is_big: true, oversize: None }
    }

    /// The same, which tells `oversize` of numbers that are too long to be read: their bytes.
    pub const fn telling(self, oversize: &'a Cell<usize>) -> Self {
        Self { oversize: Some(oversize), ..self }
    }

    /// A number of `len` bytes was too long.
    pub fn tell_oversize(&self, len: usize) {
        if let Some(oversize) = self.oversize {
            oversize.set(len);
        }
    }

    /// A record within begins here: bounds and paddings count from now on from here.
    pub const fn record(&mut self) -> usize {
        std::mem::replace(&mut self.start, self.pos)
    }

    /// The record that [`Reader::record`] began is over.
    pub const fn end_record(&mut self, outer: usize) {
        self.start = outer;
    }

    /// Bytes read since the record began.
    pub const fn offset(&self) -> usize {
        self.pos - self.start
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.whole.get(self.pos..).unwrap_or_default()
    }

    /// Nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.pos >= self.whole.len()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// When there are less.
    pub fn take(&mut self, len: u64, field: &'static str) -> Result<&'a [u8], Fault> {
        let rest = self.rest();
        let wanted = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let Some(bytes) = wanted else {
            return Err(Fault::OutOfBound {
                field,
                needed: (self.offset() as u64).saturating_add(len),
                given: (self.whole.len() - self.start) as u64,
            });
        };
        self.pos += bytes.len();
        Ok(bytes)
    }

    /// The next `len` bytes as records of their own.
    ///
    /// # Errors
    /// When there are less.
    pub fn sub(&mut self, len: u64, field: &'static str) -> Result<Self, Fault> {
        let Self { is_big, oversize, .. } = *self;
        Ok(Self { is_big, oversize, ..Self::little(self.take(len, field)?) })
    }

    /// Reads on `offset` bytes behind the begin of the record; not back.
    ///
    /// # Errors
    /// When that lies behind the end.
    pub fn pad_to(&mut self, offset: i64, field: &'static str) -> Result<(), Fault> {
        let here = self.offset() as u64;
        let ahead = u64::try_from(offset).unwrap_or(0).saturating_sub(here);
        self.take(ahead, field).map(drop)
    }

    /// Reads on at the next multiple of `word` bytes behind the begin of the record.
    pub fn align(&mut self, word: usize) {
        let end = self.start + self.offset().next_multiple_of(word);
        self.pos = end.min(self.whole.len());
    }

    /// # Errors
    /// When nothing is left.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Fault> {
        Ok(self.take(1, field)?.first().copied().unwrap_or(0))
    }

    /// # Errors
    /// When too little is left.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, Fault> {
        let bytes = self.array(field)?;
        Ok(if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    /// # Errors
    /// When too little is left.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, Fault> {
        let bytes = self.array(field)?;
        Ok(if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// # Errors
    /// When too little is left.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, Fault> {
        let bytes = self.array(field)?;
        Ok(if self.is_big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Fault> {
        let bytes = self.take(N as u64, field)?;
        Ok(bytes.try_into().unwrap_or([0; N]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_over_the_end_is_told_as_counted_from_the_begin_of_its_record() {
        let mut reader = Reader::little(&[1, 2, 3, 4, 5]);
        assert_eq!(reader.u16("A:x"), Ok(0x0201));
        reader.record();
        assert_eq!(reader.u8("B:y"), Ok(3));
        let fault = reader.take(9, "B:z").unwrap_err();
        assert_eq!(
            fault.to_string(),
            "Binpac exception: binpac exception: out_of_bound: B:z: 10 > 3"
        );
    }

    #[test]
    fn padding_goes_on_and_never_back() {
        let mut reader = Reader::big(&[0, 0, 0, 0, 0x12, 0x34]);
        assert_eq!(reader.pad_to(4, "A:pad"), Ok(()));
        assert_eq!(reader.pad_to(-3, "A:pad"), Ok(()));
        assert_eq!(reader.u16("A:x"), Ok(0x1234));
        assert!(reader.pad_to(7, "A:pad").is_err());
    }
}
