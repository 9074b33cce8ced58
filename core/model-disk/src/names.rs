//! The names of files, folders and links: as processes see them, and as they are on the medium.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::inode::Fate;
use crate::random::Random;

/// Links followed before one is taken for a circle.
const LINKS_MAX: usize = 8;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Folder,
    File(u64),
    Link(PathBuf),
}

type Tree = BTreeMap<PathBuf, Node>;

/// Names by their whole path.
#[derive(Debug, Default)]
pub(crate) struct Names {
    now: Tree,
    durable: Tree,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Create { path: PathBuf, node: Node },
    Remove { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, node: Node },
}

impl Names {
    /// What a name stands for, links not followed.
    pub(crate) fn node(&self, path: &Path) -> Option<Node> {
        if path.parent().is_none() { Some(Node::Folder) } else { self.now.get(path).cloned() }
    }

    /// What a name stands for in the end.
    pub(crate) fn follow(&self, path: &Path) -> Option<Node> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            match self.node(&path)? {
                Node::Link(target) => path = resolve(path.parent()?, &target),
                node => return Some(node),
            }
        }
        None
    }

    /// The file of that name.
    pub(crate) fn file(&self, path: &Path) -> Option<u64> {
        match self.follow(path) {
            Some(Node::File(number)) => Some(number),
            _ => None,
        }
    }

    /// Files with a name, now or on the medium.
    pub(crate) fn inodes(&self) -> impl Iterator<Item = u64> + '_ {
        let unsynced = self.unsynced.iter().filter_map(|change| match change {
            Change::Create { node, .. } | Change::Rename { node, .. } => Some(node),
            Change::Remove { .. } => None,
        });
        let all = self.now.values().chain(self.durable.values()).chain(unsynced);
        all.filter_map(|node| match node {
            Node::File(number) => Some(*number),
            Node::Folder | Node::Link(_) => None,
        })
    }

    /// Every file, by path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (PathBuf, u64)> + '_ {
        self.now.iter().filter_map(|(path, node)| match node {
            Node::File(number) => Some((path.clone(), *number)),
            Node::Folder | Node::Link(_) => None,
        })
    }

    pub(crate) fn create(&mut self, path: &Path, node: Node) -> io::Result<()> {
        if self.node(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.need_folder(path.parent())?;
        self.change(Change::Create { path: path.to_owned(), node });
        Ok(())
    }

    pub(crate) fn create_folders(&mut self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for folder in above {
            match self.node(folder) {
                Some(Node::Folder) => {}
                Some(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => {
                    self.change(Change::Create { path: folder.to_owned(), node: Node::Folder });
                }
            }
        }
        Ok(())
    }

    /// Returns what had the new name before.
    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<Option<Node>> {
        let node = self.node(from).ok_or(io::ErrorKind::NotFound)?;
        if node == Node::Folder {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.need_folder(to.parent())?;
        let replaced = self.node(to);
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), node });
        Ok(replaced)
    }

    pub(crate) fn remove(&mut self, path: &Path) -> io::Result<Node> {
        let node = self.node(path).ok_or(io::ErrorKind::NotFound)?;
        if node == Node::Folder {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(Change::Remove { path: path.to_owned() });
        Ok(node)
    }

    pub(crate) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(Change::Remove { path: path.to_owned() });
        Ok(())
    }

    pub(crate) fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.need_folder(Some(folder))?;
        let inside = self.now.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| path.file_name()).map(Into::into).collect())
    }

    /// Names in `folder` are durable.
    pub(crate) fn sync(&mut self, folder: &Path) -> io::Result<()> {
        self.need_folder(Some(folder))?;
        let changes = std::mem::take(&mut self.unsynced);
        for change in changes {
            if change.touches(folder) {
                change.apply(&mut self.durable);
            } else {
                self.unsynced.push(change);
            }
        }
        Ok(())
    }

    /// Memory is gone: of what was not synced, some is there.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let fate = Fate::of(random);
        for change in std::mem::take(&mut self.unsynced) {
            if fate.keeps(random) {
                change.apply(&mut self.durable);
            }
        }
        // What is below a folder whose name is gone cannot be reached.
        let durable = std::mem::take(&mut self.durable);
        let mut reachable = Tree::new();
        for (path, node) in durable {
            let parent = path.parent().filter(|parent| parent.parent().is_some());
            if parent.is_none_or(|parent| reachable.get(parent) == Some(&Node::Folder)) {
                reachable.insert(path, node);
            }
        }
        self.now.clone_from(&reachable);
        self.durable = reachable;
    }

    fn need_folder(&self, path: Option<&Path>) -> io::Result<()> {
        match path.and_then(|path| self.follow(path)) {
            Some(Node::Folder) => Ok(()),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }
}

impl Change {
    fn touches(&self, folder: &Path) -> bool {
        let inside = |path: &PathBuf| path.parent() == Some(folder);
        match self {
            Self::Create { path, .. } | Self::Remove { path } => inside(path),
            Self::Rename { from, to, .. } => inside(from) || inside(to),
        }
    }

    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Create { path, node } => {
                tree.insert(path.clone(), node.clone());
            }
            Self::Remove { path } => {
                tree.remove(path);
            }
            Self::Rename { from, to, node } => {
                if tree.get(from) == Some(node) {
                    tree.remove(from);
                }
                tree.insert(to.clone(), node.clone());
            }
        }
    }
}

/// The path that a link in `folder` means.
fn resolve(folder: &Path, target: &Path) -> PathBuf {
    let mut path = folder.to_owned();
    for part in target.components() {
        match part {
            Component::RootDir => path = PathBuf::from("/"),
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    path
}
