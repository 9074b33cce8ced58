//! Versions of QUIC: their names, the numbers of their packets, the salts of their first keys.

use std::borrow::Cow;

/// QUIC 1 (RFC 9000).
const V1: u32 = 0x0000_0001;
/// QUIC 2 (RFC 9369).
const V2: u32 = 0x6B33_43CF;

/// What a packet with a long header carries (RFC 9000 section 17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketType {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

/// The words by which keys are derived from a secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels {
    pub(super) key: &'static [u8],
    pub(super) iv: &'static [u8],
    pub(super) header: &'static [u8],
}

/// A version that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(u32);

impl Version {
    /// `None` for a number of which nothing is known.
    pub(super) fn of(number: u32) -> Option<Self> {
        let is_known = matches!(
            number,
            V1 | V2
                | 0xFF00_0016..=0xFF00_0022
                | 0xFACE_B001
                | 0xFACE_B002
                | 0xFACE_B00E
                | 0xFACE_B011..=0xFACE_B013
        );
        is_known.then_some(Self(number))
    }

    /// The type of a packet that begins with `first`. RFC 9369 section 3.2 renumbers them.
    pub(super) const fn packet_type(self, first: u8) -> PacketType {
        let shift = if self.0 == V2 { 3 } else { 0 };
        match ((first >> 4) + shift) & 3 {
            0 => PacketType::Initial,
            1 => PacketType::ZeroRtt,
            2 => PacketType::Handshake,
            _ => PacketType::Retry,
        }
    }

    /// Salt of the secret of the first packets (RFC 9001 section 5.2, RFC 9369 section 3.3.1,
    /// and the drafts).
    pub(super) const fn salt(self) -> &'static [u8; 20] {
        const OF_V1: [u8; 20] = [
            0x38, 0x76, 0x2C, 0xF7, 0xF5, 0x59, 0x34, 0xB3, 0x4D, 0x17, 0x9A, 0xE6, 0xA4, 0xC8,
            0x0C, 0xAD, 0xCC, 0xBB, 0x7F, 0x0A,
        ];
        const OF_V2: [u8; 20] = [
            0x0D, 0xED, 0xE3, 0xDE, 0xF7, 0x00, 0xA6, 0xDB, 0x81, 0x93, 0x81, 0xBE, 0x6E, 0x26,
            0x9D, 0xCB, 0xF9, 0xBD, 0x2E, 0xD9,
        ];
        const OF_DRAFT_22: [u8; 20] = [
            0x7F, 0xBC, 0xDB, 0x0E, 0x7C, 0x66, 0xBB, 0xE9, 0x19, 0x3A, 0x96, 0xCD, 0x21, 0x51,
            0x9E, 0xBD, 0x7A, 0x02, 0x64, 0x4A,
        ];
        const OF_DRAFT_23: [u8; 20] = [
            0xC3, 0xEE, 0xF7, 0x12, 0xC7, 0x2E, 0xBB, 0x5A, 0x11, 0xA7, 0xD2, 0x43, 0x2B, 0xB4,
            0x63, 0x65, 0xBE, 0xF9, 0xF5, 0x02,
        ];
        const OF_DRAFT_29: [u8; 20] = [
            0xAF, 0xBF, 0xEC, 0x28, 0x99, 0x93, 0xD2, 0x4C, 0x9E, 0x97, 0x86, 0xF1, 0x9C, 0x61,
            0x11, 0xE0, 0x43, 0x90, 0xA8, 0x99,
        ];
        match self.0 {
            V2 => &OF_V2,
            0xFF00_0016 | 0xFACE_B001 => &OF_DRAFT_22,
            0xFF00_0017..=0xFF00_001C | 0xFACE_B002..=0xFACE_B013 => &OF_DRAFT_23,
            0xFF00_001D..=0xFF00_0020 => &OF_DRAFT_29,
            _ => &OF_V1,
        }
    }

    pub(super) const fn labels(self) -> Labels {
        match self.0 {
            V2 => Labels { key: b"quicv2 key", iv: b"quicv2 iv", header: b"quicv2 hp" },
            _ => Labels { key: b"quic key", iv: b"quic iv", header: b"quic hp" },
        }
    }
}

/// Name of a version, as Zeek spells it (draft 31 as 30).
pub(super) fn name(number: u32) -> Cow<'static, str> {
    match number {
        V1 => "1".into(),
        V2 => "quicv2".into(),
        0xFF00_001F => "draft-30".into(),
        0xFF00_0016..=0xFF00_0022 => format!("draft-{}", number & 0xFF).into(),
        _ if Version::of(number).is_some() => format!("mvfst ({number:x})").into(),
        _ => format!("unknown-{number:x}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_names() {
        assert_eq!(name(1), "1");
        assert_eq!(name(0x6B33_43CF), "quicv2");
        assert_eq!(name(0xFF00_001D), "draft-29");
        assert_eq!(name(0xFACE_B00E), "mvfst (faceb00e)");
        assert_eq!(name(0x1A2A_3A4A), "unknown-1a2a3a4a");
        assert!(Version::of(0).is_none());
    }

    #[test]
    fn version_2_numbers_its_packets_otherwise() {
        assert_eq!(Version(V1).packet_type(0xC0), PacketType::Initial);
        assert_eq!(Version(V1).packet_type(0xF0), PacketType::Retry);
        assert_eq!(Version(V2).packet_type(0xD0), PacketType::Initial);
        assert_eq!(Version(V2).packet_type(0xE0), PacketType::ZeroRtt);
        assert_eq!(Version(V2).packet_type(0xF0), PacketType::Handshake);
        assert_eq!(Version(V2).packet_type(0xC0), PacketType::Retry);
    }
}
