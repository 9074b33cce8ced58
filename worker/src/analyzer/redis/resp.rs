//! RESP, the serialization of Redis (versions 2 and 3): commands of clients, values of servers.

use super::log::CommandLog;
use crate::analyzer::bytes::Cursor;

/// Bytes of a string (Zeek: `RESP::MAX_SIZE`).
const STRING_LEN_MAX: i64 = 1024 * 1024;
/// Bytes of a line that are waited for.
const LINE_LEN_MAX: usize = 64 * 1024;
/// Bytes of a command written as a line.
const INLINE_LEN_MAX: usize = 1024;
/// Values within values (Zeek: `max_aggregate_elements`).
const ELEMENTS_MAX: u64 = 20_000;
/// Values around a value.
const DEPTH_MAX: u32 = 20;
/// Bytes that a log shows of a value (Zeek: `max_value_size`).
pub(super) const SHOWN_MAX: usize = 250;

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is not whole: so many bytes are needed at least.
    Later(usize),
    /// It is not RESP.
    Wrong,
}

type Read<T> = Result<T, Stop>;

/// A command: its words, as far as a log shows them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub words: Vec<Vec<u8>>,
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub kind: Kind,
    /// It can only be RESP 3.
    pub is_v3: bool,
    /// It as text.
    pub text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Answer,
    Error,
    Push,
}

impl Command {
    /// The next command.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Read<Self> {
        let words = if cursor.peek() == Some(b'*') { array(cursor)? } else { inline(cursor)? };
        if words.is_empty() { Err(Stop::Wrong) } else { Ok(Self { words }) }
    }

    /// Word number `index` in lower case.
    pub(super) fn lower(&self, index: usize) -> Vec<u8> {
        self.words.get(index).map(|word| word.to_ascii_lowercase()).unwrap_or_default()
    }

    /// What a log says of it.
    pub(super) fn log(&self) -> CommandLog {
        let word = |index: usize| self.words.get(index).cloned();
        let name = word(0).unwrap_or_default();
        let (key, value) = match &self.lower(0)[..] {
            b"keys" | b"bitcount" | b"bitfield" | b"bitfield_ro" | b"bitpos" | b"blpop"
            | b"brpop" | b"copy" | b"decr" | b"del" | b"dump" | b"exists" | b"expiretime"
            | b"get" | b"getdel" | b"getex" | b"getrange" | b"hset" | b"incr" | b"mget"
            | b"persist" | b"strlen" | b"ttl" | b"type" => (word(1), None),
            b"append" | b"decrby" | b"expire" | b"expireat" | b"getbit" | b"getset" | b"hdel"
            | b"hget" | b"incrby" | b"move" | b"mset" | b"rename" | b"set" => (word(1), word(2)),
            b"bitop" => (word(2), None),
            b"blmpop" => (word(3), None),
            _ => (None, None),
        };
        CommandLog { name, key, value }
    }
}

/// The words of a command that is an array of strings.
fn array(cursor: &mut Cursor<'_>) -> Read<Vec<Vec<u8>>> {
    cursor.u8().ok_or(Stop::Later(1))?;
    let count = number(cursor)?;
    let count = u64::try_from(count).ok().filter(|count| *count <= ELEMENTS_MAX);
    let mut words = Vec::new();
    for _ in 0..count.ok_or(Stop::Wrong)? {
        if byte(cursor)? != b'$' {
            return Err(Stop::Wrong);
        }
        let word = bulk(cursor)?.ok_or(Stop::Wrong)?;
        words.push(word.get(..SHOWN_MAX).unwrap_or(word).to_vec());
    }
    Ok(words)
}

/// The words of a command that is a line, quotes respected.
fn inline(cursor: &mut Cursor<'_>) -> Read<Vec<Vec<u8>>> {
    let line = match line(cursor) {
        Ok(line) if line.len() <= INLINE_LEN_MAX => line,
        Err(Stop::Later(more)) if cursor.rest().len() <= INLINE_LEN_MAX => {
            return Err(Stop::Later(more));
        }
        _ => return Err(Stop::Wrong),
    };
    let is_blank = |byte: u8| matches!(byte, 0 | b'\t' | b'\n' | b'\r' | b' ');
    let mut words = Vec::new();
    let mut word: Vec<u8> = Vec::new();
    let mut quote = None;
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match quote {
            None if is_blank(byte) => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
            Some(open) if byte == b'\\' && bytes.peek() == Some(&open) => {
                word.push(byte);
                bytes.next();
                word.push(open);
                continue;
            }
            Some(open) if byte == open => quote = None,
            _ => {}
        }
        word.push(byte);
    }
    if !word.is_empty() {
        words.push(word);
    }
    for word in &mut words {
        word.truncate(SHOWN_MAX);
    }
    Ok(words)
}

/// What is counted while a value is read.
#[derive(Debug, Default)]
struct Budget {
    depth: u32,
    elements: u64,
    is_v3: bool,
}

impl Reply {
    /// The next value of a server.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Read<Self> {
        let mut budget = Budget::default();
        let mut text = Vec::new();
        let first = cursor.peek().ok_or(Stop::Later(1))?;
        let mut kind = kind_of(first);
        if first == b'|' {
            // Attributes stand before the value, and are not shown.
            byte(cursor)?;
            map(cursor, &mut budget, &mut Vec::new())?;
            budget.is_v3 = true;
            let next = cursor.peek().ok_or(Stop::Later(cursor.position() + 1))?;
            kind = kind_of(next);
        } else {
            budget.is_v3 = !matches!(first, b'+' | b'-' | b':' | b'$' | b'*');
        }
        let is_v3 = budget.is_v3 || kind == Kind::Push;
        value(cursor, &mut budget, &mut text)?;
        Ok(Self { kind, is_v3, text })
    }
}

const fn kind_of(first: u8) -> Kind {
    match first {
        b'-' | b'!' => Kind::Error,
        b'>' => Kind::Push,
        _ => Kind::Answer,
    }
}

fn value(cursor: &mut Cursor<'_>, budget: &mut Budget, text: &mut Vec<u8>) -> Read<()> {
    if budget.depth >= DEPTH_MAX {
        return Err(Stop::Wrong);
    }
    budget.depth += 1;
    match byte(cursor)? {
        b'+' | b'-' | b':' | b',' | b'(' => append(text, line(cursor)?),
        b'$' | b'!' | b'=' => append(text, bulk(cursor)?.unwrap_or_default()),
        b'*' | b'>' => list(cursor, budget, text, [b"[", b"]"])?,
        b'~' => list(cursor, budget, text, [b"(", b")"])?,
        b'%' => map(cursor, budget, text)?,
        b'_' => {
            line(cursor)?;
            append(text, b"null");
        }
        b'#' => {
            let is_true = line(cursor)?.first() == Some(&b't');
            append(text, if is_true { b"T" } else { b"F" });
        }
        b'|' => {
            map(cursor, budget, &mut Vec::new())?;
            value(cursor, budget, text)?;
        }
        _ => return Err(Stop::Wrong),
    }
    budget.depth -= 1;
    Ok(())
}

fn list(
    cursor: &mut Cursor<'_>,
    budget: &mut Budget,
    text: &mut Vec<u8>,
    [open, close]: [&[u8]; 2],
) -> Read<()> {
    let count = elements(cursor, budget)?;
    append(text, open);
    for index in 0..count {
        if index > 0 {
            append(text, b", ");
        }
        value(cursor, budget, text)?;
    }
    append(text, close);
    Ok(())
}

fn map(cursor: &mut Cursor<'_>, budget: &mut Budget, text: &mut Vec<u8>) -> Read<()> {
    let count = elements(cursor, budget)?;
    append(text, b"{");
    for index in 0..count {
        if index > 0 {
            append(text, b", ");
        }
        value(cursor, budget, text)?;
        append(text, b": ");
        value(cursor, budget, text)?;
    }
    append(text, b"}");
    Ok(())
}

/// How many values follow; a list that is null has none.
fn elements(cursor: &mut Cursor<'_>, budget: &mut Budget) -> Read<u64> {
    let count = match number(cursor)? {
        -1 => 0,
        count => u64::try_from(count).map_err(|_| Stop::Wrong)?,
    };
    budget.elements = budget.elements.saturating_add(count);
    if budget.elements > ELEMENTS_MAX { Err(Stop::Wrong) } else { Ok(count) }
}

fn append(text: &mut Vec<u8>, more: &[u8]) {
    let room = SHOWN_MAX - text.len().min(SHOWN_MAX);
    text.extend_from_slice(more.get(..room).unwrap_or(more));
}

fn byte(cursor: &mut Cursor<'_>) -> Read<u8> {
    let position = cursor.position();
    cursor.u8().ok_or(Stop::Later(position + 1))
}

/// Up to the next CR LF.
fn line<'a>(cursor: &mut Cursor<'a>) -> Read<&'a [u8]> {
    let rest = cursor.rest();
    match rest.windows(2).position(|pair| pair == b"\r\n") {
        Some(len) => {
            let line = cursor.take(len).ok_or(Stop::Wrong)?;
            cursor.skip(2).ok_or(Stop::Wrong)?;
            Ok(line)
        }
        None if rest.len() > LINE_LEN_MAX => Err(Stop::Wrong),
        None => Err(Stop::Later(cursor.position() + rest.len() + 1)),
    }
}

fn number(cursor: &mut Cursor<'_>) -> Read<i64> {
    let text = std::str::from_utf8(line(cursor)?).map_err(|_| Stop::Wrong)?;
    text.parse().map_err(|_| Stop::Wrong)
}

/// A string with its length in front; none when it is null.
fn bulk<'a>(cursor: &mut Cursor<'a>) -> Read<Option<&'a [u8]>> {
    let len = number(cursor)?;
    let Ok(len_bytes) = usize::try_from(len) else { return Ok(None) };
    if len > STRING_LEN_MAX {
        return Err(Stop::Wrong);
    }
    let needed = cursor.position() + len_bytes + 2;
    let content = cursor.take(len_bytes).ok_or(Stop::Later(needed))?;
    line(cursor)?;
    Ok(Some(content))
}
