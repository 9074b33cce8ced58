//! A capture file's first bytes tell whether it is packed, and by what. gzip and zstd are
//! unpacked here; other packers are named, with the command that unpacks them.

use std::io::{self, Read};

use super::CaptureError;

/// Bytes that are looked at.
const START_LEN: usize = 8;

/// The longest window that a zstd frame may ask for, as a power of two: what `zstd --long=31`
/// makes. A frame that asks for it costs that much memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;

/// Packers that are not read: first bytes, name, program that unpacks to standard output.
const REFUSED: [(&[u8], &str, &str); 8] = [
    (b"\xfd7zXZ\x00", "xz", "xz -dc"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"\x02\x21\x4c\x18", "lz4", "lz4 -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"\x1f\x9d", "compress", "gzip -dc"),
    (b"PK\x03\x04", "zip", "unzip -p"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", "7z e -so"),
    (b"\x5d\x00\x00", "lzma", "xz -dc --format=lzma"),
];

/// The bytes of a capture, unpacked if need be.
///
/// # Errors
/// When the stream cannot be read, or is packed by a program whose format is not read.
pub(super) fn unpacked(
    mut reader: Box<dyn Read + Send>,
) -> Result<Box<dyn Read + Send>, CaptureError> {
    let mut start = [0; START_LEN];
    let got = read_start(&mut reader, &mut start)?;
    let whole = io::Cursor::new(start).take(got as u64).chain(reader);
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        // The second is a frame to be skipped, with which parallel packers begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::new(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        _ => match REFUSED.iter().find(|(magic, ..)| start.starts_with(magic)) {
            Some((_, packer, program)) => return Err(CaptureError::Packed { packer, program }),
            None => Box::new(whole),
        },
    })
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
mod tests {
    use std::io::Write;

    use super::*;

    fn read_all(packed: Vec<u8>) -> Result<Vec<u8>, CaptureError> {
        let mut bytes = Vec::new();
        unpacked(Box::new(io::Cursor::new(packed)))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn gzip_and_zstd_are_unpacked_also_in_several_parts() {
        let gzip = |bytes: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(bytes).unwrap();
            gzip.finish().unwrap()
        };
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        assert_eq!(read_all([gzip(b"two "), gzip(b"parts")].concat()).unwrap(), b"two parts");
        assert_eq!(read_all([zstd(b"two "), zstd(b"parts")].concat()).unwrap(), b"two parts");
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &zstd(b"frame")].concat();
        assert_eq!(read_all(skipped).unwrap(), b"frame");
        assert_eq!(read_all(b"as it is".to_vec()).unwrap(), b"as it is");
        assert_eq!(read_all(b"x".to_vec()).unwrap(), b"x");
    }

    #[test]
    fn other_packers_are_refused_with_the_way_to_unpack() {
        let refused = read_all(b"\xfd7zXZ\x00\x00\x04\xe6".to_vec()).unwrap_err().to_string();
        assert_eq!(
            refused,
            "packed with xz, which is not read; unpack it on the way: \
             xz -dc FILE | worker --read - --log-dir DIR"
        );
        for (magic, packer, _) in REFUSED {
            let error = read_all([magic, &[0; 32]].concat()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("packed with {packer},")), "{error}");
        }
    }
}
