//! Lines out of one side of a byte stream, for the protocols that talk in lines (Zeek: the
//! CONTENTLINE support analyzer). Pieces of any size in; lines and, where the protocol asks for
//! it, plain bytes out. A line that lies whole in its piece is not copied.
//!
//! ```ignore
//! let mut input = self.lines.begin(bytes, cx);
//! while let Some(piece) = self.lines.next(&mut input, cx) {
//!     match piece {
//!         Piece::Line(line) => self.line(&line, cx),   // may call lines.deliver_plain(n)
//!         Piece::Plain(bytes) => self.body(bytes, cx),
//!     }
//! }
//! ```

use std::borrow::Cow;

use super::Cx;

/// Bytes of a line that are kept where the protocol sets no limit of its own (Zeek: 16 MB).
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024 - 100;
/// Name under which weird.log shows what is odd here.
const SOURCE: &str = "CONTENTLINE";

/// Which single characters end a line; CR LF does in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eol {
    /// CR or LF alone.
    Either,
    /// LF alone.
    Lf,
    /// Neither.
    CrLfOnly,
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'i> {
    /// A line without its end.
    Line(Cow<'i, [u8]>),
    /// Bytes that were asked for with [`ContentLine::deliver_plain`].
    Plain(&'i [u8]),
}

/// What is left of the bytes of one delivery.
#[derive(Debug)]
pub struct Input<'i> {
    rest: &'i [u8],
}

/// The lines of one side.
#[derive(Debug)]
pub struct ContentLine {
    /// The begin of a line whose end did not come yet.
    partial: Vec<u8>,
    last: u8,
    eol: Eol,
    line_bytes_max: usize,
    plain_bytes: u64,
    delivery_bytes: Option<u64>,
    flags_nul: bool,
    is_quiet: bool,
    skips_partial: bool,
    has_given_up: bool,
}

/// Weirds that are told once per connection: bits of [`crate::flow::conn::ConnCore::told_once`].
#[derive(Clone, Copy)]
#[repr(u8)]
enum Once {
    SingleCr = 1,
    SingleLf = 2,
    Nul = 4,
}

impl Default for ContentLine {
    fn default() -> Self {
        Self::new(LINE_BYTES_MAX)
    }
}

impl<'i> Input<'i> {
    /// Bytes that were not taken yet.
    pub const fn rest(&self) -> &'i [u8] {
        self.rest
    }

    /// Takes all that is left: the protocol changed, it has no lines.
    pub fn take_rest(&mut self) -> &'i [u8] {
        std::mem::take(&mut self.rest)
    }
}

impl ContentLine {
    /// Lines of up to `line_bytes_max` bytes; CR, LF, CR LF end them.
    pub const fn new(line_bytes_max: usize) -> Self {
        Self {
            partial: Vec::new(),
            last: 0,
            eol: Eol::Either,
            line_bytes_max,
            plain_bytes: 0,
            delivery_bytes: None,
            flags_nul: false,
            is_quiet: false,
            skips_partial: false,
            has_given_up: false,
        }
    }

    /// Sets what ends lines besides CR LF.
    #[must_use]
    pub const fn ending_at(mut self, eol: Eol) -> Self {
        self.eol = eol;
        self
    }

    /// Lets the first NUL be a weird, and leaves NULs out up to then.
    #[must_use]
    pub const fn flagging_nul(mut self) -> Self {
        self.flags_nul = true;
        self
    }

    /// Takes nothing from connections whose begin was not seen.
    #[must_use]
    pub const fn skipping_partial(mut self) -> Self {
        self.skips_partial = true;
        self
    }

    /// Changes what ends lines besides CR LF.
    pub const fn set_eol(&mut self, eol: Eol) {
        self.eol = eol;
    }

    /// Tells no weirds of line ends, or tells them again.
    pub const fn set_quiet(&mut self, is_quiet: bool) {
        self.is_quiet = is_quiet;
    }

    /// The next `plain_bytes` are not lines. 0 ends that early.
    pub const fn deliver_plain(&mut self, plain_bytes: u64) {
        self.plain_bytes = plain_bytes;
    }

    /// Once so many bytes were delivered, counted from the next delivery, a line that has no end
    /// yet ends there. `None`: no longer.
    pub const fn set_delivery_bytes(&mut self, bytes: Option<u64>) {
        self.delivery_bytes = bytes;
    }

    /// Takes nothing more.
    pub fn give_up(&mut self) {
        self.has_given_up = true;
        self.partial = Vec::new();
    }

    /// The begin of a line waits for its end.
    pub const fn has_partial_line(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Begins a delivery. [`ContentLine::next`] is to be called until it gives `None`.
    pub fn begin<'i>(&mut self, bytes: &'i [u8], cx: &Cx<'_>) -> Input<'i> {
        if self.has_given_up || (self.skips_partial && cx.is_partial) {
            return Input { rest: &[] };
        }
        if let Some(left) = self.delivery_bytes
            && left > 0
        {
            // Who passes the end without meeting it exactly never ends a line by force.
            // The LF of a CR LF that was torn apart belongs to the line before.
            let is_torn = self.eol == Eol::Either && self.last == b'\r';
            let counted = if is_torn { bytes.strip_prefix(b"\n").unwrap_or(bytes) } else { bytes };
            self.delivery_bytes = left.checked_sub(counted.len() as u64);
        }
        Input { rest: bytes }
    }

    /// The stream ended: what waits for its end is a line, by the same rules.
    pub fn end<'i>(&mut self, cx: &Cx<'_>) -> Input<'i> {
        if self.has_partial_line() { self.begin(b"\n", cx) } else { Input { rest: &[] } }
    }

    /// The next line or plain piece of `input`.
    pub fn next<'i>(&mut self, input: &mut Input<'i>, cx: &mut Cx<'_>) -> Option<Piece<'i>> {
        if self.has_given_up {
            input.rest = &[];
            return None;
        }
        if self.eol == Eol::Either
            && self.last == b'\r'
            && let Some(rest) = input.rest.strip_prefix(b"\n")
        {
            // The CR ended the line already.
            self.last = b'\n';
            input.rest = rest;
        }
        if self.plain_bytes > 0 && !input.rest.is_empty() {
            let at_most = usize::try_from(self.plain_bytes).unwrap_or(usize::MAX);
            let (plain, rest) = input.rest.split_at(at_most.min(input.rest.len()));
            self.plain_bytes -= plain.len() as u64;
            self.last = 0;
            input.rest = rest;
            return Some(Piece::Plain(plain));
        }
        let line = if input.rest.is_empty() { None } else { self.line(input, cx) };
        line.or_else(|| self.forced_line(cx)).map(Piece::Line)
    }

    /// The line that ends because all bytes came that were announced.
    fn forced_line(&mut self, cx: &mut Cx<'_>) -> Option<Cow<'static, [u8]>> {
        if self.delivery_bytes != Some(0) {
            return None;
        }
        self.delivery_bytes = None;
        if self.partial.is_empty() {
            return None;
        }
        cx.weird_of(SOURCE, "line_terminated_without_CRLF", "");
        self.last = b'\n';
        Some(Cow::Owned(std::mem::take(&mut self.partial)))
    }

    fn line<'i>(&mut self, input: &mut Input<'i>, cx: &mut Cx<'_>) -> Option<Cow<'i, [u8]>> {
        match self.whole_line(input, cx) {
            Some(line) => Some(Cow::Borrowed(line)),
            None => self.pieced_line(input, cx).map(Cow::Owned),
        }
    }

    /// The usual case: the line lies whole in the input, and its end leaves no doubt.
    fn whole_line<'i>(&mut self, input: &mut Input<'i>, cx: &mut Cx<'_>) -> Option<&'i [u8]> {
        if !self.partial.is_empty() {
            return None;
        }
        let bytes = input.rest;
        let len = memchr::memchr2(b'\r', b'\n', bytes)?;
        let line = bytes.get(..len)?;
        let end = bytes.get(len..)?;
        let (last, rest) = match (end, self.eol) {
            ([b'\r', b'\n', rest @ ..], _) => (b'\n', rest),
            ([b'\r', rest @ ..], Eol::Either) => (b'\r', rest),
            ([b'\n', rest @ ..], Eol::Either | Eol::Lf) if len > 0 || self.last != b'\r' => {
                (b'\n', rest)
            }
            _ => return None,
        };
        if len >= self.line_bytes_max || (self.flags_nul && memchr::memchr(0, line).is_some()) {
            return None;
        }
        if len > 0 && self.last == b'\r' {
            self.once(Once::SingleCr, cx);
        }
        self.last = last;
        input.rest = rest;
        Some(line)
    }

    /// Character by character; what has no end yet is kept.
    fn pieced_line(&mut self, input: &mut Input<'_>, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
        while let Some((&c, rest)) = input.rest.split_first() {
            if self.partial.len() >= self.line_bytes_max {
                cx.weird_of(SOURCE, "contentline_size_exceeded", "");
                self.partial.truncate(self.line_bytes_max.saturating_sub(1));
                return Some(self.end_line(c, rest, input));
            }
            match c {
                b'\r' => {
                    if let Some(behind) = rest.strip_prefix(b"\n") {
                        return Some(self.end_line(b'\n', behind, input));
                    }
                    if self.eol == Eol::Either {
                        return Some(self.end_line(c, rest, input));
                    }
                    self.partial.push(c);
                }
                b'\n' if self.last == b'\r' => {
                    // Without a CR before it, that CR ended a line when it still could.
                    if self.partial.pop().is_some() {
                        return Some(self.end_line(c, rest, input));
                    }
                }
                b'\n' if self.eol != Eol::CrLfOnly => {
                    return Some(self.end_line(c, rest, input));
                }
                b'\n' => {
                    self.once(Once::SingleLf, cx);
                    self.partial.push(c);
                }
                0 if self.flags_nul => self.nul(cx),
                _ => {
                    let run = self.run(input.rest);
                    if self.last == b'\r' {
                        self.once(Once::SingleCr, cx);
                    }
                    let (run, rest) = input.rest.split_at(run);
                    self.partial.extend_from_slice(run);
                    self.last = run.last().copied().unwrap_or(c);
                    input.rest = rest;
                    continue;
                }
            }
            if self.last == b'\r' && c != b'\n' {
                self.once(Once::SingleCr, cx);
            }
            self.last = c;
            input.rest = rest;
        }
        None
    }

    /// Characters at the begin of `bytes` that are nothing but content and find room; at least
    /// one, which the caller looked at.
    fn run(&self, bytes: &[u8]) -> usize {
        let room = self.line_bytes_max.saturating_sub(self.partial.len());
        let bytes = bytes.get(..room).unwrap_or(bytes);
        let end = if self.flags_nul {
            memchr::memchr3(b'\r', b'\n', 0, bytes)
        } else {
            memchr::memchr2(b'\r', b'\n', bytes)
        };
        end.unwrap_or(bytes.len()).max(1)
    }

    fn end_line<'i>(&mut self, last: u8, rest: &'i [u8], input: &mut Input<'i>) -> Vec<u8> {
        self.last = last;
        input.rest = rest;
        std::mem::take(&mut self.partial)
    }

    fn nul(&mut self, cx: &mut Cx<'_>) {
        // One or two bytes of a connection whose begin was not seen are a keep-alive.
        if cx.is_partial && cx.payload_bytes <= 2 {
            return;
        }
        self.once(Once::Nul, cx);
        self.flags_nul = false;
    }

    fn once(&self, what: Once, cx: &mut Cx<'_>) {
        if self.is_quiet || cx.conn.told_once & what as u8 != 0 {
            return;
        }
        cx.conn.told_once |= what as u8;
        let name = match what {
            Once::SingleCr => "line_terminated_with_single_CR",
            Once::SingleLf => "line_terminated_with_single_LF",
            Once::Nul => "NUL_in_line",
        };
        cx.weird_of(SOURCE, name, "");
    }
}
