//! WebSocket frames (RFC 6455 section 5) behind an HTTP upgrade: what they carry goes on to
//! whatever protocol is found in it. The handshake, and the row of it, are HTTP's.

#[cfg(test)]
mod tests;

use tyto_core::net::{Proto, Side};

use super::stage::Stage;
use super::{Analyzer, Cx, Spec};

/// WebSocket. Never found by port or content: HTTP hands it over.
pub static SPEC: Spec = Spec {
    name: "WEBSOCKET",
    ports: &[],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| {
        Box::new(WebSocket {
            sides: [Frames::default(), Frames::default()],
            nested: Stage::detecting(Proto::Tcp),
            had_gap: false,
        })
    },
};

/// Bytes of a frame's payload that are unmasked at a time.
const CHUNK_BYTES: usize = 4096;
/// Bytes of a control frame (RFC 6455 section 5.5). Longer ones are passed over.
const CONTROL_BYTES_MAX: u64 = 125;
/// Header of a frame: 2 bytes, length, mask.
const HEADER_BYTES_MAX: usize = 2 + 8 + 4;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The analyzer.
#[derive(Debug)]
struct WebSocket {
    /// By [`Side::index`].
    sides: [Frames; 2],
    nested: Stage,
    had_gap: bool,
}

/// The frames of one side.
#[derive(Debug, Default)]
struct Frames {
    /// The header of the next frame, as far as it came.
    header: Vec<u8>,
    /// Bytes of the frame's payload that are still to come.
    left_bytes: u64,
    mask: Option<[u8; 4]>,
    mask_at: usize,
    /// What the message is, by its first frame.
    opcode: u8,
    is_final: bool,
    /// More frames of the message are to come.
    in_message: bool,
}

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameHeader {
    is_final: bool,
    opcode: u8,
    payload_bytes: u64,
    mask: Option<[u8; 4]>,
}

impl Analyzer for WebSocket {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        // Behind a gap it is not known where the next frame begins.
        if self.had_gap {
            return;
        }
        let Self { sides, nested, .. } = self;
        let Some(frames) = sides.get_mut(side.index()) else { return };
        let mut rest = bytes;
        while !rest.is_empty() {
            if frames.left_bytes > 0 {
                rest = frames.payload(side, rest, nested, cx);
            } else {
                match frames.header(rest, cx) {
                    Some(behind) => rest = behind,
                    None => {
                        cx.violation(
                            "binpac exception: &enforce violation : WebSocket_FrameHeader:first2",
                            bytes,
                        );
                        return;
                    }
                }
            }
        }
    }

    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        self.had_gap = true;
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        self.nested.end_of_side(side, cx);
    }

    fn flipped(&mut self) {
        self.sides.swap(0, 1);
        self.nested.flipped();
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        self.nested.wake(cx);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.nested.end(cx);
    }
}

impl Frames {
    /// Reads on in a header; gives what is behind. `None`: no frame may begin so.
    fn header<'b>(&mut self, bytes: &'b [u8], cx: &mut Cx<'_>) -> Option<&'b [u8]> {
        let mut rest = bytes;
        while self.header.len() < self.header_bytes() {
            let Some((&byte, behind)) = rest.split_first() else { return Some(rest) };
            rest = behind;
            if self.header.len() < HEADER_BYTES_MAX {
                self.header.push(byte);
            }
        }
        let header = FrameHeader::parse(&self.header)?;
        self.header.clear();
        // The first frame says what the message is, the others that they go on.
        if self.in_message != (header.opcode == CONTINUATION) {
            return None;
        }
        if !self.in_message {
            self.opcode = header.opcode;
        }
        let is_control = matches!(self.opcode, CLOSE | PING | PONG);
        if is_control && header.payload_bytes > CONTROL_BYTES_MAX {
            let told = format!("{} > {CONTROL_BYTES_MAX}", header.payload_bytes);
            cx.weird_with("websocket_control_frame_size_exceeded", &told);
        }
        self.left_bytes = header.payload_bytes;
        self.mask = header.mask;
        self.mask_at = 0;
        self.is_final = header.is_final;
        self.in_message = true;
        if self.left_bytes == 0 {
            self.end_frame(cx);
        }
        Some(rest)
    }

    /// Length of the header that is being read, by what is there of it.
    fn header_bytes(&self) -> usize {
        let Some(second) = self.header.get(1) else { return 2 };
        let len_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        2 + len_bytes + mask_bytes
    }

    /// Takes payload; gives what is behind.
    fn payload<'b>(
        &mut self,
        side: Side,
        bytes: &'b [u8],
        nested: &mut Stage,
        cx: &mut Cx<'_>,
    ) -> &'b [u8] {
        let at_most = usize::try_from(self.left_bytes).unwrap_or(usize::MAX);
        let (payload, rest) = bytes.split_at(at_most.min(bytes.len()));
        self.left_bytes -= payload.len() as u64;
        if matches!(self.opcode, TEXT | BINARY) && nested.is_live() {
            match self.mask {
                None => nested.deliver(side, payload, cx),
                Some(mask) => self.unmasked(mask, payload, |chunk| nested.deliver(side, chunk, cx)),
            }
        }
        if self.left_bytes == 0 {
            self.end_frame(cx);
        }
        rest
    }

    fn unmasked(&mut self, mask: [u8; 4], payload: &[u8], mut out: impl FnMut(&[u8])) {
        let mut clear = [0; CHUNK_BYTES];
        for chunk in payload.chunks(CHUNK_BYTES) {
            let key = mask.iter().cycle().skip(self.mask_at);
            for ((clear, masked), key) in clear.iter_mut().zip(chunk).zip(key) {
                *clear = masked ^ key;
            }
            self.mask_at = (self.mask_at + chunk.len()) % mask.len();
            out(clear.get(..chunk.len()).unwrap_or_default());
        }
    }

    const fn end_frame(&mut self, cx: &mut Cx<'_>) {
        if self.is_final {
            self.in_message = false;
            cx.confirm();
        }
    }
}

impl FrameHeader {
    /// Reads a header that is all there.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (payload_bytes, rest) = match second & 0x7f {
            126 => {
                let (len, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*len)), rest)
            }
            127 => {
                let (len, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*len), rest)
            }
            len => (u64::from(len), rest),
        };
        let mask = if second & 0x80 == 0 { None } else { Some(*rest.first_chunk()?) };
        Some(Self { is_final: first & 0x80 != 0, opcode: first & 0x0f, payload_bytes, mask })
    }
}
