//! Messages in a byte stream: each behind its length in two bytes (RFC 1035 section 4.2.2).

/// One side's stream. Bytes behind a gap go on where those before it ended, as in Zeek. It holds one message at most, which its length keeps below 64 kB.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// The message and its length, as far as it came.
    held: Vec<u8>,
}

const LENGTH_LEN: usize = 2;

impl Framing {
    /// Takes the next bytes and gives each message that is whole.
    pub(super) fn deliver(&mut self, mut bytes: &[u8], mut message: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            // What is whole here needs no copy.
            if self.held.is_empty()
                && let Some(len) = length(bytes)
                && let Some(whole) = bytes.get(LENGTH_LEN..LENGTH_LEN + len)
            {
                message(whole);
                bytes = bytes.get(LENGTH_LEN + len..).unwrap_or_default();
                continue;
            }
            let wanted = length(&self.held).map_or(LENGTH_LEN, |len| LENGTH_LEN + len);
            let taken = bytes.len().min(wanted - self.held.len());
            let (now, later) = bytes.split_at(taken);
            self.held.extend_from_slice(now);
            bytes = later;
            if length(&self.held).is_some_and(|len| LENGTH_LEN + len == self.held.len()) {
                message(self.held.get(LENGTH_LEN..).unwrap_or_default());
                self.held.clear();
            }
        }
    }

    /// The connection ends: gives what came of a message.
    pub(super) fn flush(&mut self, mut message: impl FnMut(&[u8])) {
        if self.held.len() > LENGTH_LEN {
            message(self.held.get(LENGTH_LEN..).unwrap_or_default());
        }
        self.held.clear();
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)))
}
