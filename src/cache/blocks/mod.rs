//! Blocks: what may not be pulled, by order of an operator, whoever asks and wherever it is held.
//!
//! A digest is blocked in all repositories, and with it what only blocked images use. A glob blocks what is asked for under
//! the names that it matches. Blocks are facts; what they reach is worked out when one is made or taken back
//! ([`crate::index::block_reach`]), and gets less when an image that is not blocked turns out to use it
//! ([`Blocks::release`]). While there are none, a look is one load of a flag.

mod table;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Semaphore;

use crate::clock::Timestamp;
use crate::index::{self, BlockRow, Change, Index, IndexError, PutBlock, RemoveBlock, Scope};
use crate::oci::{BlockPattern, Digest, Tag};

pub use table::Blocked;
use table::Table;

/// Most blocks, and most digests that all of them reach together.
pub const MAX_BLOCKS: usize = 10_000;
const MAX_REACHED: usize = 200_000;

/// All blocks of this mirror.
pub struct Blocks {
    is_any: AtomicBool,
    /// How many times they have changed.
    version: AtomicU64,
    table: RwLock<Arc<Table>>,
    /// One change at a time.
    changes: Semaphore,
}

/// Why blocks were not changed.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(
        "there may be {MAX_BLOCKS} blocks, and {MAX_REACHED} digests that they reach; a glob takes less than many digests"
    )]
    TooMany,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            is_any: AtomicBool::new(false),
            version: AtomicU64::new(0),
            table: RwLock::default(),
            changes: Semaphore::new(1),
        }
    }
}

impl Blocks {
    /// `None` if nothing is blocked.
    fn table(&self) -> Option<Arc<Table>> {
        // A look that just misses a change is as one that came before it.
        self.is_any
            .load(Ordering::Relaxed)
            .then(|| Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn show(&self, blocks: Vec<(BlockPattern, BlockRow)>) {
        let table = Table::new(blocks);
        let is_any = !table.is_empty();
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.is_any.store(is_any, Ordering::Release);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Reads all blocks, before anything is served.
    pub(super) async fn load(&self, index: &Index) -> Result<(), IndexError> {
        let blocks = index::blocks(index).await?;
        if !blocks.is_empty() {
            self.show(blocks);
        }
        Ok(())
    }

    /// All blocks, in the order of their texts.
    pub async fn list(&self, index: &Index) -> Result<Vec<(BlockPattern, BlockRow)>, IndexError> {
        index::blocks(index).await
    }

    /// Blocks durably, all of these or none. One that is there gets the new reason. They are in force when it returns.
    pub async fn add(
        &self,
        index: &Index,
        new: Vec<BlockPattern>,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<(), BlockError> {
        // Nobody closes it.
        let _turn = self.changes.acquire().await;
        let before = index::blocks(index).await?;
        let mut after = before.clone();
        for block in new {
            let row = BlockRow { reason: reason.clone(), at: now, ..BlockRow::default() };
            match after.iter_mut().find(|(known, _)| *known == block) {
                Some((_, known)) => known.reason.clone_from(&row.reason),
                None => after.push((block, row)),
            }
        }
        self.change(index, &before, after, Vec::new()).await
    }

    /// Takes blocks back durably.
    pub async fn remove(&self, index: &Index, blocks: Vec<BlockPattern>) -> Result<(), BlockError> {
        let _turn = self.changes.acquire().await;
        let before = index::blocks(index).await?;
        let after = before.iter().filter(|(known, _)| !blocks.contains(known)).cloned().collect();
        let removals = blocks.into_iter().map(|block| RemoveBlock { block }.into()).collect();
        self.change(index, &before, after, removals).await
    }

    async fn change(
        &self,
        index: &Index,
        before: &[(BlockPattern, BlockRow)],
        mut after: Vec<(BlockPattern, BlockRow)>,
        mut changes: Vec<Change>,
    ) -> Result<(), BlockError> {
        if after.len() > MAX_BLOCKS {
            return Err(BlockError::TooMany);
        }
        let asked = after.iter().map(|(block, row)| (block.clone(), row.reaches.clone())).collect();
        let reached = index::block_reach(index, asked).await?;
        for ((_, row), reach) in after.iter_mut().zip(reached) {
            (row.reaches, row.shared) = (reach.reaches, reach.shared);
        }
        if after.iter().map(|(_, row)| row.reaches.len()).sum::<usize>() > MAX_REACHED {
            return Err(BlockError::TooMany);
        }
        changes.extend(put(before, &after));
        if !changes.is_empty() {
            index.apply_durably(changes).await?;
        }
        self.show(after);
        Ok(())
    }

    /// An image that is not blocked uses these: they are blocked by what names them only.
    pub async fn release(&self, index: &Index, used: &[Digest]) -> Result<(), IndexError> {
        let reaches = |table: Arc<Table>| used.iter().any(|digest| table.reaches(*digest));
        if !self.table().is_some_and(reaches) {
            return Ok(());
        }
        let _turn = self.changes.acquire().await;
        let before = index::blocks(index).await?;
        let (mut after, used) = (before.clone(), used.iter().copied().collect::<HashSet<_>>());
        for (_, row) in &mut after {
            let known: HashSet<Digest> = row.shared.iter().copied().collect();
            row.shared.extend(row.reaches.iter().filter(|digest| used.contains(digest) && !known.contains(digest)));
        }
        let changes: Vec<Change> = put(&before, &after).collect();
        // It is in force even if it cannot be written: what is pulled now must be whole.
        self.show(after);
        if changes.is_empty() { Ok(()) } else { index.apply(changes).await }
    }

    /// Whether a repository may not be asked for anything.
    pub fn of_repository(&self, scope: &Scope) -> Option<Arc<Blocked>> {
        self.table()?.repository(scope)
    }

    /// Whether a tag may not be pulled, by its name.
    pub fn of_tag(&self, scope: &Scope, tag: &Tag) -> Option<Arc<Blocked>> {
        self.table()?.tag(scope, tag)
    }

    /// Whether a manifest or a blob may not be read in this scope.
    pub fn of_digest(&self, scope: &Scope, digest: Digest) -> Option<Arc<Blocked>> {
        self.table()?.digest(scope, digest)
    }

    /// Whether a manifest or a blob may not be read in any scope.
    pub fn of_content(&self, digest: Digest) -> Option<Arc<Blocked>> {
        self.table()?.content(digest)
    }
}

fn put<'a>(
    before: &'a [(BlockPattern, BlockRow)],
    after: &'a [(BlockPattern, BlockRow)],
) -> impl Iterator<Item = Change> + 'a {
    let known: std::collections::HashMap<&str, &BlockRow> =
        before.iter().map(|(block, row)| (block.as_str(), row)).collect();
    let changed = after.iter().filter(move |(block, row)| known.get(block.as_str()) != Some(&row));
    changed.map(|(block, row)| PutBlock { block: block.clone(), row: row.clone() }.into())
}

/// Watches for a block of a body that is being sent.
#[derive(Clone)]
pub struct BlockWatch {
    blocks: Arc<Blocks>,
    scope: Scope,
    digest: Digest,
    /// The changes that were looked at.
    seen: u64,
}

impl BlockWatch {
    pub const fn new(blocks: Arc<Blocks>, scope: Scope, digest: Digest) -> Self {
        Self { blocks, scope, digest, seen: 0 }
    }

    /// The block that the body has to end for. While blocks do not change, it costs one load.
    pub fn blocked(&mut self) -> Option<Arc<Blocked>> {
        let version = self.blocks.version.load(Ordering::Relaxed);
        if version == self.seen {
            return None;
        }
        let blocked = self.blocks.of_digest(&self.scope, self.digest);
        if blocked.is_none() {
            self.seen = version;
        }
        blocked
    }
}
