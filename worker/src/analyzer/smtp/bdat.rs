//! Chunks of BDAT (RFC 3030): lines out of bytes that come without regard to them.

use super::log::Transaction;
use super::mail::Mail;
use crate::analyzer::Cx;
use crate::analyzer::mime::decode::Line;

/// Bytes of a line that are kept together (Zeek: `SMTP::bdat_max_line_length`).
const LINE_BYTES_MAX: usize = 4096;
/// Name under which weird.log shows what is odd here.
const SOURCE: &str = "SMTP_BDAT";

/// The chunks of one message.
#[derive(Debug, Default)]
pub(super) struct Bdat {
    /// Bytes of the current chunk that are still to come.
    pub(super) chunk_bytes_left: u64,
    /// The current chunk is the last.
    pub(super) is_last: bool,
    /// The begin of a line.
    partial: Vec<u8>,
}

impl Bdat {
    /// The next bytes of the current chunk.
    pub(super) fn bytes(
        &mut self,
        bytes: &[u8],
        mail: &mut Mail,
        transaction: &mut Transaction,
        mime_depth: &mut u64,
        cx: &mut Cx<'_>,
    ) {
        let mut line = |bytes: &[u8], has_end, cx: &mut Cx<'_>| {
            mail.line(Line { bytes, has_end }, transaction, mime_depth, cx);
        };
        if self.partial.last() == Some(&b'\r') && bytes.first().is_some_and(|&byte| byte != b'\n') {
            cx.weird_of(SOURCE, "smtp_bdat_line_cr_only", "");
            line(&self.partial, false, cx);
            self.partial.clear();
        }
        let mut scanned = self.partial.len().saturating_sub(1);
        self.partial.extend_from_slice(bytes);
        self.chunk_bytes_left = self.chunk_bytes_left.saturating_sub(bytes.len() as u64);
        let kept = std::mem::take(&mut self.partial);
        let mut start = 0;
        while let Some(&byte) = kept.get(scanned) {
            let between = kept.get(start..scanned).unwrap_or_default();
            if byte == b'\r' && kept.get(scanned + 1) == Some(&b'\n') {
                line(between, true, cx);
                start = scanned + 2;
                scanned += 1;
            } else if byte == b'\n' {
                cx.weird_of(SOURCE, "smtp_bdat_line_lf_only", "");
                line(kept.get(start..=scanned).unwrap_or_default(), false, cx);
                start = scanned + 1;
            } else if between.len() >= LINE_BYTES_MAX {
                let len = kept.len().to_string();
                cx.weird_of(SOURCE, "smtp_bdat_line_too_long", &len);
                line(between, false, cx);
                start = scanned;
            }
            scanned += 1;
        }
        let rest = kept.get(start..).unwrap_or_default();
        if self.is_last && self.chunk_bytes_left == 0 {
            if !rest.is_empty() {
                line(rest, false, cx);
            }
        } else {
            self.partial = rest.to_vec();
        }
    }

    /// No more chunks.
    pub(super) fn end(
        self,
        mail: &mut Mail,
        transaction: &mut Transaction,
        mime_depth: &mut u64,
        cx: &mut Cx<'_>,
    ) {
        if !self.partial.is_empty() {
            cx.weird_of(SOURCE, "smtp_bdat_undelivered_at_done", "");
            let line = Line { bytes: &self.partial, has_end: false };
            mail.line(line, transaction, mime_depth, cx);
        }
    }
}
