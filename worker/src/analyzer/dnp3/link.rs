//! Link frames (IEEE 1815 section 9.2) and the transport segments in them (section 8.2), put
//! together to fragments of the application layer.
//!
//! ```text
//! 05 64 LEN CTRL DEST DEST SRC SRC CRC CRC | up to 16 bytes CRC CRC | up to 16 bytes CRC CRC …
//!                                            ▲ the first is the transport's
//! ```

use tyto_core::net::Side;

use super::START;
use crate::analyzer::Cx;

/// The header with its checksum, and the transport's byte.
const HEADER_LEN: usize = 11;
/// What the header's checksum is of.
const CHECKED_LEN: usize = 8;
/// Bytes that have a checksum together.
const BLOCK_LEN: usize = 16;
/// What the length of a frame counts of its header.
const COUNTED_OF_HEADER: usize = 5;
/// Bytes of a fragment (section 8.2 names no limit; devices take 2048). At the limit the side is
/// not followed any longer.
const FRAGMENT_LEN_MAX: usize = 65_536;

/// One side's frames. It holds a frame at most, which its length keeps below 300 bytes, and the
/// fragment as far as it came.
#[derive(Debug, Default)]
pub(super) struct Link {
    frame: Vec<u8>,
    /// The header of the frame was checked.
    has_header: bool,
    /// Length that the fragment's first frame gives; none before.
    first_len: Option<u8>,
    fragment: Vec<u8>,
    saw_first: bool,
}

/// A fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    /// All of it.
    pub(super) bytes: &'a [u8],
    /// How much of it was in the first frame.
    pub(super) first_len: usize,
}

/// Why a connection is not followed any longer.
#[derive(Debug)]
pub(super) enum Fault {
    /// Something odd, if it has a name.
    Weird(Option<&'static str>),
    /// It is not the protocol, or broken.
    Violation(String),
}

impl Link {
    /// Takes the next bytes of `side`, and gives each fragment that is whole.
    ///
    /// # Errors
    /// When the connection is not to be followed any longer.
    pub(super) fn deliver(
        &mut self,
        side: Side,
        mut bytes: &[u8],
        cx: &mut Cx<'_>,
        mut fragment: impl FnMut(Fragment<'_>, &mut Cx<'_>) -> Result<(), String>,
    ) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if !self.has_header {
                if !self.fill(HEADER_LEN, &mut bytes) {
                    return Ok(());
                }
                if self.header(side, cx)? {
                    // A frame of the link alone: what comes with it is passed over, as in Zeek.
                    return Ok(());
                }
            }
            let Some(frame_len) = self.frame_len() else { return Err(Fault::Weird(None)) };
            if !self.fill(frame_len, &mut bytes) {
                return Ok(());
            }
            self.frame(cx, &mut fragment)?;
        }
        Ok(())
    }

    fn fill(&mut self, wanted: usize, bytes: &mut &[u8]) -> bool {
        let taken = wanted.saturating_sub(self.frame.len()).min(bytes.len());
        let (now, later) = bytes.split_at(taken);
        self.frame.extend_from_slice(now);
        *bytes = later;
        self.frame.len() >= wanted
    }

    /// Checks the header. True when the frame carries nothing.
    fn header(&mut self, side: Side, cx: &mut Cx<'_>) -> Result<bool, Fault> {
        const FROM_MASTER: u8 = 0x80;
        if !self.frame.starts_with(&START) {
            return Err(Fault::Weird(Some("dnp3_header_lacks_magic")));
        }
        let (checked, rest) = self.frame.split_at(CHECKED_LEN.min(self.frame.len()));
        if !is_good(checked, rest) {
            cx.weird("dnp3_corrupt_header_checksum");
            return Err(Fault::Violation("broken_checksum".to_owned()));
        }
        cx.confirm();
        let &[_, _, len, control, ..] = self.frame.as_slice() else { return Ok(true) };
        if usize::from(len) == COUNTED_OF_HEADER {
            *self = Self::default();
            return Ok(true);
        }
        if (side == Side::Orig) != (control & FROM_MASTER != 0) {
            cx.weird("dnp3_unexpected_flow_direction");
        }
        if len == 0 {
            return Err(Fault::Weird(Some("dnp3_negative_or_zero_length_link_layer")));
        }
        self.has_header = true;
        self.first_len.get_or_insert(len);
        Ok(false)
    }

    /// Bytes of what the frame carries, checksums not counted.
    fn carried_len(&self) -> Option<usize> {
        usize::from(*self.frame.get(2)?).checked_sub(COUNTED_OF_HEADER)
    }

    fn frame_len(&self) -> Option<usize> {
        let carried = self.carried_len()?;
        Some(HEADER_LEN - 1 + carried + carried.div_ceil(BLOCK_LEN) * 2)
    }

    /// A frame is whole.
    fn frame(
        &mut self,
        cx: &mut Cx<'_>,
        fragment: &mut impl FnMut(Fragment<'_>, &mut Cx<'_>) -> Result<(), String>,
    ) -> Result<(), Fault> {
        const FIRST: u8 = 0x40;
        const LAST: u8 = 0x80;
        let mut left = self.carried_len().unwrap_or_default();
        let mut rest = self.frame.get(HEADER_LEN - 1..).unwrap_or_default();
        let transport = rest.first().copied().unwrap_or_default();
        let mut skip = 1;
        while left > 0 {
            let (block, behind) = rest.split_at(left.min(BLOCK_LEN).min(rest.len()));
            if !is_good(block, behind) {
                return Err(Fault::Weird(Some("dnp3_corrupt_app_chunk_checksum")));
            }
            if self.fragment.len() + block.len() > FRAGMENT_LEN_MAX {
                return Err(Fault::Weird(Some("dnp3_fragment_too_long")));
            }
            self.fragment.extend_from_slice(block.get(skip..).unwrap_or_default());
            skip = 0;
            left -= block.len();
            rest = behind.get(2..).unwrap_or_default();
        }
        self.frame.clear();
        self.has_header = false;
        self.saw_first |= transport & FIRST != 0;
        if !self.saw_first {
            return Err(Fault::Weird(Some("dnp3_first_application_layer_chunk_missing")));
        }
        if transport & LAST != 0 {
            let first_len = usize::from(self.first_len.take().unwrap_or_default());
            let bytes = std::mem::take(&mut self.fragment);
            *self = Self::default();
            let first_len = first_len.saturating_sub(COUNTED_OF_HEADER);
            fragment(Fragment { bytes: &bytes, first_len }, cx).map_err(Fault::Violation)?;
            self.fragment = bytes;
            self.fragment.clear();
        }
        Ok(())
    }
}

/// Whether the two bytes that follow are the checksum of `block` (section 9.2.4.3.1).
fn is_good(block: &[u8], behind: &[u8]) -> bool {
    behind.starts_with(&checksum(block).to_le_bytes())
}

/// The checksum of the link layer: CRC-16/DNP.
pub(super) fn checksum(block: &[u8]) -> u16 {
    const POLYNOMIAL: u16 = 0xa6bc;
    let sum = block.iter().fold(0_u16, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 }
        })
    });
    !sum
}
