//! A disk for tests: [`tyto_writer::disk::Disk`] in memory, that forgets, tears and refuses by a
//! seed. What it promises is what POSIX promises, and no more:
//!
//! - bytes written and not synced are there for every reader, and for the next process when this
//!   one is killed ([`ModelDisk::kill`]); a crash of the host ([`ModelDisk::crash_host`]) keeps any
//!   subset of them, cut at sectors or inside of one;
//! - names given and taken are durable once their folder was synced, any subset of them before;
//!   a rename is one step, as with every file system that has a journal, and durable with either
//!   of its two folders;
//! - a sync that fails leaves the pages clean in memory and not on disk: a second sync succeeds
//!   and brings nothing;
//! - writes may be short; at a full disk, and before an error, a part of the bytes is written.
//!
//! Only tests depend on it. One seed and one sequence of calls give one outcome.
#![forbid(unsafe_code)]

mod inode;
mod names;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tyto_writer::disk::{Disk, DiskFile, Metadata, Open};

use inode::Inode;
use names::{Names, Node};
pub use random::Random;

/// What a disk refuses by chance, and how much room it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of a thousand calls, so many fail with EIO.
    pub errors: u32,
    /// Of a thousand writes, so many are short.
    pub short_writes: u32,
    /// Bytes that all files may take together; more is ENOSPC.
    pub room_bytes: Option<u64>,
    /// Every change is EROFS.
    pub is_read_only: bool,
}

/// What happens at one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO.
    Error,
    /// ENOSPC.
    Full,
    /// The process or host dies within the call: it is half done at most, and this and every later
    /// call fails until [`ModelDisk::kill`] or [`ModelDisk::crash_host`].
    Death,
}

/// A disk in memory. Clones are of one and the same.
#[derive(Clone, Debug)]
pub struct ModelDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Debug)]
struct World {
    random: Random,
    names: Names,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    faults: Faults,
    planned: BTreeMap<u64, Fault>,
    calls: u64,
    /// Files opened in an earlier life are dead.
    life: u64,
    is_down: bool,
    now: SystemTime,
}

/// Whether a call changes something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Look,
    Change,
}

fn eio() -> io::Error {
    io::Error::other("input/output error (model)")
}

impl ModelDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let world = World {
            random: Random::new(seed),
            names: Names::default(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            faults: Faults::default(),
            planned: BTreeMap::new(),
            calls: 0,
            life: 0,
            is_down: false,
            now: SystemTime::UNIX_EPOCH,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// The disk as the code under test sees it.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// What it refuses from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Lets the `calls`-th call from now on (1: the next one) meet `fault`.
    pub fn plan(&self, calls: u64, fault: Fault) {
        let mut world = self.lock();
        let at = world.calls + calls;
        world.planned.insert(at, fault);
    }

    /// Takes back what was planned, and lets nothing fail by chance.
    pub fn heal(&self) {
        let mut world = self.lock();
        world.planned.clear();
        world.faults = Faults::default();
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Whether a planned [`Fault::Death`] has come.
    pub fn is_down(&self) -> bool {
        self.lock().is_down
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// The time that files written from now on bear.
    pub fn set_time(&self, since_epoch: Duration) {
        self.lock().now = SystemTime::UNIX_EPOCH + since_epoch;
    }

    /// The process dies: what it wrote stays, its open files are gone.
    pub fn kill(&self) {
        let mut world = self.lock();
        world.life += 1;
        world.is_down = false;
    }

    /// The host dies: what was not synced may be gone.
    pub fn crash_host(&self) {
        let mut world = self.lock();
        let World { names, inodes, random, .. } = &mut *world;
        names.crash(random);
        let linked: BTreeSet<u64> = names.inodes().collect();
        inodes.retain(|number, _| linked.contains(number));
        inodes.values_mut().for_each(|inode| inode.crash(random));
        drop(world);
        self.kill();
    }

    /// Every file with its bytes, by path; for the test's own eyes, faults or not.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let world = self.lock();
        let bytes = |number: u64| world.inodes.get(&number).map(|inode| inode.bytes.clone());
        world.names.files().map(|(path, inode)| (path, bytes(inode).unwrap_or_default())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// What comes first at every call: whether it fails, and how.
    fn call(&mut self, kind: Kind) -> io::Result<Option<Fault>> {
        self.calls += 1;
        if self.is_down {
            return Err(eio());
        }
        if kind == Kind::Change && self.faults.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let planned = self.planned.remove(&self.calls);
        self.is_down = planned == Some(Fault::Death);
        let by_chance = self.random.per_mille(self.faults.errors).then_some(Fault::Error);
        Ok(planned.or(by_chance))
    }

    /// A call that is done or not, never by halves.
    fn whole(&mut self, kind: Kind) -> io::Result<()> {
        match self.call(kind)? {
            None => Ok(()),
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Error) => Err(eio()),
            // Done, though nobody hears of it.
            Some(Fault::Death) if kind == Kind::Change && self.random.chance() => Ok(()),
            Some(Fault::Death) => Err(eio()),
        }
    }

    /// What has no name takes no room, though the medium may still have one for it.
    fn used_bytes(&self) -> u64 {
        let files = self.names.files().filter_map(|(_, number)| self.inodes.get(&number));
        files.map(|inode| inode.bytes.len() as u64).sum()
    }

    /// How many of `wanted` further bytes fit.
    fn room(&self, wanted: u64) -> u64 {
        let room = self.faults.room_bytes.unwrap_or(u64::MAX);
        room.saturating_sub(self.used_bytes()).min(wanted)
    }

    fn inode(&mut self, life: u64, number: u64) -> io::Result<&mut Inode> {
        if life != self.life {
            return Err(eio());
        }
        self.inodes.get_mut(&number).ok_or_else(eio)
    }

    fn drop_unlinked(&mut self, node: Option<Node>) {
        if let Some(Node::File(number)) = node
            && !self.names.inodes().any(|linked| linked == number)
        {
            // Open files would keep it; none of ours is written after its name is gone.
            self.inodes.remove(&number);
        }
    }
}

impl Disk for ModelDisk {
    fn space(&self, _path: &Path) -> io::Result<(u64, u64)> {
        let mut world = self.lock();
        world.whole(Kind::Look)?;
        Ok((world.room(u64::MAX), world.faults.room_bytes.unwrap_or(u64::MAX)))
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.lock();
        let kind = if how == Open::Read { Kind::Look } else { Kind::Change };
        world.whole(kind)?;
        let number = match (world.names.file(path), how) {
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(number), Open::Create) => {
                let now = world.now;
                world.inodes.entry(number).or_default().set_len(0, now);
                number
            }
            (Some(number), _) => number,
            (None, Open::Read | Open::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (None, Open::Create | Open::CreateNew) => {
                if world.faults.room_bytes.is_some() && world.room(1) == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let number = world.next_inode;
                world.names.create(path, Node::File(number))?;
                world.next_inode += 1;
                let now = world.now;
                world.inodes.insert(number, Inode::new(now));
                number
            }
        };
        let life = world.life;
        Ok(Box::new(ModelFile { disk: self.clone(), life, number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.whole(Kind::Change)?;
        let replaced = world.names.rename(from, to)?;
        world.drop_unlinked(replaced);
        Ok(())
    }

    fn rename_to_free(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.whole(Kind::Change)?;
        if world.names.node(to).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.names.rename(from, to).map(|_| ())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.whole(Kind::Change)?;
        let removed = world.names.remove(path)?;
        world.drop_unlinked(Some(removed));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.whole(Kind::Change)?;
        world.names.remove_folder(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut world = self.lock();
        world.whole(Kind::Look)?;
        world.names.list(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.whole(Kind::Change)?;
        world.names.create_folders(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let mut world = self.lock();
        world.whole(Kind::Look)?;
        let number = match world.names.follow(path) {
            Some(Node::File(number)) => number,
            Some(Node::Folder) => {
                return Ok(Metadata { is_folder: true, len: 0, modified: world.now });
            }
            Some(Node::Link(_)) | None => return Err(io::ErrorKind::NotFound.into()),
        };
        let life = world.life;
        let inode = world.inode(life, number)?;
        let (len, modified) = (inode.bytes.len() as u64, inode.modified);
        Ok(Metadata { is_folder: false, len, modified })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.whole(Kind::Look)?;
        world.names.sync(path)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.whole(Kind::Change)?;
        world.names.create(link, Node::Link(target.to_owned()))
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        let mut world = self.lock();
        world.whole(Kind::Look)?;
        match world.names.node(link) {
            Some(Node::Link(target)) => Ok(target),
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[derive(Debug)]
struct ModelFile {
    disk: ModelDisk,
    life: u64,
    number: u64,
}

impl DiskFile for ModelFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.lock();
        world.whole(Kind::Look)?;
        Ok(world.inode(self.life, self.number)?.read_at(bytes, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.lock();
        let fault = world.call(Kind::Change)?;
        let len = bytes.len();
        let end = offset.saturating_add(len as u64);
        let before = world.inode(self.life, self.number)?.bytes.len() as u64;
        let growth = end.saturating_sub(before);
        let missing = growth - world.room(growth);
        let mut count = len - usize::try_from(missing).unwrap_or(len).min(len);
        let short = world.faults.short_writes;
        if fault == Some(Fault::Death) {
            count = world.random.below(count + 1);
        } else if fault.is_some() {
            // Had all been written, the system would say so.
            count = world.random.below(count);
        } else if count > 1 && world.random.per_mille(short) {
            count = 1 + world.random.below(count - 1);
        }
        let now = world.now;
        let taken = bytes.get(..count).unwrap_or_default();
        world.inode(self.life, self.number)?.write_at(taken, offset, now);
        match fault {
            Some(Fault::Error | Fault::Death) => Err(eio()),
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            None if count == 0 && len > 0 => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(count),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut world = self.disk.lock();
        world.whole(Kind::Change)?;
        let now = world.now;
        world.inode(self.life, self.number)?.set_len(len, now);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.disk.lock();
        let fault = world.call(Kind::Look)?;
        let mut random = world.random.fork();
        let inode = world.inode(self.life, self.number)?;
        match fault {
            None => inode.sync(),
            // The system goes on with it, or has not begun; no page is forgotten.
            Some(Fault::Death) => {
                if random.chance() {
                    inode.sync();
                }
                return Err(eio());
            }
            Some(Fault::Error | Fault::Full) => {
                inode.fail_sync(&mut random);
                return Err(eio());
            }
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        let mut world = self.disk.lock();
        world.whole(Kind::Look)?;
        Ok(world.inode(self.life, self.number)?.bytes.len() as u64)
    }
}
