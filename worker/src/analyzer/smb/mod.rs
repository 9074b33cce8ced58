//! SMB 1 (\[MS-CIFS\], \[MS-SMB\]) and 2/3 (\[MS-SMB2\]), on NetBIOS sessions (RFC 1002
//! section 4.3) and straight on TCP: shares that are mapped go to `smb_mapping.log`, files to
//! `smb_files.log`, their content to the files. Logons are handed to SPNEGO or NTLM, what is
//! said in named pipes to DCE/RPC. What is encrypted (SMB 3) stays unread.

mod arena;
pub mod log;
mod smb1;
mod smb1_files;
mod smb1_session;
mod smb2;
mod smb2_body;
mod state;
#[cfg(test)]
mod tests;
mod things;

use std::collections::{BTreeMap, BTreeSet};

use tyto_core::net::{Proto, Side};
use tyto_core::uid::Fuid;

use self::state::State;
use super::detect::{First, Match};
use super::stage::Stage;
use super::windows::frames::{Frames, Length};
use super::windows::reader::{Fault, Reader};
use super::{Analyzer, Cx, Spec, spec};
use crate::file::{FileAbout, FileRef};

/// Bytes of one message that are kept (Zeek: `BinPAC::flowbuffer_capacity_max`). Servers offer
/// up to 8 MiB for a read.
const MESSAGE_MAX: usize = 10 << 20;
/// Bytes in front of the message: type and length.
const SESSION_BYTES: usize = 4;
/// Pieces of the stream without a fault after which it is SMB, as Zeek counts.
const PIECES_TO_CONFIRM: u32 = 3;
/// Messages whose answers are waited for (Zeek: `SMB::max_pending_messages`).
const PENDING_MAX: usize = 1000;
/// Pipes that are followed (Zeek: `SMB::max_dce_rpc_analyzers`). At the limit the others are
/// forgotten.
const PIPES_MAX: usize = 1000;
/// Files that are fed at a time.
const OPEN_FILES_MAX: usize = 1000;
/// Shares that are known to be of pipes.
const PIPE_TREES_MAX: usize = 65_536;

/// Names of files that only pipes have (Zeek: `SMB::pipe_filenames`).
const PIPE_NAMES: [&[u8]; 8] =
    [b"spoolss", b"winreg", b"samr", b"srvsvc", b"netdfs", b"lsarpc", b"wkssvc", b"MsFteWds"];

const SMB1: [u8; 4] = *b"\xffSMB";
const SMB2: [u8; 4] = *b"\xfeSMB";
/// What is encrypted begins so.
const SMB3: [u8; 4] = *b"\xfdSMB";

/// SMB.
pub static SPEC: Spec = Spec {
    name: "SMB",
    ports: &[(Proto::Tcp, 139), (Proto::Tcp, 445)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Smb::default()),
};

fn probe(first: &First<'_>) -> Match {
    if begins_message(first.orig) || begins_message(first.resp) {
        return Match::Yes;
    }
    let may_yet = |bytes: &[u8]| bytes.len() < 8 && may_begin_message(bytes);
    if may_yet(first.orig) || may_yet(first.resp) { Match::Later } else { Match::No }
}

/// The bytes begin with a message that is not encrypted.
fn begins_message(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, 0xfe | 0xff, b'S', b'M', b'B', ..])
}

/// They may, once there are more of them.
fn may_begin_message(bytes: &[u8]) -> bool {
    let head = bytes.get(SESSION_BYTES..).unwrap_or_default();
    SMB1.starts_with(head) || SMB2.starts_with(head)
}

/// The analysis of one connection.
#[derive(Debug, Default)]
pub(super) struct Smb {
    sides: [Frames; 2],
    /// The rest of a message was lost, by side. What comes next, although a message begins
    /// there, is taken for that rest and is a fault, as in Zeek.
    is_cut: [bool; 2],
    /// A begin was found since the stream began, or broke.
    is_synced: bool,
    /// The begin of a piece that is too short to tell whether a message begins there, by side.
    unsure: [Vec<u8>; 2],
    pieces: u32,
    state: State,
    carriers: Carriers,
    requests: smb2::Requests,
    smb1: smb1::Requests,
    /// Files to be deleted with their close; told after all else of what was delivered.
    deletes: Vec<u64>,
}

/// What SMB carries.
#[derive(Debug, Default)]
struct Carriers {
    spnego: Option<Stage>,
    ntlm: Option<Stage>,
    /// Shares of pipes.
    pipe_trees: BTreeSet<u32>,
    /// What is said in pipes, by their file.
    pipes: BTreeMap<u64, Stage>,
    /// Files whose content comes over this connection.
    files: BTreeSet<Fuid>,
}

impl Analyzer for Smb {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let joined;
        let mut bytes = bytes;
        if let Some(unsure) = self.unsure.get_mut(side.index())
            && !unsure.is_empty()
        {
            joined = [std::mem::take(unsure).as_slice(), bytes].concat();
            bytes = &joined;
        }
        if !self.is_synced && !begins_message(bytes) {
            if bytes.len() < 8
                && may_begin_message(bytes)
                && let Some(unsure) = self.unsure.get_mut(side.index())
            {
                *unsure = bytes.to_vec();
            }
            return;
        }
        self.is_synced = true;
        let fed = self.feed(side, bytes, cx);
        self.tell_deletes(cx);
        match fed {
            Ok(()) => {
                self.pieces = self.pieces.saturating_add(1);
                if self.pieces == PIECES_TO_CONFIRM {
                    cx.confirm();
                }
            }
            Err(fault) => {
                cx.violation(fault.to_string(), &[]);
                self.lose_sync();
            }
        }
    }

    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        self.lose_sync();
    }

    fn flipped(&mut self) {
        self.sides.swap(0, 1);
        self.is_cut.swap(0, 1);
        self.unsure.swap(0, 1);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        let Carriers { spnego, ntlm, pipes, .. } = &mut self.carriers;
        for stage in [spnego, ntlm].into_iter().flatten().chain(pipes.values_mut()) {
            stage.end(cx);
        }
    }
}

impl Smb {
    fn feed(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Fault> {
        if self.is_cut.get_mut(side.index()).is_some_and(std::mem::take) {
            return Reader::little(&[]).take(4, "SMB_Protocol_Identifier:protocol").map(drop);
        }
        let Some(frames) = self.sides.get_mut(side.index()) else { return Ok(()) };
        let mut frames = std::mem::take(frames);
        let fed =
            frames.feed(bytes, MESSAGE_MAX, framed, |message| self.session(side, message, cx));
        if fed.is_ok()
            && let Some(place) = self.sides.get_mut(side.index())
        {
            *place = frames;
        }
        fed
    }

    fn lose_sync(&mut self) {
        for (frames, is_cut) in self.sides.iter_mut().zip(&mut self.is_cut) {
            // Of a message that is not SMB the rest may be nothing.
            *is_cut |= matches!(frames.clear()[..], [_] | [_, _] | [_, _, _] | [0, ..]);
        }
        self.unsure = Default::default();
        self.is_synced = false;
    }

    /// A message of the session: type 0 holds SMB, the others only begin and keep the session.
    fn session(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Fault> {
        let Some((&[kind, ..], content)) = bytes.split_first_chunk::<SESSION_BYTES>() else {
            return Ok(());
        };
        if kind != 0 {
            return Ok(());
        }
        let mut reader = Reader::little(content);
        while !reader.is_empty() {
            let start = reader.record();
            let protocol = reader.take(4, "SMB_Protocol_Identifier:protocol")?;
            let has_more = match protocol {
                _ if protocol == SMB1 => {
                    self.pdu1(side, content.len(), &mut reader, cx)?;
                    false
                }
                _ if protocol == SMB2 => self.pdu2(side, &mut reader, cx)?,
                _ if protocol == SMB3 => {
                    reader.take(48, "SMB2_transform_header:session_id")?;
                    false
                }
                _ => false,
            };
            reader.end_record(start);
            if !has_more {
                break;
            }
        }
        Ok(())
    }

    fn tell_deletes(&mut self, cx: &mut Cx<'_>) {
        for id in std::mem::take(&mut self.deletes) {
            self.state.delete(id, true, cx);
        }
    }

    /// A logon token: SPNEGO, or NTLM without it.
    fn logon(&mut self, side: Side, token: &[u8], cx: &mut Cx<'_>) {
        if token.len() < 8 {
            return;
        }
        let (stage, name) = if token.starts_with(b"NTLMSSP") {
            (&mut self.carriers.ntlm, "NTLM")
        } else {
            (&mut self.carriers.spnego, "GSSAPI")
        };
        if stage.is_none() {
            *stage = spec(name).map(|spec| Stage::apart(spec, cx));
        }
        if let Some(stage) = stage {
            stage.deliver(side, token, cx);
        }
    }

    fn is_of_pipes(&self, tree_id: u32) -> bool {
        self.carriers.pipe_trees.contains(&tree_id)
    }

    fn set_of_pipes(&mut self, tree_id: u32) {
        let trees = &mut self.carriers.pipe_trees;
        if trees.len() < PIPE_TREES_MAX {
            trees.insert(tree_id);
        }
    }

    /// A file called `name` is opened: some names tell that the share is of pipes.
    fn heed_name(&mut self, tree_id: u32, name: &[u8]) {
        if !self.is_of_pipes(tree_id) && PIPE_NAMES.contains(&name) {
            self.set_of_pipes(tree_id);
            self.state.tree_is_of_pipes();
        }
    }

    /// Bytes in the pipe that is `file`; all pipes of SMB 1 are one, as Zeek has it.
    fn pipe(&mut self, side: Side, file: u64, bytes: &[u8], cx: &mut Cx<'_>) {
        let pipes = &mut self.carriers.pipes;
        if !pipes.contains_key(&file) {
            if pipes.len() >= PIPES_MAX {
                pipes.clear();
                cx.windows(|sessions, _| sessions.rpc.forget());
                cx.weird("SMB_discarded_dce_rpc_analyzers");
            }
            let Some(spec) = spec("DCE_RPC") else { return };
            cx.windows(|sessions, _| sessions.pipe = file);
            pipes.insert(file, Stage::apart(spec, cx));
        }
        if let Some(stage) = pipes.get_mut(&file) {
            stage.deliver(side, bytes, cx);
        }
    }

    fn close_pipe(&mut self, file: u64, cx: &mut Cx<'_>) {
        self.carriers.pipes.remove(&file);
        cx.windows(|sessions, _| sessions.rpc.close(file));
    }

    /// Content of the current file, at `offset`.
    fn content(&mut self, side: Side, offset: u64, bytes: &[u8], cx: &mut Cx<'_>) {
        if bytes.is_empty() {
            return;
        }
        self.tell_deletes(cx);
        let Some((handle, name, size)) = self.state.handle(cx) else { return };
        let filename = name.map(|name| String::from_utf8_lossy(&name).into_owned());
        let total_bytes = (size > 0).then_some(size);
        let about = FileAbout { filename, total_bytes, ..FileAbout::default() };
        let was_open = cx.file_is_open(FileRef { fuid: cx.shared.files.fuid(&handle) });
        let file = cx.file_open(side, &handle, &about);
        let files = &mut self.carriers.files;
        if files.len() >= OPEN_FILES_MAX {
            files.clear();
        }
        let is_met = files.insert(file.fuid);
        if is_met || !was_open {
            self.state.content_is(file.fuid, cx);
        }
        cx.file_bytes_at(file, offset, bytes);
    }

    /// The current file is over.
    fn content_ends(&mut self, cx: &mut Cx<'_>) {
        self.tell_deletes(cx);
        if let Some((handle, ..)) = self.state.handle(cx) {
            let fuid = cx.shared.files.fuid(&handle);
            self.carriers.files.remove(&fuid);
            cx.file_end(FileRef { fuid });
        }
    }
}

fn framed(bytes: &[u8]) -> Result<Length, Fault> {
    let Some([_, high, middle, low]) = bytes.first_chunk::<SESSION_BYTES>() else {
        return Ok(Length::Unknown);
    };
    let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
    Ok(Length::Known(length + SESSION_BYTES))
}
