//! Records in an append-only file, and the numbers and names inside of them. Used by the
//! logger's journal and by the worker's spool.
//!
//! A frame is: magic (u32), length of the body (u32), CRC-32 of the body (u32), body; all
//! little endian. Reading stops at the first frame that is not whole. What follows decides:
//! nothing readable behind it means that the process died while it wrote ([`Tail::Torn`]);
//! another whole frame behind it means that the disk or somebody changed the file
//! ([`Tail::Corrupt`]), which must not be cut off in silence.

/// Begins each frame: "TyFr".
const MAGIC: [u8; 4] = *b"TyFr";

/// Bytes of a frame before its body.
pub const FRAME_HEAD_LEN: usize = 12;

/// Longest body, bytes. Longer ones are not written, and read as damage.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// What stands behind the last whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Whole,
    /// The beginning of a frame that was never finished.
    Torn,
    /// Damage, with whole frames behind it.
    Corrupt,
}

/// Appends one frame whose body `write` makes.
pub fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 8]);
    let body = out.len();
    write(out);
    let crc = crc32fast::hash(&out[body..]);
    let len = u32::try_from(out.len() - body).unwrap_or(u32::MAX);
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
}

/// Hands each whole frame's body and its offset in `bytes` to `visit`; returns the length of
/// the part that was read and what stands behind it.
pub fn read(bytes: &[u8], mut visit: impl FnMut(usize, &[u8])) -> (usize, Tail) {
    let mut at = 0;
    while let Some(body) = bytes.get(at..).and_then(whole) {
        visit(at + FRAME_HEAD_LEN, body);
        at += FRAME_HEAD_LEN + body.len();
    }
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return (at, Tail::Whole);
    }
    (at, if next_whole(bytes, at + 1).is_some() { Tail::Corrupt } else { Tail::Torn })
}

/// Offset of the first whole frame at or behind `from`: where reading may go on behind damage.
pub fn next_whole(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let begins = rest.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC);
    begins.map(|(i, _)| i).find(|&i| whole(&rest[i..]).is_some()).map(|i| from + i)
}

/// The body of the frame at the start of `bytes`, when it is there and undamaged.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD_LEN>()?;
    let [m0, m1, m2, m3, l0, l1, l2, l3, c0, c1, c2, c3] = *head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if [m0, m1, m2, m3] != MAGIC || len > BODY_BYTES_MAX {
        return None;
    }
    let body = rest.get(..len)?;
    (crc32fast::hash(body) == u32::from_le_bytes([c0, c1, c2, c3])).then_some(body)
}

/// Appends an unsigned LEB128 number.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends a length and bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A body does not hold what its kind says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record ends inside a field, or holds an unknown kind")]
pub struct BadBody;

/// Reads the fields of a body in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `body`.
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// Whether all has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// One byte.
    ///
    /// # Errors
    /// When there is none.
    pub fn byte(&mut self) -> Result<u8, BadBody> {
        let (&first, rest) = self.rest.split_first().ok_or(BadBody)?;
        self.rest = rest;
        Ok(first)
    }

    /// A number.
    ///
    /// # Errors
    /// When the bytes end inside of it, or it exceeds 64 bits.
    pub fn number(&mut self) -> Result<u64, BadBody> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(BadBody);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BadBody)
    }

    /// Bytes behind their length.
    ///
    /// # Errors
    /// When fewer are there.
    pub fn bytes(&mut self) -> Result<&'a [u8], BadBody> {
        let len = usize::try_from(self.number()?).map_err(|_| BadBody)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(BadBody)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Text behind its length.
    ///
    /// # Errors
    /// When fewer bytes are there, or they are not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, BadBody> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BadBody)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file_of(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Vec::new();
        for body in bodies {
            append(&mut file, |out| out.extend_from_slice(body));
        }
        file
    }

    fn bodies_of(file: &[u8]) -> (Vec<Vec<u8>>, usize, Tail) {
        let mut found = Vec::new();
        let (len, tail) = read(file, |_, body| found.push(body.to_vec()));
        (found, len, tail)
    }

    proptest! {
        /// Wherever the writing stopped, what was whole comes back and the tail is torn.
        #[test]
        fn a_cut_file_gives_its_whole_frames(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let file = file_of(&bodies);
            let cut = cut.index(file.len() + 1);
            let (found, len, tail) = bodies_of(&file[..cut]);
            prop_assert_eq!(&found[..], &bodies[..found.len()]);
            prop_assert_eq!(len, file_of(&found).len());
            let next = found.len() + 1;
            if next <= bodies.len() {
                prop_assert!(cut < file_of(&bodies[..next]).len());
            }
            prop_assert_eq!(tail, if len == cut { Tail::Whole } else { Tail::Torn });
        }

        #[test]
        fn a_changed_byte_before_the_last_frame_is_corruption(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 2..8),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let mut file = file_of(&bodies);
            let last = file_of(&bodies[..bodies.len() - 1]).len();
            file[at.index(last)] ^= flip;
            prop_assert_eq!(bodies_of(&file).2, Tail::Corrupt);
        }

        #[test]
        fn numbers_and_names_come_back(number in any::<u64>(), name in ".*") {
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_bytes(&mut out, name.as_bytes());
            let mut fields = Fields::new(&out);
            prop_assert_eq!(fields.number(), Ok(number));
            prop_assert_eq!(fields.text(), Ok(name.as_str()));
            prop_assert!(fields.is_empty());
        }
    }
}
