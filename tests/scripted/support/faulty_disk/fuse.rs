//! The kernel's side of it.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FileType, Filesystem, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
};
use rustix::io::Errno;

use super::content::Content;
use super::fault::Op;
use super::tree::{Body, Entries, Tree};
use crate::support::upstream::PATIENCE;

/// Nothing is remembered by the kernel: a test changes the disk behind its back.
const TTL: Duration = Duration::ZERO;

pub(super) struct Served(pub(super) Arc<Mutex<Tree>>);

impl Served {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attributes(tree: &mut Tree, ino: u64) -> Result<FileAttr, Errno> {
    let node = tree.node(ino)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_millis(node.changed);
    let kind = if node.body.is_dir() { FileType::Directory } else { FileType::RegularFile };
    Ok(FileAttr {
        ino,
        size: node.len(),
        blocks: node.blocks() * 8,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: node.mode,
        nlink: node.links(),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn named(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

fn permissions(mode: u32, umask: u32) -> u16 {
    (mode & !umask & 0o7777) as u16
}

fn entry(tree: &mut Tree, ino: Result<u64, Errno>, reply: ReplyEntry) {
    match ino.and_then(|ino| attributes(tree, ino)) {
        Ok(attributes) => reply.entry(&TTL, &attributes, 0),
        Err(errno) => reply.error(errno.raw_os_error()),
    }
}

fn done(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno.raw_os_error()),
    }
}

fn opened(result: Result<(), Errno>, reply: ReplyOpen) {
    match result {
        Ok(()) => reply.opened(0, 0),
        Err(errno) => reply.error(errno.raw_os_error()),
    }
}

fn offset(at: i64) -> u64 {
    u64::try_from(at).unwrap_or(0)
}

impl Filesystem for Served {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let mut tree = self.tree();
        let ino = tree.lookup(parent, &named(name));
        entry(&mut tree, ino, reply);
    }

    fn getattr(&mut self, _: &Request<'_>, ino: u64, _: Option<u64>, reply: ReplyAttr) {
        match attributes(&mut self.tree(), ino) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno.raw_os_error()),
        }
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<u64>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<u32>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree();
        let set = size.map_or(Ok(()), |size| tree.set_len(ino, size));
        if let (Some(mode), Ok(node)) = (mode, tree.node(ino)) {
            node.mode = permissions(mode, 0);
        }
        match set.and_then(|()| attributes(&mut tree, ino)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno.raw_os_error()),
        }
    }

    fn mkdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let mut tree = self.tree();
        let ino = tree.create(parent, &named(name), Body::Dir(Entries::new()), permissions(mode, umask));
        entry(&mut tree, ino, reply);
    }

    fn create(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut tree = self.tree();
        let file = tree.create(parent, &named(name), Body::File(Content::default()), permissions(mode, umask));
        let file = file.and_then(|ino| tree.open(ino).map(|()| ino)).and_then(|ino| attributes(&mut tree, ino));
        match file {
            Ok(attributes) => reply.created(&TTL, &attributes, 0, 0, 0),
            Err(errno) => reply.error(errno.raw_os_error()),
        }
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let (tree, name) = (Arc::clone(&self.0), named(name));
        let gate = self.tree().held_removal(parent, &name);
        let remove = move || {
            let mut tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
            let removed = tree.remove(parent, &name, Op::Remove);
            tree.free_unnamed();
            done(removed, reply);
        };
        match gate {
            None => remove(),
            // Everything else goes on meanwhile.
            Some(gate) => drop(std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                // A test that has failed opens no gate, and must end.
                let _in_time = runtime.block_on(async { tokio::time::timeout(2 * PATIENCE, gate.wait()).await });
                remove();
            })),
        }
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let mut tree = self.tree();
        let removed = tree.remove(parent, &named(name), Op::RemoveDir);
        tree.free_unnamed();
        done(removed, reply);
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        newparent: u64,
        newname: &OsStr,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let mut tree = self.tree();
        let renamed = tree.rename((parent, &named(name)), (newparent, &named(newname)));
        tree.free_unnamed();
        done(renamed, reply);
    }

    fn link(&mut self, _: &Request<'_>, ino: u64, newparent: u64, newname: &OsStr, reply: ReplyEntry) {
        let mut tree = self.tree();
        let linked = tree.link(ino, newparent, &named(newname)).map(|()| ino);
        entry(&mut tree, linked, reply);
    }

    fn open(&mut self, _: &Request<'_>, ino: u64, flags: i32, reply: ReplyOpen) {
        let mut tree = self.tree();
        let writes = flags & 3 != 0;
        let admitted = if writes && tree.read_only { Err(Errno::ROFS) } else { tree.admit(Op::Open, ino) };
        let done = admitted.and_then(|_| tree.open(ino));
        opened(done, reply);
    }

    fn release(&mut self, _: &Request<'_>, ino: u64, _: u64, _: i32, _: Option<u64>, _: bool, reply: ReplyEmpty) {
        self.tree().close(ino);
        reply.ok();
    }

    fn flush(&mut self, _: &Request<'_>, _: u64, _: u64, _: u64, reply: ReplyEmpty) {
        reply.ok();
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        at: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let mut tree = self.tree();
        let read = tree.admit(Op::Read, ino).and_then(|_| {
            let content = tree.node(ino)?.content()?;
            Ok(content.read(offset(at), size as usize))
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno.raw_os_error()),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        at: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        match self.tree().write(ino, offset(at), data) {
            Ok(taken) => reply.written(u32::try_from(taken).unwrap()),
            Err(errno) => reply.error(errno.raw_os_error()),
        }
    }

    fn fsync(&mut self, _: &Request<'_>, ino: u64, _: u64, _: bool, reply: ReplyEmpty) {
        let synced = self.tree().sync(ino, Op::Sync);
        done(synced, reply);
    }

    fn fsyncdir(&mut self, _: &Request<'_>, ino: u64, _: u64, _: bool, reply: ReplyEmpty) {
        let synced = self.tree().sync(ino, Op::SyncDir);
        done(synced, reply);
    }

    fn readdir(&mut self, _: &Request<'_>, ino: u64, _: u64, at: i64, mut reply: ReplyDirectory) {
        let mut tree = self.tree();
        let listed = tree.admit(Op::ReadDir, ino).and_then(|_| match &tree.node(ino)?.body {
            Body::Dir(entries) => Ok(entries.clone()),
            Body::File(_) => Err(Errno::NOTDIR),
        });
        let entries = match listed {
            Ok(entries) => entries,
            Err(errno) => return reply.error(errno.raw_os_error()),
        };
        let dots = [(".".to_owned(), ino), ("..".to_owned(), ino)];
        let all = dots.into_iter().chain(entries);
        for (next, (name, child)) in (1_i64..).zip(all).skip(usize::try_from(at).unwrap_or(0)) {
            let is_dir = tree.node(child).is_ok_and(|node| node.body.is_dir());
            let kind = if is_dir { FileType::Directory } else { FileType::RegularFile };
            if reply.add(child, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fallocate(&mut self, _: &Request<'_>, ino: u64, _: u64, at: i64, length: i64, mode: i32, reply: ReplyEmpty) {
        // Anything but setting aside, with or without a new length, is more than this disk knows.
        let result = match mode {
            0 | 1 => self.tree().allocate(ino, offset(at + length), mode == 1),
            _ => Err(Errno::OPNOTSUPP),
        };
        done(result, reply);
    }

    fn statfs(&mut self, _: &Request<'_>, _: u64, reply: ReplyStatfs) {
        let tree = self.tree();
        let (all, used) = (tree.size / 4096, tree.used() / 4096);
        let free = all.saturating_sub(used);
        reply.statfs(all, free, free, 1_000_000, 1_000_000, 4096, 255, 4096);
    }
}
