//! `pe.log`: one row per Windows program.

use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::Ts;
use tyto_core::uid::Fuid;

use super::headers::{FileHeader, OptionalHeader};
use super::names;
use crate::file::File;

/// The processor has words of 32 bits.
const IS_32BIT: u16 = 0x100;
const DYNAMIC_BASE: u16 = 0x40;
const FORCE_INTEGRITY: u16 = 0x80;
const NX_COMPAT: u16 = 0x100;
const NO_SEH: u16 = 0x400;

/// A program.
#[derive(Debug, LogRecord)]
#[log(stream = "pe")]
pub(super) struct PeLog {
    /// When the file was first seen.
    pub ts: Ts,
    /// Id of the file.
    pub id: Fuid,
    /// Processor that it is for.
    pub machine: Option<String>,
    /// When it was linked.
    pub compile_ts: Option<Ts>,
    /// Oldest system that it is for.
    pub os: Option<String>,
    /// Kind of environment that it runs in.
    pub subsystem: Option<String>,
    /// It is a program, not an object.
    pub is_exe: bool,
    /// Its processor has words of 64 bits.
    pub is_64bit: bool,
    /// It can be loaded at any address.
    pub uses_aslr: bool,
    /// Its data is not executed.
    pub uses_dep: bool,
    /// Its signature is checked.
    pub uses_code_integrity: bool,
    /// It handles exceptions.
    pub uses_seh: bool,
    /// It has a table of imports.
    pub has_import_table: Option<bool>,
    /// It has a table of exports.
    pub has_export_table: Option<bool>,
    /// It has a table of certificates.
    pub has_cert_table: Option<bool>,
    /// It has a table for debugging.
    pub has_debug_data: Option<bool>,
    /// Names of its sections.
    pub section_names: Option<Vector<Vec<u8>>>,
}

impl PeLog {
    pub(super) fn new(
        file: &File,
        header: &FileHeader,
        optional: Option<OptionalHeader>,
        section_names: Option<Vec<Vec<u8>>>,
    ) -> Self {
        let optional = optional.as_ref();
        let flags = optional.map_or(0, |optional| optional.dll_characteristics);
        let has_table = |table: usize| {
            optional.map(|optional| optional.table_bytes.get(table).is_some_and(|&len| len > 0))
        };
        Self {
            ts: file.begun,
            id: file.fuid,
            machine: Some(names::machine(header.machine)),
            compile_ts: Some(Ts::new(u64::from(header.linked_s), 0)),
            os: optional
                .map(|optional| names::system(optional.os_version.0, optional.os_version.1)),
            subsystem: optional.map(|optional| names::subsystem(optional.subsystem)),
            is_exe: header.optional_header_bytes > 0,
            is_64bit: header.characteristics & IS_32BIT == 0,
            uses_aslr: flags & DYNAMIC_BASE != 0,
            uses_dep: flags & NX_COMPAT != 0,
            uses_code_integrity: flags & FORCE_INTEGRITY != 0,
            uses_seh: flags & NO_SEH == 0,
            has_import_table: has_table(1),
            has_export_table: has_table(0),
            has_cert_table: has_table(4),
            has_debug_data: has_table(6),
            section_names: section_names.map(Vector),
        }
    }
}
