//! A blob: may this scope read it, is it stored, is it being filled, else fill it.

use std::sync::Arc;
use std::time::Duration;

use crate::index::{BlobRow, Change, Scope, Stamp};
use crate::oci::Digest;
use crate::store::BlobFile;
use crate::upstream::{Deadline, Failure};

use super::fill::{Fill, WITHHELD_BYTES};
use super::hot::{HotBlob, SMALL_BYTES};
use super::negative::Asked;
use super::outcome::{BlobAnswer, Outcome, Provenance, PullError};
use super::reader::{self, BlobSource, FillSource, UncachedSource};
use super::verify::TakenOut;
use super::{Member, Mirror, Place};

/// What is done about a blob that is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Download it.
    Get,
    /// Only tell whether it is there: HEAD never starts a fill.
    Head,
}

/// After a disk failed or was full, a digest is passed through for so long before storing is tried again.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(30);

impl Mirror {
    pub async fn blob(
        self: &Arc<Self>,
        place: &Place,
        digest: Digest,
        intent: Intent,
    ) -> Result<BlobAnswer, PullError> {
        let (member, scope) = self.enter(place)?;
        // The fill has a little less, so that its own words reach the client.
        let deadline = member.upstream.patience() + Duration::from_secs(1);
        // A fill that starts anew sends those who have nothing yet back here.
        for _try in 0..3 {
            match self.blob_once(&member, &scope, digest, intent, deadline).await {
                Err(PullError::Restarted) => {}
                Err(PullError::Uncacheable(why)) => {
                    let passing = self.uncached(&member, &scope, digest, intent, &why);
                    let late = |_elapsed| too_late(&member);
                    return tokio::time::timeout_at(deadline, passing).await.map_err(late)?;
                }
                Err(error) => {
                    if error.is_not_found() {
                        self.remember_missing(&member, &scope, Asked::Blob(digest));
                    }
                    return Err(error);
                }
                answer => return answer,
            }
        }
        Err(member.upstream.error_at(0, Failure::BadDigest).into())
    }

    async fn blob_once(
        self: &Arc<Self>,
        member: &Arc<Member>,
        scope: &Scope,
        digest: Digest,
        intent: Intent,
        deadline: Deadline,
    ) -> Result<BlobAnswer, PullError> {
        if let Some(held) = self.hot_blob(member, scope, digest) {
            let (source, size_bytes) = match held {
                HotBlob::Small(bytes) => (BlobSource::Memory(bytes.clone()), bytes.len() as u64),
                HotBlob::File(file, size_bytes) => (BlobSource::Stored(file), size_bytes),
            };
            return Ok(BlobAnswer { digest, size_bytes, source, provenance: Provenance::of(Outcome::Hit) });
        }
        let stamp = self.index.stamp_of_digest(scope, digest);
        let (row, grant) = self.index.blob(scope, digest, member.policy.public).await.unwrap_or_else(|err| {
            tracing::warn!(%err, %digest, "upstream is asked instead");
            (None, None)
        });
        let grant = self.unless_unused(member, digest, grant).await;
        // What cannot be read is passed through, if there is somewhere to get it from.
        if member.policy.offline && self.store.is_known_bad(digest) {
            return Err(member.not_found(true));
        }
        let unreadable = self.store.is_unreadable(digest) && !member.policy.offline;
        if unreadable {
            // Looked at again, or moved away, in a moment; nobody is cut twice until then.
            self.mend_soon();
            return Err(PullError::Uncacheable("the disk does not give the stored bytes".to_owned()));
        }
        let stored = match row {
            Some(row) => self.open_stored(digest, &row).await?.map(|file| (row, file)),
            None => None,
        };
        if let (Some(grant), Some((row, file))) = (&grant, &stored) {
            self.touch(member, scope, digest, grant);
            self.warm(scope, digest, row.size_bytes, file, stamp).await?;
            self.hot.keep_blob(scope, digest, row.size_bytes, grant.clone(), stamp);
            return Ok(stored_answer(digest, file.clone(), row.size_bytes, Outcome::Hit));
        }
        if member.policy.offline || (grant.is_none() && self.is_known_missing(scope, Asked::Blob(digest))) {
            return Err(member.not_found(true));
        }
        let is_stored = stored.is_some();
        if let Some((row, file)) = stored {
            match self.prove_blob(member, scope, digest, &row, &file).await {
                Ok(()) => return Ok(stored_answer(digest, file, row.size_bytes, Outcome::Revalidated)),
                // Upstream does not serve ranges: the whole blob is proof as well.
                Err(PullError::Upstream(error)) if error.failure == Failure::RangeNotThere => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(fill) = self.flights.running(&scope.authority, digest) {
            if grant.is_none() && !fill.is_granted(scope) {
                let told = member.upstream.probe_blob(&scope.repository, digest, member.upstream.patience()).await?;
                if told.is_none() || told != fill.size_bytes() {
                    // No proof. The bytes are, once they are stored: they can be compared then.
                    let mut follower = fill.follow();
                    drop(fill);
                    follower.ended(deadline).await;
                    return Err(PullError::Restarted);
                }
                fill.grant(scope.clone());
                self.grant_blob(member, scope, digest).await;
            }
            return follow(member, &fill, Outcome::Joined, deadline).await;
        }
        if intent == Intent::Head {
            let may_be_stored = self.index.stamp_of_digest(scope, digest) != stamp;
            if may_be_stored && !is_stored && self.is_stored(scope, digest).await {
                // A fill has ended since the look.
                return Err(PullError::Restarted);
            }
            return self.head_only(member, scope, digest).await;
        }
        if self.is_uncacheable(digest) {
            return Err(PullError::Uncacheable("the disk failed or was full a moment ago".to_owned()));
        }
        let new = || Fill::new(digest, scope.clone());
        let (fill, is_new) = self.flights.join_or_lead(&scope.authority, digest, new);
        if is_new {
            // An earlier fill that has ended since the look would have moved the stamp.
            let may_be_stored = !is_stored && self.index.stamp_of_digest(scope, digest) != stamp;
            let lead = Arc::clone(self).lead(Arc::clone(member), scope.clone(), Arc::clone(&fill), may_be_stored);
            self.tasks.spawn(lead);
            return follow(member, &fill, Outcome::Fill, deadline).await;
        }
        if grant.is_none() && !fill.is_granted(scope) {
            // Another scope's fill began since: ask again, as for any running one.
            return Err(PullError::Restarted);
        }
        follow(member, &fill, Outcome::Joined, deadline).await
    }

    /// Brings a stored blob into memory, or keeps its file open, for those who ask next. A small one that is damaged shows
    /// itself here, and is fetched again.
    async fn warm(
        &self,
        scope: &Scope,
        digest: Digest,
        size_bytes: u64,
        file: &BlobFile,
        stamp: Stamp,
    ) -> Result<(), PullError> {
        if size_bytes > SMALL_BYTES {
            self.keep_file(scope, digest, file, size_bytes, stamp);
            return Ok(());
        }
        if self.hot.content(digest).is_some() {
            return Ok(());
        }
        let length = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let Ok(bytes) = file.read(0, length).await else { return Ok(()) };
        if Digest::of(digest.algorithm(), &bytes) != digest {
            if let Ok(file_id) = file.file_id() {
                self.take_out(digest, file_id).await;
            }
            return Err(PullError::Restarted);
        }
        self.hot.keep_content(digest, bytes);
        Ok(())
    }

    /// The stored file. A row without a file is a miss, and goes; so does a file of another size than was proven.
    pub(super) async fn open_stored(&self, digest: Digest, row: &BlobRow) -> Result<Option<BlobFile>, PullError> {
        match self.store.open_blob(digest).await {
            Ok(Some((file, size_bytes))) if size_bytes == row.size_bytes => Ok(Some(file)),
            Ok(Some((file, size_bytes))) => {
                if let Ok(file_id) = file.file_id()
                    && matches!(self.take_out(digest, file_id).await, TakenOut::ComesAgain | TakenOut::Lost)
                {
                    self.store.count_missing(row.size_bytes.saturating_sub(size_bytes));
                }
                Ok(None)
            }
            Ok(None) => {
                self.forget_hot(digest);
                let _lost = self.index.apply(vec![Change::RemoveMissing { digest, row: row.clone() }]).await;
                // It may have been evicted in this moment, and counted there.
                self.reconcile().await;
                Ok(None)
            }
            Err(err) => {
                tracing::warn!(%digest, %err, "a stored blob cannot be opened; it is passed through from upstream");
                self.uncacheable.insert(digest, self.clock.now());
                Ok(None)
            }
        }
    }

    async fn head_only(&self, member: &Member, scope: &Scope, digest: Digest) -> Result<BlobAnswer, PullError> {
        let upstream = &member.upstream;
        let size = upstream.probe_blob(&scope.repository, digest, upstream.patience()).await?;
        let failure = || Failure::Refused("it does not tell the blob's size".to_owned());
        let size_bytes = size.ok_or_else(|| upstream.error_at(0, failure()))?;
        Ok(BlobAnswer { digest, size_bytes, source: BlobSource::Nothing, provenance: Provenance::of(Outcome::Fill) })
    }

    /// A full or failing disk never fails a pull: each request reads upstream for itself.
    async fn uncached(
        &self,
        member: &Arc<Member>,
        scope: &Scope,
        digest: Digest,
        intent: Intent,
        why: &str,
    ) -> Result<BlobAnswer, PullError> {
        if !member.upstream.trusts_any(digest) {
            return Err(member.upstream.error_at(0, Failure::BadDigest).into());
        }
        let answer = self.head_only(member, scope, digest).await?;
        if intent == Intent::Head {
            return Ok(answer);
        }
        tracing::warn!(authority = member.name(), %digest, why, "a blob is passed through without storing it");
        let counter = &self.metrics.uncached_streams;
        counter.get_or_create(&crate::metrics::ByAuthority::of(member.name())).inc();
        let source = Box::new(UncachedSource {
            member: Arc::clone(member),
            scope: scope.clone(),
            digest,
            size_bytes: answer.size_bytes,
            metrics: self.metrics.clone(),
        });
        let source = if answer.size_bytes <= WITHHELD_BYTES {
            BlobSource::Memory(reader::read_whole(source).await?)
        } else {
            BlobSource::Uncached(source)
        };
        Ok(BlobAnswer { source, ..answer })
    }

    fn is_uncacheable(&self, digest: Digest) -> bool {
        let since = self.uncacheable.get(&digest);
        since.is_some_and(|since| self.clock.now().since(since) < UNCACHEABLE_FOR)
    }
}

fn stored_answer(digest: Digest, file: BlobFile, size_bytes: u64, outcome: Outcome) -> BlobAnswer {
    BlobAnswer { digest, size_bytes, source: BlobSource::Stored(file), provenance: Provenance::of(outcome) }
}

/// Waits until the answer can begin, for as long as any other answer: the fill itself goes on.
async fn follow(
    member: &Member,
    running: &Fill,
    outcome: Outcome,
    deadline: Deadline,
) -> Result<BlobAnswer, PullError> {
    let mut follower = running.follow();
    let begun = follower.begun(deadline, member.upstream.settings().response_timeout).await?;
    let (size_bytes, file) = begun.ok_or_else(|| too_late(member))?;
    let source = BlobSource::Filling(FillSource { follower, file });
    Ok(BlobAnswer { digest: running.digest, size_bytes, source, provenance: Provenance::of(outcome) })
}

fn too_late(member: &Member) -> PullError {
    member.upstream.error_at(0, Failure::Timeout("a download may go on; ask again")).into()
}
