//! Certificates that come as files of their own, by HTTP and the like.

use tyto_core::net::Side;

use super::{Shown, show};
use crate::file::{File, FileAnalyzer, FileCx, FileSpec};

/// The analysis of a certificate.
pub static SPEC: FileSpec = FileSpec {
    name: "X509",
    mime_types: &[
        "application/pkix-cert",
        "application/x-x509-user-cert",
        "application/x-x509-ca-cert",
    ],
    // Their row is in x509.log (Zeek: `X509::log_x509_in_files_log`).
    hides_file: true,
    begin: |_: &File| Box::<Whole>::default(),
};

/// Bytes of a certificate that are kept; a longer one is not read.
const CERTIFICATE_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Default)]
struct Whole {
    bytes: Vec<u8>,
}

impl FileAnalyzer for Whole {
    fn deliver(&mut self, bytes: &[u8], _cx: &mut FileCx<'_>) -> bool {
        let room = CERTIFICATE_BYTES_MAX - self.bytes.len();
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        bytes.len() < room
    }

    fn end(&mut self, cx: &mut FileCx<'_>) {
        let shown = Shown {
            is_host_cert: cx.file.mime_type == Some("application/x-x509-user-cert"),
            by_client: cx.file.side == Side::Orig,
        };
        let fuid = cx.file.fuid;
        show(&self.bytes, shown, |_| fuid, cx.now, cx.shared, cx.out);
    }
}
