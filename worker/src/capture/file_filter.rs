//! A tcpdump expression over the packets of a file. The kernel runs the same expression on a
//! live interface ([`tyto_core::filter`]).

use tyto_capture::{Frame, LinkType};
use tyto_core::filter::{Filter, FilterError, Program, Target};

use super::CaptureError;
use super::pcap_file::PACKET_BYTES_MAX;

/// Link types of one file that have a program of their own; of further ones it is made anew.
const PROGRAMS_MAX: usize = 32;

/// A filter, with a program for each link type that it met.
#[derive(Debug)]
pub struct FileFilter {
    filter: Filter,
    programs: Vec<(LinkType, Program)>,
    /// Packets that did not match.
    rejected_packets: u64,
}

impl FileFilter {
    /// Reads the expression.
    ///
    /// # Errors
    /// When it is none: where, what was found, what was expected.
    pub fn parse(text: &str) -> Result<Self, CaptureError> {
        let filter = Filter::parse(text).map_err(|error| told(text, &error))?;
        Ok(Self { filter, programs: Vec::new(), rejected_packets: 0 })
    }

    /// Whether the packet matches.
    ///
    /// # Errors
    /// When no packet of this link type can have what the expression asks for.
    pub fn matches(&mut self, frame: &Frame<'_>) -> Result<bool, CaptureError> {
        let at = match self.programs.iter().position(|(known, _)| *known == frame.link_type) {
            Some(at) => at,
            None => self.compile(frame.link_type)?,
        };
        let kept = self
            .programs
            .get(at)
            .map_or(0, |(_, program)| program.run(frame.bytes, frame.wire_len));
        self.rejected_packets += u64::from(kept == 0);
        Ok(kept > 0)
    }

    /// Packets that did not match.
    pub const fn rejected_packets(&self) -> u64 {
        self.rejected_packets
    }

    /// Makes the program of a link type; tells where it is.
    fn compile(&mut self, link_type: LinkType) -> Result<usize, CaptureError> {
        let snaplen = u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX);
        let program = self
            .filter
            .compile(link_type.0, Target::File { snaplen })
            .map_err(|error| told(self.filter.text(), &error))?;
        if self.programs.len() >= PROGRAMS_MAX {
            self.programs.clear();
        }
        self.programs.push((link_type, program));
        Ok(self.programs.len() - 1)
    }
}

/// The fault with the expression and a mark below the column.
fn told(text: &str, error: &FilterError) -> CaptureError {
    let mark = " ".repeat(error.column().saturating_sub(1));
    let hint = error.suggestion().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    CaptureError::Filter(format!("{error}\n    {text}\n    {mark}^{hint}"))
}

#[cfg(test)]
mod tests {
    use tyto_core::time::Ts;

    use super::*;

    fn frame(link_type: LinkType, bytes: &[u8]) -> Frame<'_> {
        Frame { ts: Ts(0), bytes, wire_len: 40, link_type, checksum_good: false }
    }

    /// IPv4 and UDP headers from port 53.
    const UDP: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0x9c, 0x40, 0,
        8, 0, 0,
    ];

    #[test]
    fn each_link_type_has_a_program_of_its_own() {
        let mut filter = FileFilter::parse("udp port 53").unwrap();
        let ethernet = [&[0; 12][..], &[8, 0], &UDP].concat();
        for _ in 0..2 {
            assert!(filter.matches(&frame(LinkType::RAW, &UDP)).unwrap());
            assert!(filter.matches(&frame(LinkType::ETHERNET, &ethernet)).unwrap());
            assert!(!filter.matches(&frame(LinkType::ETHERNET, &UDP)).unwrap());
        }
        assert_eq!(filter.rejected_packets(), 2);
    }

    #[test]
    fn a_fault_is_marked_below_its_column() {
        let error = FileFilter::parse("udp prot 53").unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert!(lines[0].starts_with("filter: column 5: "), "{error}");
        assert_eq!(lines[1..3], ["    udp prot 53", "        ^"]);
    }
}
