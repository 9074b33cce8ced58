//! Rows that say who made them and which they are, and their way back out of archived files.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use tyto_core::record::LogRecord;
use tyto_worker::output::Output;

/// Log streams of a worker.
pub(crate) const STREAMS: [&str; 3] = ["conn", "dns", "weird"];

/// Who made a row (its worker's place), of which log stream (its place), and its number there.
pub(crate) type RowName = (u64, usize, u64);

#[derive(LogRecord)]
#[log(stream = "conn")]
struct Conn {
    worker: u64,
    number: u64,
    text: String,
}

#[derive(LogRecord)]
#[log(stream = "dns")]
struct Dns {
    worker: u64,
    number: u64,
    text: String,
    more: Option<String>,
}

#[derive(LogRecord)]
#[log(stream = "weird")]
struct Weird {
    worker: u64,
    number: u64,
}

/// Writes one row.
pub(crate) fn write(output: &mut Output, (worker, stream, number): RowName, text_len: usize) {
    let text = "x".repeat(text_len);
    match stream {
        0 => output.row(&Conn { worker, number, text }),
        1 => output.row(&Dns { worker, number, text, more: None }),
        _ => output.row(&Weird { worker, number }),
    }
}

/// Counts the rows of an archived file.
pub(crate) fn read(path: &Path, bytes: &[u8], rows: &mut BTreeMap<RowName, u32>) {
    let mut text = String::new();
    match path.extension().and_then(|end| end.to_str()) {
        Some("gz") => drop(GzDecoder::new(bytes).read_to_string(&mut text).unwrap()),
        Some("zst") => text = String::from_utf8(zstd::decode_all(bytes).unwrap()).unwrap(),
        _ => text.push_str(std::str::from_utf8(bytes).unwrap()),
    }
    assert!(text.starts_with("#separator"), "{path:?} does not begin as a log");
    assert!(text.lines().last().unwrap().starts_with("#close\t"), "{path:?} is cut off");
    let fields = text.lines().find(|line| line.starts_with("#fields")).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let stream = name.split('.').next().unwrap();
    let stream = STREAMS.iter().position(|known| *known == stream).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns.len(), fields.split('\t').count() - 1, "{path:?}: {line}");
        let number = |column: usize| columns[column].parse::<u64>().unwrap();
        *rows.entry((number(0), stream, number(1))).or_default() += 1;
    }
}
