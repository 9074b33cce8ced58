//! `PREFIX/spool/LOGGER/schemas/STREAM-FINGERPRINT`: the columns of the rows that a logger took, as
//! the header of a TSV file. JSON lines do not tell the types of theirs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tyto_core::record::line::schema_of_header;
use tyto_core::record::schema::Schema;
use tyto_core::record::tsv;

use crate::disk::{self, Disk, Open};

const FOLDER: &str = "schemas";

/// Keeps a schema, unless it is kept already. Logs are written without it as well, so nothing waits
/// for it to be durable: the next start keeps it again.
pub(crate) fn keep(disk: &dyn Disk, folder: &Path, schema: &Schema) {
    let folder = folder.join(FOLDER);
    let path = folder.join(format!("{}-{:016x}", schema.stream, schema.fingerprint()));
    let text = tsv::header(schema, "-");
    // One that a crash tore is written anew.
    if disk.read(&path).is_ok_and(|found| found == text.as_bytes()) {
        return;
    }
    let beside = path.with_extension("new");
    let kept = disk
        .create_dir_all(&folder)
        .and_then(|()| disk.open(&beside, Open::Create))
        .and_then(|file| file.write_all_at(text.as_bytes(), 0))
        .and_then(|()| disk.rename(&beside, &path));
    if let Err(error) = kept {
        tracing::warn!(file = %path.display(), %error, "cannot keep the columns of a log stream");
    }
}

/// The columns that rows of the stream had at this logger, the latest first.
///
/// # Errors
/// When the folder cannot be listed.
pub fn kept(folder: &Path, stream: &str) -> io::Result<Vec<Schema>> {
    let (disk, folder) = (disk::real(), folder.join(FOLDER));
    let names = match disk.read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths: Vec<(SystemTime, PathBuf)> = Vec::new();
    for name in names {
        let text = name.to_string_lossy();
        if text.rsplit_once('-').is_some_and(|(of, print)| of == stream && !print.contains('.')) {
            let path = folder.join(&name);
            paths.push((disk.metadata(&path)?.modified, path));
        }
    }
    paths.sort();
    let texts = paths.iter().rev().filter_map(|(_, path)| disk.read(path).ok());
    Ok(texts.filter_map(|text| schema_of_header(&String::from_utf8_lossy(&text))).collect())
}
