//! A disk that fails on demand: a file system of this process, mounted for real, so that the program under test needs no
//! word about it. It knows what has been synced, and can lose the rest.
//!
//! Mounting takes `/dev/fuse` and root.

#![allow(dead_code, reason = "each test uses a part")]

mod content;
mod cut;
mod fault;
mod fuse;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackgroundSession, MountOption};
use tempfile::TempDir;

use super::upstream::Gate;
pub(crate) use cut::{Dice, Unsynced};
pub(crate) use fault::{Fault, Op};
use tree::{Body, Tree};

/// Unless told otherwise.
const SIZE: u64 = 1024 * 1024 * 1024;

pub(crate) struct FaultyDisk {
    tree: Arc<Mutex<Tree>>,
    point: TempDir,
    session: Option<BackgroundSession>,
}

impl FaultyDisk {
    pub(crate) fn mount() -> Self {
        Self::of(Tree::new(SIZE))
    }

    fn of(tree: Tree) -> Self {
        let point = tempfile::tempdir().unwrap();
        let tree = Arc::new(Mutex::new(tree));
        let served = fuse::Served(Arc::clone(&tree));
        let options = [MountOption::FSName("faulty".to_owned())];
        let session = fuser::spawn_mount2(served, point.path(), &options);
        let session = session.expect("this test mounts a file system: run it as root, with /dev/fuse");
        Self { tree, point, session: Some(session) }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }

    /// A directory on it, for a mirror's storage. Its files go with the disk.
    pub(crate) fn directory(&self) -> TempDir {
        let mut directory = tempfile::tempdir_in(self.path()).unwrap();
        directory.disable_cleanup(true);
        directory
    }

    pub(crate) fn fails(&self, fault: Fault) {
        self.tree().faults.push(fault);
    }

    /// Whoever removes a file whose path holds this text waits at the gate.
    pub(crate) fn holds_removals(&self, place: &str, gate: &Gate) {
        self.tree().removals = Some((place.to_owned(), gate.clone()));
    }

    /// Whether everything that was to go wrong has.
    pub(crate) fn has_struck(&self) -> bool {
        self.tree().faults.iter().all(Fault::is_over)
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heals(&self) {
        let mut tree = self.tree();
        tree.faults.clear();
        tree.read_only = false;
        tree.size = SIZE;
    }

    pub(crate) fn read_only(&self) {
        self.tree().read_only = true;
    }

    /// No room for another block.
    pub(crate) fn is_full(&self) {
        self.tree().size = 0;
    }

    /// Room for so many more bytes.
    pub(crate) fn has_room_for(&self, bytes: u64) {
        let mut tree = self.tree();
        tree.size = tree.used() + bytes;
    }

    /// Changing operations so far.
    pub(crate) fn changes(&self) -> u64 {
        self.tree().changes
    }

    /// Bytes of all files, with the space that is set aside.
    pub(crate) fn used(&self) -> u64 {
        self.tree().used()
    }

    /// Turns one bit over, in a file that has this path from the disk's root. Nothing is told to anybody.
    pub(crate) fn rots(&self, path: &Path, at: u64) {
        let mut tree = self.tree();
        let relative = path.strip_prefix(self.point.path()).unwrap_or(path);
        let mut ino = tree::ROOT;
        for part in relative {
            ino = tree.lookup(ino, &part.to_string_lossy()).expect("the file is there");
        }
        let node = tree.node(ino).unwrap();
        let content = node.content().unwrap();
        let byte = content.read(at, 1)[0] ^ 1;
        content.write(at, &[byte]);
        node.synced = node.body.clone();
    }

    /// The disk as the next start finds it after a power cut now. Whoever uses this one must be gone, or it goes on beside.
    pub(crate) fn cut(&self, unsynced: Unsynced) -> Self {
        Self::of(cut::after(&self.tree(), unsynced))
    }

    /// Whole files below this path, whatever goes wrong otherwise.
    pub(crate) fn contents(&self, below: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for (path, len) in self.files(below) {
            let mut tree = self.tree();
            let mut ino = tree::ROOT;
            let there = path.iter().all(|part| match tree.lookup(ino, &part.to_string_lossy()) {
                Ok(child) => {
                    ino = child;
                    true
                }
                Err(_removed_since) => false,
            });
            if there && let Ok(content) = tree.node(ino).and_then(tree::Node::content) {
                found.push((path, content.read(0, usize::try_from(len).unwrap())));
            }
        }
        found
    }

    /// Paths of all files below this one, from the disk's root, with their lengths, as they would be read back.
    pub(crate) fn files(&self, below: &str) -> Vec<(PathBuf, u64)> {
        let tree = self.tree();
        let mut found = Vec::new();
        let mut left = vec![(tree::ROOT, PathBuf::new())];
        while let Some((ino, path)) = left.pop() {
            let Some(node) = tree.nodes.get(&ino) else { continue };
            match &node.body {
                Body::Dir(entries) => left.extend(entries.iter().map(|(name, ino)| (*ino, path.join(name)))),
                Body::File(content) if path.to_string_lossy().contains(below) => found.push((path, content.len)),
                Body::File(_) => {}
            }
        }
        found
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        // An open file keeps the disk until it is closed.
        let _gone_with_the_process = Command::new("umount").arg("--lazy").arg(self.path()).status();
        drop(self.session.take());
    }
}
