//! What packets mean: the handshake, then commands and their answers, whose form depends on
//! what was asked and on what both sides said they can do.

use super::encoding::{number, number_after, skip_attributes, string, string_after, string_nul};
use crate::analyzer::bytes::Cursor;

/// The client ends the connection; there is no answer.
pub(super) const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_CHANGE_USER: u8 = 0x11;

const CONNECT_WITH_DB: u32 = 0x0000_0008;
const SSL: u32 = 0x0000_0800;
const PLUGIN_AUTH: u32 = 0x0008_0000;
const CONNECT_ATTRS: u32 = 0x0010_0000;
const DEPRECATE_EOF: u32 = 0x0100_0000;
const ZSTD: u32 = 0x0400_0000;
const QUERY_ATTRIBUTES: u32 = 0x0800_0000;

/// First byte of packets that answer a command.
const OK: u8 = 0x00;
const EOF: u8 = 0xfe;
const ERROR: u8 = 0xff;
/// A packet of this length or less is an EOF and no row, bytes.
const EOF_LEN_MAX: usize = 9;

/// A packet that is cut, or not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// What a packet says that a log wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    /// The client tells its user.
    Login(Vec<u8>),
    /// The client asks for TLS.
    StartTls,
    /// The client asks for something.
    Command {
        command: u8,
        arg: Vec<u8>,
    },
    /// It succeeded.
    Ok {
        rows: u64,
    },
    /// It succeeded, and all rows were sent.
    EndOfRows,
    /// It failed.
    Error(Vec<u8>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expected {
    Nothing,
    #[default]
    Status,
    Columns,
    Definition,
    DefinitionOrEof,
    EofThenRows,
    Rows,
    Rest,
}

/// The state of a connection.
#[derive(Debug, Default)]
pub(super) struct Dialog {
    version: u8,
    server_seq: u8,
    in_commands: bool,
    expects_auth: bool,
    expected: Expected,
    columns: u64,
    columns_left: u64,
    client_can: u32,
    server_has_attributes: bool,
}

impl Dialog {
    /// A packet of the client.
    pub(super) fn client(&mut self, body: &[u8]) -> Result<Told, Broken> {
        let mut cursor = Cursor::new(body);
        let told = match (self.in_commands, self.expects_auth) {
            (true, _) => self.command(&mut cursor),
            (false, true) => Some(Told::Nothing),
            (false, false) => self.handshake_response(&mut cursor),
        };
        told.ok_or(Broken)
    }

    /// A packet of the server, `len` bytes long.
    pub(super) fn server(&mut self, seq: u8, len: usize, body: &[u8]) -> Result<Told, Broken> {
        let is_initial = seq == 0 && self.server_seq != 255;
        self.server_seq = seq;
        let mut cursor = Cursor::new(body);
        let told = match (self.in_commands, is_initial) {
            (true, _) => self.answer(len, &mut cursor),
            (false, true) => self.handshake(&mut cursor),
            (false, false) => self.login_answer(&mut cursor),
        };
        told.ok_or(Broken)
    }

    fn handshake(&mut self, cursor: &mut Cursor<'_>) -> Option<Told> {
        const DATA_LEN: usize = 8;
        const REST_LEN_MIN: usize = 13;
        self.version = cursor.u8()?;
        match self.version {
            10 => {
                string_nul(cursor)?;
                cursor.skip(4 + DATA_LEN + 1 + 2 + 1 + 2)?;
                let can = u32::from(cursor.le16()?) << 16;
                let data_len = usize::from(cursor.u8()?);
                if data_len != 0 && data_len < 21 {
                    return None;
                }
                cursor.skip(10 + REST_LEN_MIN.max(data_len.saturating_sub(DATA_LEN)))?;
                if can & PLUGIN_AUTH != 0 {
                    string_nul(cursor)?;
                }
                self.server_has_attributes = can & QUERY_ATTRIBUTES != 0;
                Some(Told::Nothing)
            }
            9 => {
                string_nul(cursor)?;
                cursor.skip(4)?;
                string_nul(cursor).map(|_| Told::Nothing)
            }
            _ => self.error(cursor),
        }
    }

    fn login_answer(&mut self, cursor: &mut Cursor<'_>) -> Option<Told> {
        match cursor.u8()? {
            OK => self.ok(cursor),
            0x01 => Some(Told::Nothing),
            EOF => {
                string_nul(cursor)?;
                self.expects_auth = true;
                self.expected = Expected::Status;
                Some(Told::Nothing)
            }
            ERROR => self.error(cursor),
            _ => None,
        }
    }

    fn handshake_response(&mut self, cursor: &mut Cursor<'_>) -> Option<Told> {
        match self.version {
            10 => {
                let can = cursor.le32()?;
                cursor.skip(4 + 1 + 23)?;
                self.client_can = can;
                if can & SSL != 0 {
                    return Some(Told::StartTls);
                }
                let user = string_nul(cursor)?.to_vec();
                string(cursor)?;
                if can & CONNECT_WITH_DB != 0 {
                    string_nul(cursor)?;
                }
                if can & PLUGIN_AUTH != 0 {
                    // Some leave it out.
                    let _plugin = string_nul(cursor);
                    self.expects_auth = true;
                }
                if can & CONNECT_ATTRS != 0 {
                    attributes(cursor)?;
                }
                if can & ZSTD != 0 {
                    cursor.u8()?;
                }
                Some(Told::Login(user))
            }
            9 => {
                let can = u32::from(cursor.le16()?);
                cursor.skip(3)?;
                let user = string_nul(cursor)?.to_vec();
                string_nul(cursor)?;
                if can & CONNECT_WITH_DB != 0 {
                    string_nul(cursor)?;
                }
                Some(Told::Login(user))
            }
            _ => None,
        }
    }

    fn command(&mut self, cursor: &mut Cursor<'_>) -> Option<Told> {
        let command = cursor.u8()?;
        let has_attributes = self.server_has_attributes && self.client_can & QUERY_ATTRIBUTES != 0;
        if command == COM_QUERY && has_attributes {
            skip_attributes(cursor)?;
        }
        self.expected = match command {
            0x00..=0x02 | 0x05..=0x08 | 0x0b..=0x10 | 0x1d | 0x1f => Expected::Status,
            COM_QUERY | 0x0a => Expected::Columns,
            0x04 => Expected::DefinitionOrEof,
            0x09 => Expected::Rest,
            COM_CHANGE_USER => {
                self.in_commands = false;
                self.expected
            }
            _ => Expected::Nothing,
        };
        if command == COM_CHANGE_USER {
            let arg = self.change_user(cursor)?;
            return Some(Told::Command { command, arg });
        }
        let arg = cursor.take_rest();
        let arg = arg.strip_suffix(&[0]).unwrap_or(arg).to_vec();
        Some(Told::Command { command, arg })
    }

    fn change_user(&mut self, cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
        let user = string_nul(cursor)?.to_vec();
        let data_len = cursor.u8()?;
        cursor.skip(usize::from(data_len))?;
        string_nul(cursor)?;
        cursor.skip(2)?;
        if !cursor.rest().is_empty() {
            if self.client_can & PLUGIN_AUTH != 0 {
                string_nul(cursor)?;
            }
            if self.client_can & CONNECT_ATTRS != 0 {
                attributes(cursor)?;
            }
        }
        Some(user)
    }

    fn answer(&mut self, len: usize, cursor: &mut Cursor<'_>) -> Option<Told> {
        match self.expected {
            Expected::Nothing | Expected::Rest => Some(Told::Nothing),
            Expected::Status => match cursor.u8()? {
                OK => self.ok(cursor),
                EOF => end_of_rows(cursor),
                ERROR => self.error(cursor),
                _ => Some(Told::Nothing),
            },
            Expected::Columns => match cursor.u8()? {
                OK => self.ok(cursor),
                ERROR => self.error(cursor),
                first => {
                    self.columns = number_after(first, cursor)?;
                    self.columns_left = self.columns;
                    self.expected = Expected::Definition;
                    Some(Told::Nothing)
                }
            },
            Expected::Definition => {
                let first = cursor.u8()?;
                definition(first, cursor)?;
                self.columns_left = self.columns_left.wrapping_sub(1);
                if self.columns_left == 0 {
                    self.expected = Expected::EofThenRows;
                }
                Some(Told::Nothing)
            }
            Expected::DefinitionOrEof => match cursor.u8()? {
                EOF => self.eof_or_ok(len, cursor),
                first => definition(first, cursor).map(|()| Told::Nothing),
            },
            Expected::EofThenRows if self.client_can & DEPRECATE_EOF == 0 => {
                cursor.skip(1)?;
                end_of_rows(cursor)?;
                self.in_commands = true;
                self.expected = Expected::Rows;
                Some(Told::Nothing)
            }
            Expected::EofThenRows | Expected::Rows => match cursor.u8()? {
                EOF => {
                    self.expected = Expected::Nothing;
                    self.eof_or_ok(len, cursor)
                }
                first => {
                    self.expected = Expected::Rows;
                    string_after(first, cursor)?;
                    for _ in 1..self.columns {
                        string(cursor)?;
                    }
                    Some(Told::Nothing)
                }
            },
        }
    }

    fn eof_or_ok(&mut self, len: usize, cursor: &mut Cursor<'_>) -> Option<Told> {
        if self.client_can & DEPRECATE_EOF != 0 || len > EOF_LEN_MAX {
            self.ok(cursor)
        } else {
            end_of_rows(cursor)
        }
    }

    fn ok(&mut self, cursor: &mut Cursor<'_>) -> Option<Told> {
        // Zeek counts in 32 bits.
        let rows = number(cursor)? & u64::from(u32::MAX);
        self.enter_commands();
        Some(Told::Ok { rows })
    }

    fn error(&mut self, cursor: &mut Cursor<'_>) -> Option<Told> {
        const STATE_LEN: usize = 6;
        cursor.skip(2 + STATE_LEN)?;
        self.enter_commands();
        Some(Told::Error(cursor.take_rest().to_vec()))
    }

    const fn enter_commands(&mut self) {
        self.in_commands = true;
        self.expects_auth = false;
    }
}

/// Warnings and status of an EOF.
fn end_of_rows(cursor: &mut Cursor<'_>) -> Option<Told> {
    cursor.skip(4).map(|()| Told::EndOfRows)
}

/// Skips the definition of a column.
fn definition(first: u8, cursor: &mut Cursor<'_>) -> Option<()> {
    string_after(first, cursor)?;
    for _ in 0..5 {
        string(cursor)?;
    }
    number(cursor)?;
    cursor.skip(2 + 4 + 1 + 2 + 1 + 2)
}

/// Skips the client's attributes: names and values, their length in front.
fn attributes(cursor: &mut Cursor<'_>) -> Option<()> {
    let len = cursor.u8()?;
    let mut cursor = cursor.sub(usize::from(len))?;
    while !cursor.rest().is_empty() {
        string(&mut cursor)?;
        string(&mut cursor)?;
    }
    Some(())
}
