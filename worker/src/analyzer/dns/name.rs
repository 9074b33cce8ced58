//! Names in messages (RFC 1035 sections 3.1 and 4.1.4): labels with dots between, lower case,
//! without the dot at the end.

use crate::analyzer::Cx;

/// Bytes of a name that are read; a longer one is broken.
const NAME_LEN_MAX: usize = 512;
/// A name this long is odd (RFC 1035 section 3.1: 255 bytes with its lengths).
const LONG_LEN: usize = 255;
/// Bytes of a label (RFC 1035 section 3.1).
const LABEL_LEN_MAX: u8 = 63;
/// Pointers that one name may follow (Zeek: `dns_max_compression_chain_depth`). They can only
/// point backwards, so this bounds the work, not the correctness.
const POINTERS_MAX: u32 = 20;

/// A name, kept without allocation while its message is read.
#[derive(Clone, Debug)]
pub(super) struct Name {
    bytes: [u8; NAME_LEN_MAX],
    len: usize,
}

/// A message and how far it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    /// The whole message: pointers count from its begin.
    pub(super) message: &'a [u8],
    /// The next byte.
    pub(super) at: usize,
    /// NetBIOS names may have longer labels (RFC 1002 section 4.1).
    pub(super) is_netbios: bool,
}

/// How a label ended.
enum Label {
    More,
    End,
    Broken,
}

impl Name {
    /// The empty name, which is the root.
    pub(super) const fn root() -> Self {
        Self { bytes: [0; NAME_LEN_MAX], len: 0 }
    }

    /// What is printed.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, label: &[u8]) -> bool {
        let end = self.len + label.len();
        let Some(place) = self.bytes.get_mut(self.len..end) else { return false };
        place.copy_from_slice(label);
        if let Some(dot) = self.bytes.get_mut(end) {
            *dot = b'.';
        }
        self.len = end + 1;
        self.len <= NAME_LEN_MAX
    }

    fn lower(&mut self, start: usize) {
        self.bytes.get_mut(start..self.len).unwrap_or_default().make_ascii_lowercase();
    }
}

impl<'a> Reader<'a> {
    /// Bytes not yet read.
    pub(super) const fn len(&self) -> usize {
        self.message.len().saturating_sub(self.at)
    }

    /// The next `len` bytes, fewer at the end.
    pub(super) fn up_to(&mut self, len: usize) -> &'a [u8] {
        let taken = self.message.get(self.at..self.at + len.min(self.len())).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    /// One byte; 0 when it is not there.
    pub(super) fn byte(&mut self) -> u8 {
        self.number::<1>().map_or(0, |[byte]| byte)
    }

    /// Two bytes; 0, and nothing is read, when they are not there: a record that is too short
    /// for its type shows itself by its length.
    pub(super) fn short(&mut self) -> u16 {
        self.number().map_or(0, u16::from_be_bytes)
    }

    /// Four bytes, as [`Reader::short`].
    pub(super) fn long(&mut self) -> u32 {
        self.number().map_or(0, u32::from_be_bytes)
    }

    fn number<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let number = *self.message.get(self.at..)?.first_chunk::<LEN>()?;
        self.at += LEN;
        Some(number)
    }

    /// A name in lower case.
    pub(super) fn name(&mut self, name: &mut Name, cx: &mut Cx<'_>) -> Option<()> {
        let end = self.message.len();
        self.name_within(end, name, true, 0, cx)
    }

    /// A name as it was written; what pointers add is lower case all the same.
    pub(super) fn name_as_is(&mut self, name: &mut Name, cx: &mut Cx<'_>) -> Option<()> {
        let end = self.message.len();
        self.name_within(end, name, false, 0, cx)
    }

    fn name_within(
        &mut self,
        end: usize,
        name: &mut Name,
        lowers: bool,
        pointers: u32,
        cx: &mut Cx<'_>,
    ) -> Option<()> {
        if pointers > POINTERS_MAX {
            cx.limit_reached("DNS_max_compression_chain_depth_exceeded", &format!("{pointers}"));
            return Some(());
        }
        let start = name.len;
        loop {
            match self.label(end, name, pointers, cx) {
                Label::More => {}
                Label::End => break,
                Label::Broken => return None,
            }
        }
        let len = name.len - start;
        if len >= LONG_LEN {
            cx.weird("DNS_NAME_too_long");
        }
        if len >= 2 && name.as_bytes().ends_with(b".") {
            name.len -= 1;
        }
        if lowers {
            name.lower(start);
        }
        Some(())
    }

    fn label(&mut self, end: usize, name: &mut Name, pointers: u32, cx: &mut Cx<'_>) -> Label {
        let start = self.at;
        let message = self.message.get(..end).unwrap_or_default();
        let Some(&len) = message.get(start) else {
            cx.weird("dns_invalid_name");
            return Label::Broken;
        };
        self.at += 1;
        if len == 0 {
            return Label::End;
        }
        if len & 0xc0 == 0xc0 {
            let Some(&low) = message.get(self.at) else {
                cx.weird("dns_invalid_name");
                return Label::Broken;
            };
            self.at += 1;
            let offset = usize::from(u16::from_be_bytes([len & 0x3f, low]));
            if offset >= start {
                cx.weird("DNS_label_forward_compress_offset");
                return Label::Broken;
            }
            let mut there = Reader { at: offset, ..*self };
            return match there.name_within(start, name, true, pointers + 1, cx) {
                Some(()) => Label::End,
                None => Label::Broken,
            };
        }
        let Some(label) = message.get(self.at..self.at + usize::from(len)) else {
            cx.weird("DNS_label_len_gt_pkt");
            self.at = end;
            return Label::Broken;
        };
        if len > LABEL_LEN_MAX && !self.is_netbios {
            cx.weird("DNS_label_too_long");
            return Label::Broken;
        }
        if !name.push(label) {
            cx.weird("DNS_label_len_gt_name_len");
            return Label::Broken;
        }
        self.at += label.len();
        Label::More
    }
}

/// The NetBIOS name that 32 letters stand for (RFC 1001 section 14.1), without its 16th byte,
/// the kind, and spaces at the end. `None` when it is none, or nothing is left of it.
pub(super) fn netbios_name(encoded: &[u8]) -> Option<Vec<u8>> {
    const ENCODED_LEN: usize = 32;
    const NAME_LEN: usize = 15;
    if encoded.len() != ENCODED_LEN {
        return None;
    }
    let mut name = Vec::with_capacity(NAME_LEN + 1);
    for pair in encoded.chunks_exact(2) {
        let &[high, low] = pair else { return None };
        let nibble = |letter: u8| match letter.to_ascii_uppercase() {
            letter @ b'A'..=b'P' => Some(letter - b'A'),
            _ => None,
        };
        let byte = nibble(high)? << 4 | nibble(low)?;
        if !(byte.is_ascii_graphic() || byte == b' ' || byte < 3) {
            break;
        }
        name.push(byte);
    }
    name.truncate(NAME_LEN);
    while matches!(name.last(), Some(b' ' | 0)) {
        name.pop();
    }
    (!name.is_empty()).then_some(name)
}
