//! A cursor over the bytes of one message: each read checks that the bytes are there, and what
//! cannot be read moves nothing.

/// Reads from the front of a byte slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<'a> {
    whole: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the begin of `whole`.
    pub const fn new(whole: &'a [u8]) -> Self {
        Self { whole, position: 0 }
    }

    /// Bytes read or skipped so far.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Bytes not yet read.
    pub const fn len(&self) -> usize {
        self.whole.len() - self.position
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that the cursor was made of, also what was read already.
    pub const fn whole(&self) -> &'a [u8] {
        self.whole
    }

    /// What is not yet read; moves nothing.
    pub fn rest(&self) -> &'a [u8] {
        self.whole.get(self.position..).unwrap_or_default()
    }

    /// The next byte; moves nothing.
    pub fn peek(&self) -> Option<u8> {
        self.whole.get(self.position).copied()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.rest().get(..len)?;
        self.position += len;
        Some(taken)
    }

    /// All that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.rest();
        self.position = self.whole.len();
        rest
    }

    /// The next `LEN` bytes.
    pub fn array<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let taken = *self.rest().first_chunk::<LEN>()?;
        self.position += LEN;
        Some(taken)
    }

    /// Passes over `len` bytes.
    pub fn skip(&mut self, len: usize) -> Option<()> {
        self.take(len).map(|_| ())
    }

    /// A cursor of its own over the next `len` bytes.
    pub fn sub(&mut self, len: usize) -> Option<Self> {
        self.take(len).map(Self::new)
    }

    /// The bytes up to `end`, which is passed over and not among them.
    pub fn until(&mut self, end: u8) -> Option<&'a [u8]> {
        let len = self.rest().iter().position(|byte| *byte == end)?;
        let taken = self.take(len)?;
        self.skip(1)?;
        Some(taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, high first.
    pub fn be16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Three bytes, high first.
    pub fn be24(&mut self) -> Option<u32> {
        self.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Four bytes, high first.
    pub fn be32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes, high first.
    pub fn be64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Two bytes, low first.
    pub fn le16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Three bytes, low first.
    pub fn le24(&mut self) -> Option<u32> {
        self.array().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// Four bytes, low first.
    pub fn le32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, low first.
    pub fn le64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_their_byte_order() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let cursor = Cursor::new(&bytes);
        assert_eq!({ cursor }.u8(), Some(1));
        assert_eq!({ cursor }.be16(), Some(0x0102));
        assert_eq!({ cursor }.le16(), Some(0x0201));
        assert_eq!({ cursor }.be24(), Some(0x01_0203));
        assert_eq!({ cursor }.le24(), Some(0x03_0201));
        assert_eq!({ cursor }.be32(), Some(0x0102_0304));
        assert_eq!({ cursor }.le32(), Some(0x0403_0201));
        assert_eq!({ cursor }.be64(), Some(0x0102_0304_0506_0708));
        assert_eq!({ cursor }.le64(), Some(0x0807_0605_0403_0201));
    }

    #[test]
    fn what_is_not_there_is_not_read_and_moves_nothing() {
        let mut cursor = Cursor::new(b"abc");
        assert_eq!(cursor.be32(), None);
        assert_eq!(cursor.take(usize::MAX), None);
        assert_eq!(cursor.until(b'z'), None);
        assert_eq!(cursor.position(), 0);
        assert_eq!(cursor.until(b'b'), Some(&b"a"[..]));
        assert_eq!((cursor.position(), cursor.len(), cursor.peek()), (2, 1, Some(b'c')));
        assert_eq!(cursor.take_rest(), b"c");
        assert!(cursor.is_empty());
        assert_eq!(cursor.u8(), None);
        assert_eq!(cursor.whole(), b"abc");
    }

    #[test]
    fn a_cursor_of_its_own_ends_where_it_was_told() {
        let mut cursor = Cursor::new(b"abcd");
        let mut sub = cursor.sub(3).unwrap_or(Cursor::new(b""));
        assert_eq!(sub.skip(4), None);
        assert_eq!(sub.take(3), Some(&b"abc"[..]));
        assert_eq!(cursor.rest(), b"d");
    }
}
