//! The headers of a program: fields at fixed places, little-endian.

/// COFF file header, as far as it is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) machine: u16,
    pub(super) sections: u16,
    /// When it was linked, seconds since 1970.
    pub(super) linked_s: u32,
    pub(super) optional_header_bytes: u16,
    pub(super) characteristics: u16,
}

/// Optional header, as far as it is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OptionalHeader {
    /// Major and minor.
    pub(super) os_version: (u16, u16),
    pub(super) subsystem: u16,
    pub(super) dll_characteristics: u16,
    /// Sizes of the first tables: export, import, …, bytes.
    pub(super) table_bytes: Vec<u32>,
}

/// Tables whose sizes are kept: up to that of debugging.
const TABLES_KEPT: usize = 7;

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Where the other headers begin, by the DOS header.
pub(super) fn new_header_at(dos_header: &[u8]) -> Option<u32> {
    le32(dos_header, 60)
}

/// The file header, behind the signature.
pub(super) fn file_header(bytes: &[u8]) -> Option<FileHeader> {
    Some(FileHeader {
        machine: le16(bytes, 4)?,
        sections: le16(bytes, 6)?,
        linked_s: le32(bytes, 8)?,
        optional_header_bytes: le16(bytes, 20)?,
        characteristics: le16(bytes, 22)?,
    })
}

/// The optional header; none when it is of no known kind.
///
/// # Errors
/// When it has no room for what it should contain.
pub(super) fn optional_header(bytes: &[u8]) -> Result<Option<OptionalHeader>, String> {
    let is_plus = le16(bytes, 0) == Some(0x20b);
    // Four sizes of memory precede the tables; other kinds than these two have none.
    let memory_bytes = match le16(bytes, 0) {
        Some(0x20b) => 32,
        Some(0x10b) => 16,
        _ => 0,
    };
    // Without a base of data, the base of the image has four bytes more, or is where it was.
    let shift = if is_plus || memory_bytes == 16 { 0 } else { 4 };
    let read = || {
        let at = 72 + memory_bytes - shift;
        let tables = le32(bytes, at + 4)?;
        let header = OptionalHeader {
            os_version: (le16(bytes, 40 - shift)?, le16(bytes, 42 - shift)?),
            subsystem: le16(bytes, 68 - shift)?,
            dll_characteristics: le16(bytes, 70 - shift)?,
            table_bytes: Vec::new(),
        };
        Some((header, tables, at + 8))
    };
    let too_short =
        |needed: usize| format!("out_of_bound: Optional_Header: {needed} > {}", bytes.len());
    let Some((mut header, tables, at)) = read() else {
        return Err(too_short(80 + memory_bytes - shift));
    };
    let tables = tables as usize;
    let end = tables.checked_mul(8).and_then(|len| len.checked_add(at)).unwrap_or(usize::MAX);
    if end > bytes.len() {
        return Err(too_short(end));
    }
    header.table_bytes =
        (0..tables.min(TABLES_KEPT)).filter_map(|table| le32(bytes, at + table * 8 + 4)).collect();
    let is_known = matches!(le16(bytes, 0), Some(0x10b | 0x107 | 0x20b));
    Ok(is_known.then_some(header))
}

/// The name in a section's header, up to a NUL.
pub(super) fn section_name(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().take(8).copied().take_while(|&byte| byte != 0).collect()
}
