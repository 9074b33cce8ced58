//! What is known of the shares, files and commands of a connection, as Zeek's scripts keep it:
//! a command knows its file and its share, ids of files and shares lead to them, and there is a
//! current one of each. Every event has a method.

use std::collections::{BTreeMap, BTreeSet};

use tyto_core::record::value::EnumName;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Fuid;

use super::arena::{Arena, Key};
use super::log::{SmbFilesLog, SmbMappingLog};
use super::things::{Action, File, Times, Tree};
use crate::analyzer::Cx;
use crate::file::handle::Handle;

/// Commands without an answer, open files, and shares that are remembered. At the limit the
/// others are forgotten.
const PENDING_MAX: usize = 4096;
const FILES_MAX: usize = 4096;
const TREES_MAX: usize = 4096;
/// Rows that are remembered so as not to write them again, and for how long after they were
/// last met, seconds.
const RECENT_MAX: usize = 4096;
const RECENT_S: i64 = 180;

#[derive(Debug)]
struct Command {
    file: Key,
    tree: Option<Key>,
    create_options: u32,
}

/// What makes a row another one than those before.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ident {
    action: Action,
    fuid: Option<Fuid>,
    name: Vec<u8>,
    path: Vec<u8>,
    size: u64,
    times: [u64; 3],
}

#[derive(Debug, Default)]
pub(super) struct State {
    files: Arena<File>,
    trees: Arena<Tree>,
    commands: Arena<Command>,
    /// Commands by the id of their message.
    pending: BTreeMap<u64, Key>,
    by_file_id: BTreeMap<u64, Key>,
    by_tree_id: BTreeMap<u64, Key>,
    command: Option<Key>,
    file: Option<Key>,
    tree: Option<Key>,
    recent: BTreeMap<Ident, Ts>,
}

impl State {
    /// A message of SMB 1 begins.
    pub(super) fn message1(&mut self, tree_id: u16, message_id: u16, is_orig: bool, now: Ts) {
        self.sweep();
        let tree = self.tree_of(tree_id.into(), now);
        self.tree = Some(tree);
        let command = self.command_of(message_id.into(), Some(tree), now);
        self.command = Some(command);
        if !is_orig {
            self.pending.remove(&u64::from(message_id));
        }
    }

    /// A message of SMB 2 begins. `is_final`: it is the answer, and not one that only tells
    /// that the answer takes time.
    pub(super) fn message2(&mut self, tree_id: u32, message_id: u64, is_final: bool, now: Ts) {
        self.sweep();
        let command = self.command_of(message_id, None, now);
        self.command = Some(command);
        let named = self.commands.get(command).and_then(|command| command.tree);
        let tree = if tree_id == 0 {
            self.trees.add(Tree::new(now))
        } else if let Some(tree) = named {
            remember(&mut self.by_tree_id, tree_id.into(), tree, TREES_MAX);
            tree
        } else {
            self.tree_of(tree_id.into(), now)
        };
        self.tree = Some(tree);
        if let Some(command) = self.commands.get_mut(command) {
            command.tree = Some(tree);
            self.file = Some(command.file);
        }
        if is_final {
            self.pending.remove(&message_id);
        }
    }

    fn tree_of(&mut self, tree_id: u64, now: Ts) -> Key {
        if let Some(tree) = self.by_tree_id.get(&tree_id) {
            return *tree;
        }
        let tree = self.trees.add(Tree::new(now));
        remember(&mut self.by_tree_id, tree_id, tree, TREES_MAX);
        tree
    }

    fn command_of(&mut self, message_id: u64, tree: Option<Key>, now: Ts) -> Key {
        if let Some(command) = self.pending.get(&message_id) {
            return *command;
        }
        let file = self.files.add(File::new(now));
        let command = self.commands.add(Command { file, tree, create_options: 0 });
        remember(&mut self.pending, message_id, command, PENDING_MAX);
        command
    }

    /// Too many messages wait for their answers: files and commands are forgotten. Gives what
    /// is known, as Zeek's weird prints it.
    pub(super) fn discard(&mut self, kind: &str) -> String {
        let sizes = [self.by_file_id.len(), self.by_tree_id.len(), self.pending.len()];
        self.by_file_id.clear();
        self.pending.clear();
        let [files, trees, pending] = sizes;
        format!("state={kind} fid_map={files} tid_map={trees} pending_cmds={pending} pipe_map=0")
    }

    /// The share was taken for one of pipes by the name of a file.
    pub(super) fn tree_is_of_pipes(&mut self) {
        if let Some(tree) = self.current_tree() {
            tree.path = Some(b"<unknown>".to_vec());
            "PIPE".clone_into(&mut tree.share_type);
        }
    }

    /// SMB 1: a share is asked for.
    pub(super) fn tree_request1(&mut self, path: Vec<u8>, service: Vec<u8>, now: Ts) {
        let tree = Tree { path: Some(path), service: Some(service), ..Tree::new(now) };
        let tree = self.trees.add(tree);
        if let Some(command) = self.current_command() {
            command.tree = Some(tree);
        }
    }

    /// SMB 1: the share is there.
    pub(super) fn tree_reply1(
        &mut self,
        tree_id: u16,
        service: Vec<u8>,
        file_system: Vec<u8>,
        cx: &mut Cx<'_>,
    ) {
        let Some(key) = self.current_command().and_then(|command| command.tree) else { return };
        if let Some(tree) = self.trees.get_mut(key) {
            if service == b"IPC" {
                "PIPE".clone_into(&mut tree.share_type);
            }
            tree.service = Some(service);
            if !file_system.is_empty() {
                tree.native_file_system = Some(file_system);
            }
        }
        self.tree = Some(key);
        remember(&mut self.by_tree_id, tree_id.into(), key, TREES_MAX);
        self.write_mapping(cx);
    }

    /// SMB 2: a share is asked for.
    pub(super) fn tree_request2(&mut self, path: Vec<u8>) {
        if let Some(tree) = self.current_tree() {
            tree.path = Some(path);
        }
    }

    /// SMB 2: the share is there.
    pub(super) fn tree_reply2(&mut self, share_type: u8, cx: &mut Cx<'_>) {
        if let Some(tree) = self.current_tree() {
            tree.share_type = match share_type {
                1 => "DISK".to_owned(),
                2 => "PIPE".to_owned(),
                3 => "PRINT".to_owned(),
                other => format!("unknown-{other}"),
            };
        }
        self.write_mapping(cx);
    }

    /// SMB 2: the share is given back.
    pub(super) fn tree_disconnect(&mut self, tree_id: u32) {
        if self.by_tree_id.remove(&u64::from(tree_id)).is_some() {
            self.tree = None;
            if let Some(command) = self.current_command() {
                command.tree = None;
            }
        }
    }

    /// SMB 1: a file is to be opened.
    pub(super) fn create_request1(&mut self, name: Vec<u8>, now: Ts) {
        let file = File { name: Some(name), action: Some(Action::Open), ..File::new(now) };
        let file = self.files.add(file);
        self.file = Some(file);
        if let Some(command) = self.current_command() {
            command.file = file;
        }
    }

    /// SMB 1: the file is open.
    pub(super) fn create_reply1(&mut self, id: u16, size: u64, times: Times, cx: &mut Cx<'_>) {
        let Some(key) = self.current_command().map(|command| command.file) else { return };
        if let Some(file) = self.files.get_mut(key) {
            file.action = Some(Action::Open);
            file.size = size;
            if times.is_known() {
                file.times = Some(times);
            }
        }
        remember(&mut self.by_file_id, id.into(), key, FILES_MAX);
        self.file = Some(key);
        self.write_file(cx);
    }

    /// SMB 2: a file is to be opened.
    pub(super) fn create_request2(&mut self, name: Vec<u8>, options: u32) {
        let name = if name.is_empty() { b"<share_root>".to_vec() } else { name };
        if let Some(file) = self.current_file() {
            file.name = Some(name);
        }
        if let Some(command) = self.current_command() {
            command.create_options = options;
        }
        self.act_by_share(Action::Open, Action::PrintOpen);
    }

    /// SMB 2: the file is open. True when it is to be deleted with its close.
    pub(super) fn create_reply2(&mut self, id: u64, size: u64, times: Times) -> bool {
        const DELETE_ON_CLOSE: u32 = 0x1000;
        self.set_file(id);
        let path = self.current_tree().and_then(|tree| tree.path.clone());
        if let Some(file) = self.current_file() {
            file.size = size;
            if path.is_some() {
                file.path = path;
            }
            if times.is_known() {
                file.times = Some(times);
            }
        }
        self.current_command().is_some_and(|command| command.create_options & DELETE_ON_CLOSE != 0)
    }

    /// SMB 2: all is known of the file that was opened.
    pub(super) fn opened(&mut self, cx: &mut Cx<'_>) {
        self.write_file(cx);
    }

    /// SMB 1: `id` is read or written.
    pub(super) fn access1(&mut self, id: u16, action: Action, cx: &mut Cx<'_>) {
        self.set_file(id.into());
        let path = self.current_tree().and_then(|tree| tree.path.clone());
        if let Some(file) = self.current_file() {
            file.action = Some(action);
            if file.path.is_none() {
                file.path = path;
            }
        }
        if action == Action::Read {
            self.write_file(cx);
        }
    }

    /// SMB 2: something is done to `id`.
    pub(super) fn access2(&mut self, id: u64, action: Action, cx: &mut Cx<'_>) {
        self.set_file(id);
        match action {
            Action::Read | Action::Write => self.act_by_share(action, Action::Other),
            _ => self.act(action),
        }
        self.write_file(cx);
    }

    /// SMB 2: `id` is to be called `name`.
    pub(super) fn rename(&mut self, id: u64, name: Vec<u8>, cx: &mut Cx<'_>) {
        self.set_file(id);
        if let Some(file) = self.current_file() {
            if file.name.is_some() {
                file.prev_name = file.name.take();
            }
            file.name = Some(name);
        }
        self.act(Action::Rename);
        self.write_file(cx);
    }

    /// SMB 2: `id` is to be deleted, if `is_wanted`.
    pub(super) fn delete(&mut self, id: u64, is_wanted: bool, cx: &mut Cx<'_>) {
        self.set_file(id);
        if is_wanted {
            self.act(Action::Delete);
        }
        self.write_file(cx);
    }

    /// `id` is closed.
    pub(super) fn close(&mut self, id: u64, is_smb2: bool, cx: &mut Cx<'_>) {
        self.set_file(id);
        if is_smb2 {
            self.act_by_share(Action::Close, Action::PrintClose);
        } else {
            self.act(Action::Close);
        }
        let path = self.current_tree().and_then(|tree| tree.path.clone());
        if let Some(file) = self.current_file()
            && path.is_some()
        {
            file.path = path;
        }
        self.by_file_id.remove(&id);
        self.write_file(cx);
    }

    /// What tells the current file from others in all connections between two hosts; its name
    /// and size. `None` when it has neither name nor share.
    pub(super) fn handle(&self, cx: &Cx<'_>) -> Option<(Vec<u8>, Option<Vec<u8>>, u64)> {
        let file = self.files.get(self.file?)?;
        if file.name.is_none() && file.path.is_none() {
            return None;
        }
        let modified = file.times.map_or(0, |times| times.modified);
        let id = cx.id();
        let handle = Handle::of("SMB").addr(id.orig_h).addr(id.resp_h);
        let handle = handle.printable(file.path.as_deref().unwrap_or_default());
        let handle = handle.printable(file.name.as_deref().unwrap_or_default()).number(modified);
        Some((handle.into_bytes(), file.name.clone(), file.size))
    }

    /// Content of the current file is seen on this connection for the first time.
    pub(super) fn content_is(&mut self, fuid: Fuid, cx: &mut Cx<'_>) {
        if let Some(file) = self.current_file() {
            file.fuid = Some(fuid);
        }
        self.write_file(cx);
    }

    fn current_command(&mut self) -> Option<&mut Command> {
        self.commands.get_mut(self.command?)
    }

    fn current_file(&mut self) -> Option<&mut File> {
        self.files.get_mut(self.file?)
    }

    fn current_tree(&mut self) -> Option<&mut Tree> {
        self.trees.get_mut(self.tree?)
    }

    /// The file `id` is the current one; if it is not known, it is the command's.
    fn set_file(&mut self, id: u64) {
        let known = self.by_file_id.get(&id).copied();
        let Some(command) = self.current_command() else { return };
        let file = known.unwrap_or(command.file);
        command.file = file;
        self.file = Some(file);
        if known.is_none() {
            remember(&mut self.by_file_id, id, file, FILES_MAX);
        }
    }

    fn act(&mut self, action: Action) {
        if let Some(file) = self.current_file() {
            file.action = Some(action);
        }
    }

    /// What is done is another thing with pipes and printers.
    fn act_by_share(&mut self, on_disk: Action, on_printer: Action) {
        let Some(tree) = self.current_tree() else { return };
        let action = match tree.share_type.as_str() {
            "PIPE" => Action::Other,
            "PRINT" => on_printer,
            _ => on_disk,
        };
        self.act(action);
    }

    fn write_mapping(&mut self, cx: &mut Cx<'_>) {
        let (uid, id) = (cx.uid(), cx.id());
        let Some(tree) = self.current_tree() else { return };
        let row = SmbMappingLog {
            ts: tree.ts,
            uid,
            id,
            path: tree.path.clone(),
            service: tree.service.clone(),
            native_file_system: tree.native_file_system.clone(),
            share_type: tree.share_type.clone(),
        };
        cx.row(&row);
    }

    /// Writes what was done to the current file, unless the same was written just before.
    fn write_file(&mut self, cx: &mut Cx<'_>) {
        let Some(file) = self.file.and_then(|key| self.files.get(key)) else { return };
        let (Some(name), Some(action)) = (&file.name, file.action) else { return };
        let Some(word) = action.logged() else { return };
        if let Some(times) = file.times {
            let ident = Ident {
                action,
                fuid: file.fuid,
                name: name.clone(),
                path: file.path.clone().unwrap_or_default(),
                size: file.size,
                times: [times.modified, times.created, times.changed],
            };
            if self.recent.len() >= RECENT_MAX {
                self.recent.clear();
            }
            let before = self.recent.insert(ident, cx.now);
            if before.is_some_and(|at| cx.now.since(at) < Interval::from_secs(RECENT_S)) {
                return;
            }
        }
        let row = SmbFilesLog {
            ts: file.ts,
            uid: cx.uid(),
            id: cx.id(),
            fuid: file.fuid,
            action: Some(EnumName(word)),
            path: file.path.clone(),
            name: file.name.clone(),
            size: file.size,
            prev_name: file.prev_name.clone(),
            times: file.times.map(Times::row),
        };
        cx.row(&row);
    }

    /// Forgets what nobody names any more.
    fn sweep(&mut self) {
        if self.commands.is_full() {
            let named = self.pending.values().copied().chain(self.command).collect();
            self.commands.sweep(&named);
        }
        let commands = self.pending.values().chain(&self.command);
        let commands: Vec<&Command> = if self.files.is_full() || self.trees.is_full() {
            commands.filter_map(|key| self.commands.get(*key)).collect()
        } else {
            return;
        };
        let files: BTreeSet<Key> = (commands.iter().map(|command| command.file))
            .chain(self.by_file_id.values().copied())
            .chain(self.file)
            .collect();
        let trees: BTreeSet<Key> = (commands.iter().filter_map(|command| command.tree))
            .chain(self.by_tree_id.values().copied())
            .chain(self.tree)
            .collect();
        self.files.sweep(&files);
        self.trees.sweep(&trees);
    }
}

fn remember(table: &mut BTreeMap<u64, Key>, id: u64, key: Key, max: usize) {
    if table.len() >= max && !table.contains_key(&id) {
        table.clear();
    }
    table.insert(id, key);
}
