//! SIP messages (RFC 3261 section 7), line by line. Zeek reads the datagrams of a flow as one
//! stream per kind of message: a body may end in the next datagram, and so it does here.

/// Bytes of a line that are kept when it goes on in the next datagram.
const LINE_BYTES_MAX: usize = 65_536;

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'m> {
    /// Its first line, of a request.
    Request { junk: &'m [u8], method: &'m [u8], uri: &'m [u8] },
    /// Its first line, of a reply.
    Reply { code: u64, reason: &'m [u8] },
    /// A header.
    Header { name: &'m [u8], value: &'m [u8] },
    /// The message is over.
    End,
}

/// This is no SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotSip;

/// The requests, or the replies, of a flow.
#[derive(Debug)]
pub(super) struct Messages {
    is_request: bool,
    state: State,
    partial: Vec<u8>,
    /// The last line ended with a CR: an LF behind it belongs to it.
    saw_cr: bool,
    /// As the last Content-Length says, also of an earlier message.
    content_length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    FirstLine,
    Headers,
    Body { left_bytes: usize },
}

impl Messages {
    pub(super) const fn new(is_request: bool) -> Self {
        Self {
            is_request,
            state: State::FirstLine,
            partial: Vec::new(),
            saw_cr: false,
            content_length: 0,
        }
    }

    /// Gives `out` what the next `bytes` say.
    ///
    /// # Errors
    /// When they are no SIP; what was begun is forgotten.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut out: impl FnMut(Event<'_>),
    ) -> Result<(), NotSip> {
        let mut rest = bytes;
        loop {
            // The LF of a CR LF: also of the one that ends the headers, before the body.
            if self.saw_cr && !rest.is_empty() {
                self.saw_cr = false;
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            if let State::Body { left_bytes } = self.state {
                let taken = left_bytes.min(rest.len());
                rest = rest.get(taken..).unwrap_or_default();
                self.state = State::Body { left_bytes: left_bytes - taken };
                if taken < left_bytes {
                    return Ok(());
                }
                out(Event::End);
                self.state = State::FirstLine;
            }
            let Some(len) = memchr::memchr2(b'\r', b'\n', rest) else {
                return self.keep(rest);
            };
            let (line, behind) = rest.split_at(len);
            self.saw_cr = behind.first() == Some(&b'\r');
            rest = behind.get(1..).unwrap_or_default();
            let told = if self.partial.is_empty() {
                self.line(line, &mut out)
            } else {
                self.keep(line)?;
                let line = std::mem::take(&mut self.partial);
                self.line(&line, &mut out)
            };
            if told.is_err() {
                *self = Self { content_length: self.content_length, ..Self::new(self.is_request) };
                return told;
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), NotSip> {
        if self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            self.partial = Vec::new();
            return Err(NotSip);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &[u8], out: &mut impl FnMut(Event<'_>)) -> Result<(), NotSip> {
        if self.state == State::FirstLine {
            let first = if self.is_request { request_line(line) } else { reply_line(line) };
            out(first.ok_or(NotSip)?);
            self.state = State::Headers;
        } else if line.is_empty() {
            self.state = State::Body { left_bytes: self.content_length };
        } else {
            let (name, value) = header(line).ok_or(NotSip)?;
            if matches!(name, b"Content-Length" | b"L") {
                self.content_length = leading_number(value);
            }
            out(Event::Header { name, value });
        }
        Ok(())
    }
}

/// Up to the first byte that `ends` a run, and what is behind.
fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let len = bytes.iter().take_while(|c| belongs(**c)).count();
    bytes.split_at(len)
}

const fn is_token(c: u8) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, b'_' | b'.' | b'!' | b'%' | b'*' | b'+' | b'`' | b'\'' | b'~' | b'-')
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    run(bytes, |c| matches!(c, b' ' | b'\t')).1
}

fn request_line(line: &[u8]) -> Option<Event<'_>> {
    let (junk, rest) = run(line, |c| !is_token(c));
    let (method, rest) = run(rest, is_token);
    let (uri, rest) = run(skip_blanks(rest), |c| c.is_ascii_graphic());
    version(skip_blanks(rest))?;
    (!method.is_empty() && !uri.is_empty()).then_some(Event::Request { junk, method, uri })
}

fn reply_line(line: &[u8]) -> Option<Event<'_>> {
    let rest = skip_blanks(version(line)?);
    let (code, rest) = rest.split_at_checked(3)?;
    let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = code else { return None };
    let code = u64::from(a - b'0') * 100 + u64::from(b - b'0') * 10 + u64::from(c - b'0');
    Some(Event::Reply { code, reason: skip_blanks(rest) })
}

/// What is behind `SIP/2.0`.
fn version(bytes: &[u8]) -> Option<&[u8]> {
    let (major, rest) = run(bytes.strip_prefix(b"SIP/")?, |c| c.is_ascii_digit());
    let (minor, rest) = run(rest.strip_prefix(b".")?, |c| c.is_ascii_digit());
    (!major.is_empty() && !minor.is_empty()).then_some(rest)
}

fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = run(line, |c| !matches!(c, b':' | b' ' | b'\t'));
    let value = skip_blanks(skip_blanks(rest).strip_prefix(b":")?);
    (!name.is_empty()).then_some((name, value))
}

/// C's `strtol`, of what cannot be negative.
fn leading_number(value: &[u8]) -> usize {
    let digits = run(value.trim_ascii_start(), |c| c.is_ascii_digit()).0;
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}
