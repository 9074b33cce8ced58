//! Capture files: pcap (microseconds and nanoseconds, both byte orders, with Kuznetzov's longer
//! headers) and pcapng, plain or packed with gzip or zstd, from a path or from standard input
//! (`-`).
//!
//! Bytes in, [`Frame`]s out. A file that ends within a packet ends there, without an error but
//! not without a word ([`PcapFile::cut_off`]): a capture that was cut off is read as far as it
//! goes. Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tyto_core::time::{NANOS, Ts};

use tyto_capture::{Frame, LinkType};

use super::buffer::Window;
use super::file_ahead::FileAhead;
use super::pcapng::{self, Section};
use super::{CaptureError, Next, PacketSource, unpack};
use crate::decode::link_type::{self, UnknownLinkType};

/// Longest packet that is taken, bytes: libpcap's limit. A longer one means that the file is
/// damaged; reading ends there.
pub(super) const PACKET_BYTES_MAX: usize = 262_144;

/// Length of pcap's file header, bytes.
const FILE_HEADER_LEN: usize = 24;

/// A capture file being read.
pub struct PcapFile {
    window: Window,
    format: Format,
    progress: Progress,
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
    lengths: Lengths,
}

/// Which of a packet's two lengths stands first in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    /// Since version 2.4: what was captured, then what was on the wire.
    CapturedFirst,
    /// Before version 2.3.
    WireFirst,
    /// Version 2.3 had both. The lower one is what was captured.
    Either,
}

/// How far the reading of a file came, and what was not read.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Packets found, also those passed by.
    pub(super) packets: u64,
    /// Where a packet began that ends behind the end of the file.
    cut_at: Option<u64>,
    passed_by: u64,
    reason: Option<UnknownLinkType>,
}

/// A file that ends within a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// Whole packets before.
    pub packets: u64,
    /// Where the packet that is cut begins, bytes into the unpacked file.
    pub at: u64,
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ends within a packet: {} are whole, the next begins at byte {}",
            self.packets, self.at
        )
    }
}

impl PcapFile {
    /// Opens the file at `path`, or standard input for `-`.
    ///
    /// # Errors
    /// When it cannot be opened, does not begin as a capture does, or is of a link type that is
    /// not read.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let reader: Box<dyn Read + Send> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            let opened = File::open(path);
            let open = |source| CaptureError::Open { path: path.into(), source };
            Box::new(FileAhead::new(opened.map_err(open)?))
        };
        Self::from_reader(reader)
    }

    /// Reads a capture from `reader`.
    ///
    /// # Errors
    /// When it does not begin as a capture does, or is of a link type that is not read.
    pub fn from_reader(reader: Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        let mut window = Window::new(unpack::unpacked(reader)?);
        let format = Format::of(&mut window)?;
        Ok(Self { window, format, progress: Progress::default() })
    }

    /// After the end: whether the file ended within a packet.
    pub fn cut_off(&self) -> Option<CutOff> {
        let Progress { packets, cut_at, .. } = self.progress;
        cut_at.map(|at| CutOff { packets, at })
    }
}

impl PacketSource for PcapFile {
    fn next_frame(&mut self) -> Result<Next<'_>, CaptureError> {
        match &mut self.format {
            Format::Pcap(pcap) => pcap.next_frame(&mut self.window, &mut self.progress),
            Format::Pcapng(section) => section.next_frame(&mut self.window, &mut self.progress),
        }
    }

    fn upcoming(&self, count: usize, look: &mut dyn FnMut(LinkType, &[u8])) {
        if let Format::Pcap(pcap) = &self.format {
            pcap.frames_of(self.window.at_hand()).take(count).for_each(|f| look(pcap.link_type, f));
        }
    }
}

impl fmt::Debug for PcapFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcapFile").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Progress {
    /// A packet is not read because of its link type.
    pub(super) fn pass_by(&mut self, reason: UnknownLinkType) {
        self.packets += 1;
        self.passed_by += 1;
        self.reason.get_or_insert(reason);
    }

    /// The file ends in what began at `at`.
    pub(super) const fn cut(&mut self, at: u64) {
        self.cut_at = Some(at);
    }

    /// What a reader returns at the end of the file. Packets that were passed by are told once.
    pub(super) fn end(&mut self) -> Result<Next<'static>, CaptureError> {
        match self.reason.take() {
            Some(reason) => Err(CaptureError::PassedBy { packets: self.passed_by, reason }),
            None => Ok(Next::End),
        }
    }

    /// What stands at `at` cannot be.
    pub(super) const fn damaged(&self, at: u64, found: String) -> CaptureError {
        CaptureError::Damaged { at, packets: self.packets, found }
    }
}

impl Format {
    fn of(window: &mut Window) -> Result<Self, CaptureError> {
        let magic: [u8; 4] = window
            .peek(4)?
            .try_into()
            .map_err(|_| CaptureError::Format("shorter than any file header".into()))?;
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
            _ => return Err(CaptureError::Format(unknown_start(magic))),
        };
        let header = window
            .take(FILE_HEADER_LEN)?
            .ok_or_else(|| CaptureError::Format("ends within pcap's file header".into()))?;
        let half = |at| u16_at(header, at, big_endian).unwrap_or_default();
        let lengths = match (half(4), half(6)) {
            (2, 0..=2) => Lengths::WireFirst,
            (2, 3) => Lengths::Either,
            // What DG/UX's tcpdump wrote.
            (2, _) | (543, 0) => Lengths::CapturedFirst,
            (major, minor) => {
                let found = format!("pcap version {major}.{minor}; expected 2.4");
                return Err(CaptureError::Format(found));
            }
        };
        // The upper bits tell the length of a frame check sequence.
        let link_type = u32_at(header, 20, big_endian).unwrap_or_default() & 0x03ff_ffff;
        let link_type = LinkType(link_type);
        link_type::check(link_type)?;
        Ok(Self::Pcap(Pcap { big_endian, fraction_ns, link_type, header_len, lengths }))
    }
}

/// Says what a file is that begins so, if it is a capture of another kind.
fn unknown_start(magic: [u8; 4]) -> String {
    let other = match &magic {
        b"snoo" => "snoop",
        b"RTSS" | b"GMBU" => "Network Monitor",
        b"TRSN" => "Sniffer",
        b"XCP\0" => "NetXRay",
        [0x1c, 0x00, 0x01, 0xab | 0xac] => "IxVeriWave",
        _ => {
            let [a, b, c, d] = magic;
            return format!(
                "begins with {a:02x} {b:02x} {c:02x} {d:02x}; expected pcap or pcapng, \
                 plain or packed with gzip or zstd"
            );
        }
    };
    format!("a {other} capture; `editcap FILE out.pcap` makes a pcap of it")
}

impl Pcap {
    fn next_frame<'a>(
        &self,
        window: &'a mut Window,
        progress: &mut Progress,
    ) -> Result<Next<'a>, CaptureError> {
        let at = window.passed();
        let header = window.peek(self.header_len)?;
        let Some(&fields) = header.first_chunk().filter(|_| header.len() >= self.header_len) else {
            if !header.is_empty() || window.is_cut() {
                progress.cut(at);
            }
            return progress.end();
        };
        let [secs, fraction, first, second] = self.words(fields);
        let (captured, wire_len) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::WireFirst => (second, first),
            Lengths::Either => (first.min(second), first.max(second)),
        };
        let captured = captured as usize;
        if captured > PACKET_BYTES_MAX {
            let found =
                format!("a packet of {captured} bytes; none has more than {PACKET_BYTES_MAX}");
            return Err(progress.damaged(at, found));
        }
        // As libpcap reads it: a fraction that is none may be negative.
        let fraction_ns = i64::from(fraction.cast_signed()) * i64::from(self.fraction_ns);
        let ts = Ts((u64::from(secs) * NANOS).saturating_add_signed(fraction_ns));
        let link_type = self.link_type;
        let Some(record) = window.take(self.header_len + captured)? else {
            progress.cut(at);
            return progress.end();
        };
        progress.packets += 1;
        let bytes = record.get(self.header_len..).unwrap_or_default();
        Ok(Next::Frame(Frame { ts, bytes, wire_len, link_type, checksum_good: false }))
    }
}

impl Pcap {
    /// The four numbers with which a packet's header begins.
    fn words(&self, fields: [u8; 16]) -> [u32; 4] {
        let (words, _) = fields.as_chunks();
        let word = |at: usize| match words.get(at) {
            Some(word) if self.big_endian => u32::from_be_bytes(*word),
            Some(word) => u32::from_le_bytes(*word),
            None => 0,
        };
        [word(0), word(1), word(2), word(3)]
    }

    /// The frames in `records`, up to the first that is not whole.
    fn frames_of<'a>(&self, mut records: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let captured_at = if self.lengths == Lengths::WireFirst { 12 } else { 8 };
        std::iter::from_fn(move || {
            let captured = u32_at(records, captured_at, self.big_endian)? as usize;
            let (record, rest) =
                records.split_at_checked(self.header_len.checked_add(captured)?)?;
            records = rest;
            record.get(self.header_len..)
        })
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

#[cfg(test)]
mod tests;
