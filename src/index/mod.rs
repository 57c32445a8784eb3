//! Facts: which blobs are stored, the manifests that tags point to, and the scopes that may read them.
//!
//! Reads run off the async runtime. Changes go through one writer, which makes them visible at once and durable within
//! half a second: losing one costs a request, never a byte. A change that must not be lost waits for the sync of the log.
//!
//! Facts outlive the database: a journal of them is kept beside the blobs ([`log`]), in a form that any release reads,
//! and a database that is lost or damaged is made anew from it and from the names of the blobs ([`open`]).

mod database;
mod eviction_order;
mod facts;
mod generation;
mod log;
mod open;
mod outage;
mod pins;
mod reads;
mod revocations;
mod schema;
mod sums;
mod view;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

pub use eviction_order::{Access, Candidate, Class, Search};
pub use facts::{
    ALL_TAGS, AliasTarget, BeginEviction, BlobRow, BlockRow, Change, Derived, DropAllGrants, DropExpired, DropGrants,
    DropLists, DropPublicGrants, DropReferrers, DropRows, EndEviction, Fact, GrantBlob, GrantManifest, GrantRow,
    HistoryEntry, ListRow, MarkPinned, NoteAccesses, NoteObtainable, NotePulls, PinTag, Pull, PutAlias, PutBlob,
    PutBlock, PutChildren, PutList, PutManifestType, PutPin, PutReferrer, PutTag, PutUnrecoverable, ReferrerRow,
    RemoveBlock, RemoveGrants, RemoveMissing, RemovePin, RemoveRepository, RemoveTag, StampList, StampTag, TagRow,
    Unmark, UnpinTag, Unrecoverable, UseGrant,
};
pub use generation::Generation;
pub use log::backup::{RestoreError, Restored, back_up, count_backup, restore};
pub use open::{Opened, Walk};
pub use pins::{PinRoot, PinRoots};
pub use reads::{
    AuthorityUsage, BlockReach, ContentFacts, Counts, HeldDigest, ImageFacts, Leaving, LeavingContent, ManifestFacts,
    PullQuestion, RepositoryUsage, Sums, TagFacts, Usage, aliases, aliases_in, block_reach, blocks, content,
    digests_beginning, drop_rows, gone_referrers, held_digests, images, is_named, leaving, measure_rows, nearly_whole,
    pulls, stored_blobs, tags_behind, tags_pointing_to, ungranted, usage,
};
pub use schema::{Aging, OwnedKey};
pub use sums::rows::{RowOwner, RowSum, RowSums};
pub use sums::stored::StoredBytes;

use crate::clock::Timestamp;
use crate::oci::{Authority, Digest, PinPattern, Repository, Tag};
use crate::shared_bytes::{Crowded, SharedBytes};

use view::View;
use writer::Writer;

/// The repository that a client asked for, and the credentials it is asked with upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// 0 is the mirror's own credentials.
    #[serde(default, skip_serializing_if = "is_default")]
    pub domain: u32,
    pub authority: Authority,
    pub repository: Repository,
}

pub struct Index {
    view: Arc<View>,
    writer: Writer,
    contents: SharedBytes<Digest>,
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("the index cannot be read or written: {0}")]
    Database(Box<redb::Error>),
    #[error("the index holds a row that cannot be read")]
    BadRow,
    #[error("the facts beside the blobs cannot be read or written: {0}")]
    Log(io::Error),
    #[error("{path} was written by a newer release (form {version}): go on with that one, or move the file away")]
    Newer { path: PathBuf, version: u32 },
    #[error("the index is being opened anew after its disk failed")]
    Unavailable,
    #[error(transparent)]
    Crowded(#[from] Crowded),
    #[error("the index is closed")]
    Closed,
}

impl<E: Into<redb::Error>> From<E> for IndexError {
    fn from(err: E) -> Self {
        Self::Database(Box::new(err.into()))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl IndexError {
    /// Whether the file itself is wrong, and not the way to it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else the engine finds wrong is in the file")]
    fn is_damage(&self) -> bool {
        match self {
            Self::BadRow => true,
            Self::Closed | Self::Unavailable | Self::Crowded(_) | Self::Log(_) | Self::Newer { .. } => false,
            Self::Database(err) => match &**err {
                redb::Error::Io(err) => matches!(
                    err.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
                ),
                redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch | redb::Error::PreviousIo => false,
                _ => true,
            },
        }
    }

    /// Whether the engine answers nothing any more until its file is opened anew.
    fn is_latched(&self) -> bool {
        matches!(self, Self::Database(err) if matches!(**err, redb::Error::Io(_) | redb::Error::PreviousIo))
    }
}

/// Bytes of all long lists and manifests that memory and answers hold.
const CONTENT_BYTES: usize = 256 * 1024 * 1024;

impl Index {
    /// Long lists, and other contents that answers hold, by their digest.
    pub const fn contents(&self) -> &SharedBytes<Digest> {
        &self.contents
    }

    /// Makes changes together, and visible to every read that starts later.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        self.writer.apply(changes, writer::Until::Visible).await
    }

    /// The same, and waits until they would survive a power cut.
    pub async fn apply_durably(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        self.writer.apply(changes, writer::Until::DurableNow).await
    }

    /// Tells what is stored now, and from here on every change, in order. To be called before there are others who write.
    pub async fn on_stored(&self, tell: impl Fn(&StoredBytes) + Send + Sync + 'static) -> Result<(), IndexError> {
        let by_registry = self.read(|from| sums::stored::by_registry(&from.open_table(schema::SUMS)?)).await?;
        tell(&StoredBytes { by_registry, ..StoredBytes::default() });
        // A second one is not heard.
        let _is_first = self.view.on_stored.set(Box::new(tell));
        Ok(())
    }

    /// Bounds what the rows of each upstream take. To be called before there are others who write.
    pub fn bound_rows(&self, owner_of: impl Fn(&Authority) -> Option<RowOwner> + Send + Sync + 'static) {
        self.view.rows.bound(Box::new(owner_of));
    }

    /// What the rows of an upstream take, about. Bytes.
    pub fn row_bytes(&self, upstream: &str) -> u64 {
        self.view.rows.of(upstream)
    }

    /// Resolves when an upstream has more rows than its bound.
    pub async fn rows_crowded(&self) {
        self.view.rows.crowded.notified().await;
    }

    /// Makes durable what the log does not keep, too.
    pub async fn checkpoint(&self) -> Result<(), IndexError> {
        self.writer.apply(Vec::new(), writer::Until::Checkpoint).await
    }

    /// Upstream no longer lets us in: from here on nothing may be read in this scope without asking, nor these digests where
    /// one grant had opened them to the whole authority, even while that cannot be written down. Returns when a crash would
    /// not bring the grants back.
    pub async fn revoke(&self, scope: &Scope, public: Vec<Digest>) -> Result<(), IndexError> {
        let mut changes = vec![Change::from(DropGrants { scope: scope.clone() })];
        if !public.is_empty() {
            changes.push(DropPublicGrants { scope: scope.clone(), digests: public }.into());
        }
        self.view.revocations.begin(changes.iter().flat_map(Change::revocations));
        // Facts that were read before are outdated, and later reads are refused.
        for change in &changes {
            change.bump(&self.view.generations);
        }
        // A database that fails is read as its last checkpoint left it.
        self.writer.apply(changes, writer::Until::Checkpoint).await
    }

    /// Whether what was visible and not durable is gone, and not all of it is back.
    pub fn is_behind(&self) -> bool {
        self.view.is_behind.load(Ordering::Acquire)
    }

    /// How many times the index has lost what is not in its journal, as marks of pins are: those of the last half second
    /// before it failed.
    pub fn reopened(&self) -> u64 {
        self.view.reopened.load(Ordering::Acquire)
    }

    /// Resolves when it works again after it has lost something.
    pub async fn healed(&self) {
        self.view.healed.notified().await;
    }

    /// Waits until all that is visible now has become durable by itself.
    pub async fn durable(&self) -> Result<(), IndexError> {
        self.writer.apply(Vec::new(), writer::Until::DurableSoon).await
    }

    /// The generation of the facts about a digest in one scope: its grants, its type, its record. Take it before reading
    /// them; they stand as long as it does.
    pub fn generation_of_digest(&self, scope: &Scope, digest: Digest) -> Generation {
        self.view.generations.of_digest(scope, digest)
    }

    /// The same of what a tag points to.
    pub fn generation_of_tag(&self, scope: &Scope, tag: &Tag) -> Generation {
        self.view.generations.of_tag(scope, tag)
    }

    /// Outdates the facts in memory about this digest, in any scope.
    pub fn bump(&self, digest: Digest) {
        self.view.generations.bump_digest(digest);
    }

    /// Writes down what is pending and stops the writer.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    /// Pins made by command.
    pub async fn pins(&self) -> Result<Vec<PinPattern>, IndexError> {
        self.read(pins::pins).await
    }

    /// Up to `limit` things that a pin may name, behind `after`, and where to go on; `None` at the end.
    pub async fn pin_roots(
        &self,
        of: PinRoots,
        after: Option<OwnedKey>,
        limit: usize,
    ) -> Result<(Vec<PinRoot>, Option<OwnedKey>), IndexError> {
        self.read(move |from| pins::pin_roots(from, of, after, limit)).await
    }

    /// Up to `limit` marks behind `after` that are older than `before`, and where to go on.
    pub async fn stale_marks(
        &self,
        after: Option<String>,
        before: Timestamp,
        limit: usize,
    ) -> Result<(Vec<Digest>, Option<String>), IndexError> {
        self.read(move |from| pins::stale_marks(from, after, before, limit)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let view = Arc::clone(&self.view);
        let done = tokio::task::spawn_blocking(move || {
            let read = view.database.begin_read().and_then(|transaction| work(&transaction));
            if read.as_ref().is_err_and(IndexError::is_latched) {
                view.database.suspected.notify_one();
            }
            read
        });
        done.await.unwrap_or(Err(IndexError::Closed))
    }
}
