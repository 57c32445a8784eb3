//! Faults, and when they strike.

use rustix::io::Errno;

/// Kinds of operations, as the file system sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Open,
    Read,
    ReadDir,
    Create,
    MakeDir,
    Write,
    /// Setting a length.
    Truncate,
    /// Setting space aside.
    Allocate,
    Sync,
    SyncDir,
    Link,
    Rename,
    /// On a file.
    Remove,
    RemoveDir,
}

impl Op {
    pub(crate) const ALL: [Self; 14] = [
        Self::Open,
        Self::Read,
        Self::ReadDir,
        Self::Create,
        Self::MakeDir,
        Self::Write,
        Self::Truncate,
        Self::Allocate,
        Self::Sync,
        Self::SyncDir,
        Self::Link,
        Self::Rename,
        Self::Remove,
        Self::RemoveDir,
    ];

    /// Those that change what is on the disk.
    pub(crate) fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::ReadDir)
    }
}

/// One thing that goes wrong, once unless told otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    ops: Vec<Op>,
    path: String,
    skip: u64,
    times: u64,
    how: How,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Fails(Errno),
    /// A write takes so many bytes, and no more.
    Short(usize),
}

impl Fault {
    pub(crate) fn on(op: Op) -> Self {
        Self { ops: vec![op], path: String::new(), skip: 0, times: 1, how: How::Fails(Errno::IO) }
    }

    /// On every kind that changes something.
    pub(crate) fn on_changes() -> Self {
        Self { ops: Op::ALL.into_iter().filter(|op| op.changes()).collect(), ..Self::on(Op::Write) }
    }

    pub(crate) fn on_any() -> Self {
        Self { ops: Op::ALL.to_vec(), ..Self::on(Op::Write) }
    }

    /// Only where the path, from the disk's root, holds this text.
    pub(crate) fn at(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// So many go well before.
    pub(crate) fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// So many times.
    pub(crate) fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// From then on.
    pub(crate) fn always(self) -> Self {
        Self { times: u64::MAX, ..self }
    }

    pub(crate) fn with(self, errno: Errno) -> Self {
        Self { how: How::Fails(errno), ..self }
    }

    /// Writes take so many bytes and say so.
    pub(crate) fn short(self, bytes: usize) -> Self {
        Self { how: How::Short(bytes), ..self }
    }

    pub(super) fn is_over(&self) -> bool {
        self.times == 0
    }

    /// Counts the operation; what happens to it, if anything.
    pub(super) fn strikes(&mut self, op: Op, paths: &[String]) -> Option<How> {
        let meant = self.ops.contains(&op) && paths.iter().any(|path| path.contains(&self.path));
        if !meant || self.times == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.how)
    }
}
