//! Lines of the Network Virtual Terminal (RFC 854), which FTP's control connection speaks:
//! bytes of one side in, lines out, telnet commands and options taken away.

use std::borrow::Cow;

use super::Cx;

/// Bytes of one line that are kept. A longer one is delivered in pieces, with a weird.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Interpret as command (RFC 854).
const IAC: u8 = 255;
/// Subnegotiation begins.
const SB: u8 = 250;
/// Subnegotiation ends.
const SE: u8 = 240;

/// One side's terminal.
#[derive(Debug, Default)]
pub struct Nvt {
    line: Vec<u8>,
    last: u8,
    telnet: Telnet,
    /// One NUL was told of, and taken away; further ones stay.
    keeps_nul: bool,
}

/// Where in a telnet command the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telnet {
    #[default]
    Text,
    /// IAC was seen.
    Command,
    /// IAC and WILL, WONT, DO or DONT.
    Option,
    /// IAC SB; true after an IAC within.
    Sub { is_after_iac: bool },
}

/// Weirds that a connection tells once, whatever reads its lines: bits of
/// [`crate::flow::conn::ConnCore::told_once`].
const TOLD_CR: u8 = 1;
const TOLD_NUL: u8 = 4;

impl Nvt {
    /// Takes bytes off `input` until a line is complete, without its end. None: all was taken.
    pub fn next_line<'i>(
        &mut self,
        input: &mut &'i [u8],
        cx: &mut Cx<'_>,
    ) -> Option<Cow<'i, [u8]>> {
        if let Some(line) = self.plain_line(input) {
            return Some(Cow::Borrowed(line));
        }
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            let is_line = match self.telnet {
                Telnet::Text => self.text(byte, cx),
                command => {
                    self.telnet = self.command(command, byte);
                    false
                }
            };
            if is_line {
                return Some(Cow::Owned(std::mem::take(&mut self.line)));
            }
            if self.line.len() >= LINE_BYTES_MAX {
                cx.weird_of("NVT", "nvt_line_size_exceeded", "");
                cx.analysis_is_cut();
                self.last = 0;
                return Some(Cow::Owned(std::mem::take(&mut self.line)));
            }
        }
        None
    }

    /// The usual case: the line lies whole in `input`, and nothing in it is more than a
    /// character.
    fn plain_line<'i>(&mut self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        if self.telnet != Telnet::Text || !self.line.is_empty() || self.last == b'\r' {
            return None;
        }
        let (line, rest) = input.split_at_checked(memchr::memchr(b'\n', input)?)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() >= LINE_BYTES_MAX || memchr::memchr3(b'\r', 0, IAC, line).is_some() {
            return None;
        }
        self.last = b'\n';
        *input = rest.get(1..).unwrap_or_default();
        Some(line)
    }

    /// The side ended: what it sent of a line is one.
    pub fn end(&mut self) -> Option<Vec<u8>> {
        (!self.line.is_empty()).then(|| {
            if self.last == b'\r' {
                self.line.pop();
            }
            std::mem::take(&mut self.line)
        })
    }

    /// Bytes of a line came, and not its end.
    pub fn has_part(&self) -> bool {
        !self.line.is_empty()
    }

    /// True when `byte` ends a line.
    fn text(&mut self, byte: u8, cx: &mut Cx<'_>) -> bool {
        let is_after_cr = std::mem::replace(&mut self.last, byte) == b'\r';
        match byte {
            b'\n' => {
                if is_after_cr {
                    self.line.pop();
                }
                return true;
            }
            // Some servers send it after each CR.
            0 if is_after_cr => {}
            0 if !self.keeps_nul => {
                self.keeps_nul = true;
                tell_once(TOLD_NUL, "NUL_in_line", cx);
            }
            IAC => {
                self.telnet = Telnet::Command;
                return false;
            }
            _ => self.line.push(byte),
        }
        if is_after_cr && byte != 0 {
            tell_once(TOLD_CR, "line_terminated_with_single_CR", cx);
        }
        false
    }

    fn command(&mut self, state: Telnet, byte: u8) -> Telnet {
        match (state, byte) {
            (Telnet::Command, IAC) => {
                // Written twice, it is itself.
                self.line.push(IAC);
                Telnet::Text
            }
            (Telnet::Command, SB) => Telnet::Sub { is_after_iac: false },
            (Telnet::Command, 251..=254) => Telnet::Option,
            (Telnet::Sub { is_after_iac: false }, _) => Telnet::Sub { is_after_iac: byte == IAC },
            (Telnet::Sub { .. }, IAC) => Telnet::Sub { is_after_iac: false },
            // Anything but SE is no end, and taken for the begin of the next command.
            (Telnet::Sub { .. }, byte) if byte != SE => self.command(Telnet::Command, byte),
            _ => Telnet::Text,
        }
    }
}

fn tell_once(bit: u8, name: &'static str, cx: &mut Cx<'_>) {
    if cx.conn.told_once & bit == 0 {
        cx.conn.told_once |= bit;
        cx.weird_of("NVT", name, "");
    }
}
