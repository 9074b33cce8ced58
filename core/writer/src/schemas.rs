//! `PREFIX/spool/LOGGER/schemas/STREAM-FINGERPRINT`: the columns of the rows that a logger took, as
//! the header of a TSV file. JSON lines do not tell the types of theirs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tyto_core::record::line::schema_of_header;
use tyto_core::record::schema::Schema;
use tyto_core::record::tsv;

const FOLDER: &str = "schemas";

/// Keeps a schema, unless it is kept already. Logs are written without it as well.
pub(crate) fn keep(folder: &Path, schema: &Schema) {
    let folder = folder.join(FOLDER);
    let path = folder.join(format!("{}-{:016x}", schema.stream, schema.fingerprint()));
    if path.exists() {
        return;
    }
    let beside = path.with_extension("new");
    let kept = fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&beside, tsv::header(schema, "-")))
        .and_then(|()| fs::rename(&beside, &path));
    if let Err(error) = kept {
        tracing::warn!(file = %path.display(), %error, "cannot keep the columns of a log stream");
    }
}

/// The columns that rows of the stream had at this logger, the latest first.
///
/// # Errors
/// When the folder cannot be listed.
pub fn kept(folder: &Path, stream: &str) -> io::Result<Vec<Schema>> {
    let entries = match fs::read_dir(folder.join(FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.rsplit_once('-').is_some_and(|(of, print)| of == stream && !print.contains('.')) {
            paths.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    paths.sort();
    let texts = paths.iter().rev().filter_map(|(_, path)| fs::read_to_string(path).ok());
    Ok(texts.filter_map(|text| schema_of_header(&text)).collect())
}
