//! A blob that has its name, until the index has it, too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::faults::{FaultKind, Faults};
use super::super::layout::Shards;
use super::super::open_files::PartialName;
use super::super::{layout, off_runtime};
use super::name_lock::NameLock;

/// The blob is on disk under its digest, synced. The partial name goes when the index knows the blob.
#[derive(Debug)]
pub struct Committed {
    pub size_bytes: u64,
    pub(super) _partial_name: PartialName,
    pub(super) partial: PathBuf,
    pub(super) faults: Arc<Faults>,
    pub(super) _name_lock: Arc<NameLock>,
}

impl Committed {
    /// Gives up the partial name, which stays until the index has the blob.
    pub fn wait_for_index(self) -> PendingRecord {
        PendingRecord { partial: self.partial, faults: self.faults }
    }

    /// Removes the partial name. To be called when the index has the blob durably: until then the name tells a later
    /// start that there is a blob to record.
    pub async fn unlink_partial(self) -> io::Result<()> {
        let partial = self.partial.clone();
        let removed = off_runtime(move || {
            layout::remove_if_there(&layout::sidecar(&partial))?;
            layout::remove_if_there(&partial)
        })
        .await;
        removed.inspect_err(|_| self.faults.add(FaultKind::Orphan, self.partial.as_path()))
    }
}

/// A stored blob of which it is not known that the index has it durably.
#[derive(Debug)]
pub struct PendingRecord {
    partial: PathBuf,
    faults: Arc<Faults>,
}

impl PendingRecord {
    /// The index has it durably: [`crate::store::Store::tidy`] removes the partial name.
    pub fn durable(self) {
        self.faults.add(FaultKind::Orphan, self.partial.as_path());
    }
}

/// A blob could not be given its name for good.
pub(super) struct NotLinked {
    pub(super) err: io::Error,
    /// It has the name all the same.
    pub(super) has_name: bool,
}

impl From<io::Error> for NotLinked {
    fn from(err: io::Error) -> Self {
        Self { err, has_name: false }
    }
}

/// Gives the blob its name, also where another file has it. Those bytes may have rotted, these were just hashed.
pub(super) fn link_into_place(partial: &Path, blob: &Path, shards: &Shards) -> Result<(), NotLinked> {
    let shard = blob.parent().ok_or_else(|| io::Error::other("a blob's path has a parent"))?;
    shards.ensure(shard)?;
    let has_replaced = match std::fs::hard_link(partial, blob) {
        Ok(()) => false,
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            // Renamed over in one step; a crash before it leaves an orphan that the next start removes.
            let second = partial.with_extension("link");
            layout::remove_if_there(&second)?;
            std::fs::hard_link(partial, &second)?;
            std::fs::rename(&second, blob)?;
            true
        }
        Err(err) => return Err(err.into()),
    };
    if let Err(err) = layout::sync_dir(shard) {
        // Nobody will record it: it must not stay, uncounted. One that was there may be known.
        let has_name = has_replaced || layout::remove_if_there(blob).is_err();
        return Err(NotLinked { err, has_name });
    }
    Ok(())
}
