//! The TCP header (RFC 9293 section 3.1).

use super::be16;

/// Length of a header without options, bytes.
pub const TCP_HEADER_LEN_MIN: usize = 20;

/// Option kind of the window scale (RFC 7323 section 2.2).
const OPTION_WINDOW_SCALE: u8 = 3;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;

/// The flags that say what a segment means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data will come from the sender.
    pub const fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// Sequence numbers are set up.
    pub const fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// The connection is reset.
    pub const fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// The urgent pointer counts.
    pub const fn urg(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// It opens, ends or resets.
    pub const fn is_special(self) -> bool {
        self.0 & 0x07 != 0
    }

    /// The acknowledgement number counts.
    pub const fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
}

/// A header, its options still as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpHeader<'a> {
    /// Sequence number of the first byte.
    pub seq: u32,
    /// The byte that the sender waits for.
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Window as sent, unscaled.
    pub window: u16,
    options: &'a [u8],
}

/// The ports, which come first also where the header is cut.
pub fn ports(segment: &[u8]) -> Option<(u16, u16)> {
    Some((be16(segment, 0)?, be16(segment, 2)?))
}

/// Length of the header as it states itself, bytes.
pub fn header_len(segment: &[u8]) -> Option<usize> {
    Some(usize::from(segment.get(12)? >> 4) * 4)
}

impl<'a> TcpHeader<'a> {
    /// The header of a segment of which [`TCP_HEADER_LEN_MIN`] bytes at least are there; options
    /// as far as they are.
    pub fn parse(segment: &'a [u8]) -> Option<Self> {
        let (header, options) = segment.split_first_chunk::<TCP_HEADER_LEN_MIN>()?;
        let &[_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = header;
        let options_len = (usize::from(offset >> 4) * 4).saturating_sub(TCP_HEADER_LEN_MIN);
        Some(Self {
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            flags: TcpFlags(flags),
            window: u16::from_be_bytes([w0, w1]),
            options: options.get(..options_len).unwrap_or(options),
        })
    }

    /// The window scale of a SYN, shift count as sent.
    pub fn window_scale(&self) -> Option<u8> {
        let mut rest = self.options;
        let mut scale = None;
        loop {
            match rest {
                [] | [OPTION_END, ..] => return scale,
                [OPTION_NOP, after @ ..] => rest = after,
                [kind, len, ..] => {
                    let len = usize::from(*len);
                    if len == 0 || len > rest.len() {
                        return scale;
                    }
                    if *kind == OPTION_WINDOW_SCALE && len >= 3 {
                        scale = rest.get(2).copied();
                    }
                    rest = rest.get(len..).unwrap_or_default();
                }
                [_] => return scale,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the lengths of the tests' own packets")]
mod tests {
    use super::*;

    fn segment(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[12] = (((20 + options.len()) / 4) << 4) as u8;
        bytes.extend(options);
        bytes
    }

    /// RFC 7323 section 2.2.
    #[test]
    fn the_window_scale_is_found_behind_other_options() {
        let bytes = segment(&[2, 4, 5, 0xb4, 1, 3, 3, 7]);
        assert_eq!(TcpHeader::parse(&bytes).unwrap().window_scale(), Some(7));
        let bytes = segment(&[2, 4, 5, 0xb4]);
        assert_eq!(TcpHeader::parse(&bytes).unwrap().window_scale(), None);
    }

    #[test]
    fn damaged_options_end_the_search() {
        for options in [[3, 3, 0, 0], [3, 0, 5, 1], [0, 3, 3, 7], [8, 40, 1, 1], [1, 1, 1, 3]] {
            let bytes = segment(&options);
            let scale = TcpHeader::parse(&bytes).unwrap().window_scale();
            assert_eq!(scale, if options[0] == 3 && options[1] == 3 { Some(0) } else { None });
        }
    }
}
