//! Capture files: pcap (microseconds and nanoseconds, both byte orders) and pcapng, plain or
//! packed with gzip or zstd, from a path or from standard input (`-`).
//!
//! Bytes in, [`Frame`]s out. A file that ends within a packet ends there, without an error: a
//! capture that was cut off is read as far as it goes. Formats: draft-ietf-opsawg-pcap and
//! draft-ietf-opsawg-pcapng.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tyto_core::time::{NANOS, Ts};

use tyto_capture::{Frame, LinkType};

use super::buffer::Window;
use super::pcapng::{self, Section};
use super::{CaptureError, Next, PacketSource};

/// Longest packet that is taken, bytes: libpcap's limit. A longer one means that the file is
/// damaged; reading ends there.
const PACKET_BYTES_MAX: usize = 262_144;

/// Length of pcap's file header, bytes.
const FILE_HEADER_LEN: usize = 24;

/// A capture file being read.
pub struct PcapFile {
    window: Window,
    format: Format,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Section),
}

/// What pcap's file header says.
#[derive(Clone, Copy, Debug)]
struct Pcap {
    big_endian: bool,
    /// Nanoseconds in a unit of the packets' time stamps below the second.
    fraction_ns: u32,
    link_type: LinkType,
    /// Length of a packet's header, bytes: 24 in Kuznetzov's variant.
    header_len: usize,
}

impl PcapFile {
    /// Opens the file at `path`, or standard input for `-`.
    ///
    /// # Errors
    /// When it cannot be opened or does not begin as a capture does.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let reader: Box<dyn Read + Send> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            let opened = File::open(path);
            Box::new(opened.map_err(|source| CaptureError::Open { path: path.into(), source })?)
        };
        Self::from_reader(reader)
    }

    /// Reads a capture from `reader`.
    ///
    /// # Errors
    /// When it does not begin as a capture does.
    pub fn from_reader(mut reader: Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        let mut magic = [0; 4];
        let got = read_start(&mut reader, &mut magic)?;
        let head = io::Cursor::new(magic).take(got as u64);
        let whole = head.chain(reader);
        let unpacked: Box<dyn Read + Send> = match magic {
            [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole)?),
            _ => Box::new(whole),
        };
        let mut window = Window::new(unpacked);
        let format = Format::of(&mut window)?;
        Ok(Self { window, format })
    }
}

impl PacketSource for PcapFile {
    fn next_frame(&mut self) -> Result<Next<'_>, CaptureError> {
        match &mut self.format {
            Format::Pcap(pcap) => pcap.next_frame(&mut self.window),
            Format::Pcapng(section) => section.next_frame(&mut self.window),
        }
    }
}

impl fmt::Debug for PcapFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcapFile").finish_non_exhaustive()
    }
}

impl Format {
    fn of(window: &mut Window) -> Result<Self, CaptureError> {
        let magic: [u8; 4] = window
            .peek(4)?
            .try_into()
            .map_err(|_| CaptureError::Format("shorter than any file header"))?;
        if magic == pcapng::SECTION_HEADER {
            return Ok(Self::Pcapng(Section::default()));
        }
        let (big_endian, number) = match magic[0] {
            0xa1 => (true, u32::from_be_bytes(magic)),
            _ => (false, u32::from_le_bytes(magic)),
        };
        let (fraction_ns, header_len) = match number {
            0xa1b2_c3d4 => (1000, 16),
            0xa1b2_3c4d => (1, 16),
            0xa1b2_cd34 => (1000, 24),
            _ => return Err(CaptureError::Format("unknown first four bytes")),
        };
        let header = window.take(FILE_HEADER_LEN)?.ok_or(CaptureError::Format("no file header"))?;
        let link_type = u32_at(header, 20, big_endian).unwrap_or_default();
        // The upper bits tell the length of a frame check sequence.
        let link_type = LinkType(link_type & 0x03ff_ffff);
        Ok(Self::Pcap(Pcap { big_endian, fraction_ns, link_type, header_len }))
    }
}

impl Pcap {
    fn next_frame<'a>(&self, window: &'a mut Window) -> Result<Next<'a>, CaptureError> {
        let Some(header) = window.take(self.header_len)? else { return Ok(Next::End) };
        let field = |at| u32_at(header, at, self.big_endian).unwrap_or_default();
        let (secs, fraction, captured, wire_len) = (field(0), field(4), field(8), field(12));
        let captured = captured as usize;
        if captured > PACKET_BYTES_MAX {
            return Ok(Next::End);
        }
        let ts = Ts(u64::from(secs) * NANOS + u64::from(fraction) * u64::from(self.fraction_ns));
        let link_type = self.link_type;
        let Some(bytes) = window.take(captured)? else { return Ok(Next::End) };
        Ok(Next::Frame(Frame { ts, bytes, wire_len, link_type, checksum_good: false }))
    }
}

/// The number of 32 bits at `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize, big_endian: bool) -> Option<u32> {
    let raw: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(if big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) })
}

/// The number of 16 bits at `at`.
pub(super) fn u16_at(bytes: &[u8], at: usize, big_endian: bool) -> Option<u16> {
    let raw: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(if big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) })
}

/// Fills `start` as far as the reader goes and tells how far that is.
fn read_start(reader: &mut impl Read, start: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < start.len() {
        match reader.read(&mut start[got..]) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the lengths of the tests' own packets")]
mod tests {
    use std::io::Write;

    use super::*;

    /// Frames of a capture as (time in ns, bytes, length on the wire, link type).
    fn frames(capture: &[u8]) -> Vec<(u64, Vec<u8>, u32, u32)> {
        let mut file = PcapFile::from_reader(Box::new(io::Cursor::new(capture.to_vec()))).unwrap();
        let mut frames = Vec::new();
        while let Next::Frame(frame) = file.next_frame().unwrap() {
            frames.push((frame.ts.0, frame.bytes.to_vec(), frame.wire_len, frame.link_type.0));
        }
        frames
    }

    fn pcap(magic: u32, big_endian: bool, packets: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
        let n = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut out = n(magic).to_vec();
        out.extend([0; 12]);
        out.extend(n(65535));
        out.extend(n(1));
        for (secs, fraction, bytes, wire_len) in packets {
            out.extend([n(*secs), n(*fraction), n(bytes.len() as u32), n(*wire_len)].concat());
            out.extend(*bytes);
        }
        out
    }

    #[test]
    fn both_byte_orders_and_both_precisions_give_the_same_time() {
        let expected = vec![(5_000_007_000, vec![1, 2, 3], 60, 1)];
        for big_endian in [false, true] {
            assert_eq!(frames(&pcap(0xa1b2_c3d4, big_endian, &[(5, 7, &[1, 2, 3], 60)])), expected);
            let nanos = pcap(0xa1b2_3c4d, big_endian, &[(5, 7000, &[1, 2, 3], 60)]);
            assert_eq!(frames(&nanos), expected);
        }
    }

    #[test]
    fn a_file_cut_within_a_packet_ends_before_it() {
        let whole = pcap(0xa1b2_c3d4, false, &[(1, 0, &[1; 40], 40), (2, 0, &[2; 40], 40)]);
        assert_eq!(frames(&whole).len(), 2);
        assert_eq!(frames(&whole[..whole.len() - 1]).len(), 1);
        assert_eq!(frames(&whole[..whole.len() - 41]).len(), 1);
    }

    #[test]
    fn packed_files_read_like_plain_ones() {
        let plain = pcap(0xa1b2_c3d4, false, &[(1, 0, &[7; 100], 100)]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        assert_eq!(frames(&gzip.finish().unwrap()), frames(&plain));
        assert_eq!(frames(&zstd::encode_all(&plain[..], 1).unwrap()), frames(&plain));
    }

    #[test]
    fn what_is_not_a_capture_is_refused() {
        for bytes in [&b""[..], b"GIF8", b"not a capture at all"] {
            let opened = PcapFile::from_reader(Box::new(io::Cursor::new(bytes.to_vec())));
            assert!(matches!(opened, Err(CaptureError::Format(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_packet_longer_than_any_packet_ends_the_file() {
        let mut damaged = pcap(0xa1b2_c3d4, false, &[(1, 0, &[1; 40], 40), (2, 0, &[], 40)]);
        let len = damaged.len();
        damaged[len - 8..len - 4].copy_from_slice(&0xffff_ffff_u32.to_le_bytes());
        assert_eq!(frames(&damaged).len(), 1);
    }
}
