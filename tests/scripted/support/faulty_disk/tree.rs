//! Files and directories in memory, each with what of it has been synced.

use std::collections::{BTreeMap, HashMap};

use rustix::io::Errno;

use super::content::Content;
use super::fault::{Fault, How, Op};
use crate::support::upstream::Gate;

pub(super) const ROOT: u64 = 1;
const BLOCK: u64 = 4096;

pub(super) type Entries = BTreeMap<String, u64>;

#[derive(Clone)]
pub(super) enum Body {
    File(Content),
    Dir(Entries),
}

pub(super) struct Node {
    pub(super) body: Body,
    /// As last synced.
    pub(super) synced: Body,
    /// Directory and name of each link.
    names: Vec<(u64, String)>,
    opened: u64,
    /// Set aside; bytes from the start.
    allocated: u64,
    pub(super) mode: u16,
    /// Ticks of this disk's own clock: one millisecond per change.
    pub(super) changed: u64,
}

pub(super) struct Tree {
    pub(super) nodes: HashMap<u64, Node>,
    next: u64,
    pub(super) faults: Vec<Fault>,
    /// A removal of a file whose path holds this text waits here.
    pub(super) removals: Option<(String, Gate)>,
    pub(super) read_only: bool,
    pub(super) size: u64,
    /// Changing operations that came in.
    pub(super) changes: u64,
}

impl Body {
    pub(super) fn is_dir(&self) -> bool {
        matches!(self, Self::Dir(_))
    }

    fn emptied(&self) -> Self {
        match self {
            Self::File(_) => Self::File(Content::default()),
            Self::Dir(_) => Self::Dir(Entries::new()),
        }
    }
}

impl Node {
    pub(super) fn new(body: Body, mode: u16) -> Self {
        Self { synced: body.emptied(), body, names: Vec::new(), opened: 0, allocated: 0, mode, changed: 0 }
    }

    pub(super) fn len(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.len,
            Body::Dir(_) => BLOCK,
        }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.len().max(self.allocated).div_ceil(BLOCK)
    }

    pub(super) fn links(&self) -> u32 {
        u32::try_from(self.names.len()).unwrap().max(u32::from(self.body.is_dir()))
    }

    pub(super) fn content(&mut self) -> Result<&mut Content, Errno> {
        match &mut self.body {
            Body::File(content) => Ok(content),
            Body::Dir(_) => Err(Errno::ISDIR),
        }
    }
}

impl Tree {
    pub(super) fn new(size: u64) -> Self {
        let root = Node::new(Body::Dir(Entries::new()), 0o755);
        let nodes = HashMap::from([(ROOT, root)]);
        Self { nodes, next: ROOT + 1, faults: Vec::new(), removals: None, read_only: false, size, changes: 0 }
    }

    pub(super) fn add_node(&mut self, node: Node) -> u64 {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, node);
        ino
    }

    pub(super) fn node(&mut self, ino: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::NOENT)
    }

    fn entries(&mut self, ino: u64) -> Result<&mut Entries, Errno> {
        match &mut self.node(ino)?.body {
            Body::Dir(entries) => Ok(entries),
            Body::File(_) => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn lookup(&mut self, parent: u64, name: &str) -> Result<u64, Errno> {
        self.entries(parent)?.get(name).copied().ok_or(Errno::NOENT)
    }

    /// From the root, without a slash in front.
    fn path(&self, ino: u64) -> String {
        match self.nodes.get(&ino).and_then(|node| node.names.first()) {
            Some((parent, name)) => self.path_in(*parent, name),
            None => String::new(),
        }
    }

    pub(super) fn path_in(&self, parent: u64, name: &str) -> String {
        let parent = self.path(parent);
        if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
    }

    fn paths(&self, ino: u64) -> Vec<String> {
        let names = self.nodes.get(&ino).map(|node| node.names.clone()).unwrap_or_default();
        let paths: Vec<_> = names.iter().map(|(parent, name)| self.path_in(*parent, name)).collect();
        if paths.is_empty() { vec![String::new()] } else { paths }
    }

    /// Whether an operation on this file goes well; for a short write, how many bytes are taken.
    pub(super) fn admit(&mut self, op: Op, ino: u64) -> Result<Option<usize>, Errno> {
        let paths = self.paths(ino);
        self.admit_paths(op, &paths)
    }

    pub(super) fn admit_paths(&mut self, op: Op, paths: &[String]) -> Result<Option<usize>, Errno> {
        self.changes += u64::from(op.changes());
        let struck = self.faults.iter_mut().find_map(|fault| fault.strikes(op, paths));
        match struck {
            Some(How::Fails(errno)) => Err(errno),
            Some(How::Short(bytes)) if op == Op::Write => Ok(Some(bytes)),
            Some(How::Short(_)) | None if self.read_only && op.changes() => Err(Errno::ROFS),
            Some(How::Short(_)) | None => Ok(None),
        }
    }

    /// Where this removal has to wait, if it has to.
    pub(super) fn held_removal(&self, parent: u64, name: &str) -> Option<Gate> {
        let (place, gate) = self.removals.as_ref()?;
        self.path_in(parent, name).contains(place).then(|| gate.clone())
    }

    pub(super) fn used(&self) -> u64 {
        self.nodes.values().map(Node::blocks).sum::<u64>() * BLOCK
    }

    fn needs_room(&self, more: u64) -> Result<(), Errno> {
        if self.used() + more * BLOCK > self.size { Err(Errno::NOSPC) } else { Ok(()) }
    }

    pub(super) fn create(&mut self, parent: u64, name: &str, body: Body, mode: u16) -> Result<u64, Errno> {
        let op = if body.is_dir() { Op::MakeDir } else { Op::Create };
        self.admit_paths(op, &[self.path_in(parent, name)])?;
        if self.entries(parent)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.needs_room(1)?;
        let ino = self.add_node(Node::new(body, mode));
        self.name(ino, parent, name)?;
        Ok(ino)
    }

    /// Gives a node a name, in place of what has it.
    fn name(&mut self, ino: u64, parent: u64, name: &str) -> Result<(), Errno> {
        let before = self.entries(parent)?.insert(name.to_owned(), ino);
        self.node(ino)?.names.push((parent, name.to_owned()));
        if let Some(before) = before {
            self.lose_name(before, parent, name);
        }
        self.touch(parent);
        self.touch(ino);
        Ok(())
    }

    /// Gives a node a name that nothing has, without a fault.
    pub(super) fn adopt(&mut self, ino: u64, parent: u64, name: &str) {
        self.name(ino, parent, name).expect("a directory");
    }

    /// Everything is on the disk.
    pub(super) fn settle(&mut self) {
        for node in self.nodes.values_mut() {
            node.synced = node.body.clone();
        }
    }

    pub(super) fn link(&mut self, ino: u64, parent: u64, name: &str) -> Result<(), Errno> {
        self.admit_paths(Op::Link, &[self.path_in(parent, name)])?;
        if self.entries(parent)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.needs_room(0)?;
        self.name(ino, parent, name)
    }

    pub(super) fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Result<(), Errno> {
        self.admit_paths(Op::Rename, &[self.path_in(from.0, from.1), self.path_in(to.0, to.1)])?;
        let ino = self.lookup(from.0, from.1)?;
        // Two names of one file: nothing happens.
        if self.lookup(to.0, to.1) == Ok(ino) {
            return Ok(());
        }
        self.name(ino, to.0, to.1)?;
        self.entries(from.0)?.remove(from.1);
        self.lose_name(ino, from.0, from.1);
        self.touch(from.0);
        Ok(())
    }

    pub(super) fn remove(&mut self, parent: u64, name: &str, op: Op) -> Result<(), Errno> {
        self.admit_paths(op, &[self.path_in(parent, name)])?;
        let ino = self.lookup(parent, name)?;
        match &self.node(ino)?.body {
            Body::Dir(_) if op == Op::Remove => return Err(Errno::ISDIR),
            Body::Dir(entries) if !entries.is_empty() => return Err(Errno::NOTEMPTY),
            Body::File(_) if op == Op::RemoveDir => return Err(Errno::NOTDIR),
            Body::Dir(_) | Body::File(_) => {}
        }
        self.entries(parent)?.remove(name);
        self.lose_name(ino, parent, name);
        self.touch(parent);
        Ok(())
    }

    fn lose_name(&mut self, ino: u64, parent: u64, name: &str) {
        if let Ok(node) = self.node(ino) {
            let at = node.names.iter().position(|(dir, own)| *dir == parent && own == name);
            if let Some(at) = at {
                node.names.remove(at);
            }
        }
    }

    pub(super) fn open(&mut self, ino: u64) -> Result<(), Errno> {
        self.node(ino)?.opened += 1;
        Ok(())
    }

    /// Removes files without a name, but for those that a power cut may bring back.
    pub(super) fn close(&mut self, ino: u64) {
        if let Ok(node) = self.node(ino) {
            node.opened = node.opened.saturating_sub(1);
        }
        self.free_unnamed();
    }

    pub(super) fn free_unnamed(&mut self) {
        let named: Vec<u64> = self
            .nodes
            .values()
            .filter_map(|node| match &node.synced {
                Body::Dir(entries) => Some(entries.values().copied()),
                Body::File(_) => None,
            })
            .flatten()
            .collect();
        for (ino, node) in &mut self.nodes {
            if node.names.is_empty() && node.opened == 0 && *ino != ROOT {
                node.allocated = 0;
                node.body = node.body.emptied();
            }
        }
        self.nodes.retain(|ino, node| !node.names.is_empty() || node.opened > 0 || *ino == ROOT || named.contains(ino));
    }

    pub(super) fn write(&mut self, ino: u64, at: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let taken = self.admit(Op::Write, ino)?.unwrap_or(bytes.len()).min(bytes.len());
        let bytes = &bytes[..taken];
        let node = self.node(ino)?;
        let more = (at + bytes.len() as u64).div_ceil(BLOCK).saturating_sub(node.blocks());
        if more > 0 {
            self.needs_room(more)?;
        }
        self.node(ino)?.content()?.write(at, bytes);
        self.touch(ino);
        Ok(taken)
    }

    pub(super) fn set_len(&mut self, ino: u64, len: u64) -> Result<(), Errno> {
        self.admit(Op::Truncate, ino)?;
        let more = len.div_ceil(BLOCK).saturating_sub(self.node(ino)?.blocks());
        if more > 0 {
            self.needs_room(more)?;
        }
        let node = self.node(ino)?;
        node.allocated = 0;
        node.content()?.set_len(len);
        self.touch(ino);
        Ok(())
    }

    pub(super) fn allocate(&mut self, ino: u64, end: u64, keep_size: bool) -> Result<(), Errno> {
        self.admit(Op::Allocate, ino)?;
        let more = end.div_ceil(BLOCK).saturating_sub(self.node(ino)?.blocks());
        if more > 0 {
            self.needs_room(more)?;
        }
        let node = self.node(ino)?;
        node.allocated = node.allocated.max(end);
        if !keep_size && node.len() < end {
            node.content()?.set_len(end);
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, ino: u64, op: Op) -> Result<(), Errno> {
        self.admit(op, ino)?;
        let node = self.node(ino)?;
        node.synced = node.body.clone();
        Ok(())
    }

    fn touch(&mut self, ino: u64) {
        let changes = self.changes;
        if let Ok(node) = self.node(ino) {
            node.changed = changes;
        }
    }
}
