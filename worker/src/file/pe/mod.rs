//! Windows programs (the PE/COFF specification of Microsoft, sections 2 and 3): their headers,
//! for `pe.log`. Read as the bytes come; the program in front of the headers, which DOS runs, is
//! passed over.

mod headers;
mod log;
mod names;

use self::headers::{FileHeader, OptionalHeader, section_name};
use self::log::PeLog;
use super::analyzers::{FileAnalyzer, FileCx, FileSpec};

/// PE.
pub(super) static SPEC: FileSpec = FileSpec {
    name: "PE",
    mime_types: &["application/x-dosexec"],
    hides_file: false,
    begin: |_| Box::new(Pe::default()),
};

/// Length of the DOS header; the program behind it begins there.
const DOS_HEADER_BYTES: usize = 64;
/// Bytes of the DOS program after which the file is taken for something else, as in Zeek.
const DOS_CODE_BYTES_MAX: u32 = 4 << 20;
/// Length of the signature and the file header.
const FILE_HEADER_BYTES: usize = 24;
/// Length of a section's header.
const SECTION_BYTES: usize = 40;
/// Sections whose names are logged. Windows loads programs of up to 96.
const SECTIONS_MAX: usize = 1024;

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    DosHeader,
    DosCode { bytes_left: usize },
    FileHeader,
    OptionalHeader { bytes: usize },
    Sections { left: u16 },
    Nothing,
}

struct Pe {
    next: Next,
    /// The begin of what is read next.
    partial: Vec<u8>,
    sections: u16,
    names: Vec<Vec<u8>>,
    file_header: Option<FileHeader>,
    optional_header: Option<OptionalHeader>,
}

impl Default for Pe {
    fn default() -> Self {
        Self {
            next: Next::DosHeader,
            partial: Vec::new(),
            sections: 0,
            names: Vec::new(),
            file_header: None,
            optional_header: None,
        }
    }
}

impl Next {
    /// Bytes that it takes.
    const fn bytes(self) -> usize {
        match self {
            Self::DosHeader => DOS_HEADER_BYTES,
            Self::DosCode { bytes_left } => bytes_left,
            Self::FileHeader => FILE_HEADER_BYTES,
            Self::OptionalHeader { bytes } => bytes,
            Self::Sections { .. } => SECTION_BYTES,
            Self::Nothing => usize::MAX,
        }
    }
}

impl Pe {
    /// A part is there. Gives what comes behind it, or why it cannot be read.
    fn part(&mut self, part: &[u8]) -> Result<Next, String> {
        match self.next {
            Next::DosHeader => {
                let at = headers::new_header_at(part).unwrap_or_default();
                match at.checked_sub(64) {
                    Some(code) if code < DOS_CODE_BYTES_MAX => {
                        Ok(Next::DosCode { bytes_left: code as usize })
                    }
                    _ => Err("&enforce violation : DOS_Header:AddressOfNewExeHeader".to_owned()),
                }
            }
            Next::DosCode { .. } => Ok(Next::FileHeader),
            Next::FileHeader => {
                let header = headers::file_header(part).unwrap_or_default();
                self.sections = header.sections;
                let bytes = usize::from(header.optional_header_bytes);
                self.file_header = Some(header);
                Ok(Next::OptionalHeader { bytes })
            }
            Next::OptionalHeader { bytes } => {
                if bytes > 0 {
                    self.optional_header = headers::optional_header(part)?;
                }
                Ok(self.sections_left(self.sections))
            }
            Next::Sections { left } => {
                if self.names.len() < SECTIONS_MAX {
                    self.names.push(section_name(part));
                }
                Ok(self.sections_left(left - 1))
            }
            Next::Nothing => Ok(Next::Nothing),
        }
    }

    const fn sections_left(&self, left: u16) -> Next {
        if left == 0 { Next::Nothing } else { Next::Sections { left } }
    }
}

impl FileAnalyzer for Pe {
    fn deliver(&mut self, bytes: &[u8], cx: &mut FileCx<'_>) -> bool {
        let mut rest = bytes;
        loop {
            if self.next == Next::Nothing {
                return false;
            }
            let missing = self.next.bytes() - self.partial.len();
            if let Next::DosCode { bytes_left } = &mut self.next {
                let passed = (*bytes_left).min(rest.len());
                *bytes_left -= passed;
                rest = rest.get(passed..).unwrap_or_default();
                if *bytes_left > 0 {
                    return true;
                }
            } else {
                let Some((taken, behind)) = rest.split_at_checked(missing) else {
                    self.partial.extend_from_slice(rest);
                    return true;
                };
                self.partial.extend_from_slice(taken);
                rest = behind;
            }
            let part = std::mem::take(&mut self.partial);
            match self.part(&part) {
                Ok(next) => self.next = next,
                Err(why) => {
                    cx.violation(&SPEC, format!("Binpac exception: binpac exception: {why}"));
                    self.next = Next::Nothing;
                }
            }
        }
    }

    fn end(&mut self, cx: &mut FileCx<'_>) {
        let Some(file_header) = self.file_header.take() else { return };
        let is_exe = file_header.optional_header_bytes > 0;
        let names = std::mem::take(&mut self.names);
        let names = (is_exe && !names.is_empty()).then_some(names);
        let row = PeLog::new(cx.file, &file_header, self.optional_header.take(), names);
        cx.row(&row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A DOS header, a program of `code` bytes, and headers with two sections.
    fn program(code: usize) -> Vec<u8> {
        let mut bytes = vec![0; DOS_HEADER_BYTES + code];
        bytes[..2].copy_from_slice(b"MZ");
        let at = u32::try_from(bytes.len()).unwrap();
        bytes[60..64].copy_from_slice(&at.to_le_bytes());
        bytes.extend(b"PE\0\0\x64\x86\x02\0");
        bytes.extend([0; 12]);
        bytes.extend([112, 0, 0, 0]);
        let mut optional = vec![0; 112];
        optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
        optional[40] = 10;
        optional[68] = 3;
        bytes.extend(optional);
        for name in [b".text\0\0\0", b"12345678"] {
            bytes.extend(name);
            bytes.extend([0; SECTION_BYTES - 8]);
        }
        bytes
    }

    /// Feeds the parts as they would come, without a file around them.
    fn read(bytes: &[u8]) -> Pe {
        let mut pe = Pe::default();
        let mut rest = bytes;
        while pe.next != Next::Nothing {
            let (part, behind) = rest.split_at(pe.next.bytes());
            pe.next = pe.part(part).unwrap();
            rest = behind;
        }
        pe
    }

    #[test]
    fn headers_behind_a_dos_program_are_read() {
        for code in [0, 100] {
            let pe = read(&program(code));
            assert_eq!(pe.file_header.as_ref().map(|header| header.machine), Some(0x8664));
            let optional = pe.optional_header.as_ref();
            assert_eq!(
                optional.map(|header| (header.os_version, header.subsystem)),
                Some(((10, 0), 3))
            );
            assert_eq!(pe.names, [b".text".to_vec(), b"12345678".to_vec()]);
        }
    }

    #[test]
    fn headers_that_would_lie_within_the_dos_header_are_refused() {
        let mut bytes = program(0);
        bytes[60] = 63;
        assert!(Pe::default().part(&bytes[..DOS_HEADER_BYTES]).is_err());
    }
}
