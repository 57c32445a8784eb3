//! What is asked for all the time, in memory: facts with the generations of their reading, small contents, open files.
//!
//! A fact is believed while its [`Generation`] stands; bytes were compared with their digest before they came here. A hit takes
//! nothing else: no index, no disk, no other thread. Everything is bounded, since clients choose what is asked for.

use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::quality::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, Weighter};

use crate::index::{Generation, GrantRow, Index, Scope, TagRow};
use crate::oci::{Digest, MediaType, Tag};
use crate::store::BlobFile;

use crate::mirror::manifest::Manifest;
use crate::mirror::{Mirror, Registry};

/// Blobs of up to so many bytes are kept in memory: image configurations, signatures, small layers.
pub(in crate::mirror) const SMALL_BYTES: u64 = 64 * 1024;
/// Bytes of manifests and small blobs.
const CONTENT_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of facts, of each kind.
const FACT_BYTES: u64 = 8 * 1024 * 1024;
/// Files of larger blobs. Each holds a descriptor, and the disk's space after its removal.
const OPEN_FILES: usize = 256;
/// What an entry costs besides what it points to. Bytes.
const ENTRY_BYTES: u64 = 256;
/// A fixed number, so that one content may always have an eighth of the room.
const SHARDS: usize = 8;

type Facts<K, V> = Cache<(Scope, K), V, Weight, RandomState>;

pub(in crate::mirror) struct Memory {
    manifests: Facts<Digest, ManifestFact>,
    blobs: Facts<Digest, BlobFact>,
    tags: Facts<Tag, TagFact>,
    contents: Cache<Digest, Bytes, Weight, RandomState>,
    files: Cache<Digest, CachedFile>,
}

#[derive(Clone)]
struct ManifestFact {
    grant: GrantRow,
    media_type: MediaType,
    generation: Generation,
}

#[derive(Clone)]
struct BlobFact {
    grant: GrantRow,
    size_bytes: u64,
    generation: Generation,
}

#[derive(Clone)]
struct TagFact {
    row: Arc<TagRow>,
    generation: Generation,
}

#[derive(Clone)]
struct CachedFile {
    file: BlobFile,
    size_bytes: u64,
    /// Of before it was opened: a file that took its place since is another.
    generation: Generation,
}

/// A stored blob at hand.
pub(in crate::mirror) enum MemoryBlob {
    Small(Bytes),
    File(BlobFile, u64),
}

impl CachedFile {
    fn is_behind(&self, fact: &BlobFact) -> bool {
        self.size_bytes == fact.size_bytes && self.generation.is_of_same_content(&fact.generation)
    }
}

#[derive(Clone)]
struct Weight;

impl<K, V> Weighter<(Scope, K), V> for Weight {
    fn weight(&self, (scope, _): &(Scope, K), _: &V) -> u64 {
        ENTRY_BYTES + scope.repository.as_str().len() as u64
    }
}

impl Weighter<Digest, Bytes> for Weight {
    fn weight(&self, _: &Digest, bytes: &Bytes) -> u64 {
        ENTRY_BYTES + bytes.len() as u64
    }
}

/// A key that need not be made to be looked up.
#[derive(Hash)]
struct In<'a, K>(&'a Scope, &'a K);

impl<K: Eq> Equivalent<(Scope, K)> for In<'_, K> {
    fn equivalent(&self, (scope, key): &(Scope, K)) -> bool {
        key == self.1 && scope == self.0
    }
}

fn cache<K: Hash + Eq, V: Clone>(bytes: u64, entry_bytes: u64) -> Cache<K, V, Weight, RandomState>
where
    Weight: Weighter<K, V>,
{
    let items = usize::try_from(bytes / entry_bytes).unwrap_or(usize::MAX);
    let options = OptionsBuilder::new().shards(SHARDS).estimated_items_capacity(items).weight_capacity(bytes).build();
    let options = options.expect("both capacities are given");
    Cache::with_options(options, Weight, RandomState::default(), DefaultLifecycle::default())
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            manifests: cache(FACT_BYTES, ENTRY_BYTES),
            blobs: cache(FACT_BYTES, ENTRY_BYTES),
            tags: cache(FACT_BYTES, ENTRY_BYTES),
            contents: cache(CONTENT_BYTES, 8 * 1024),
            files: Cache::new(OPEN_FILES),
        }
    }
}

impl Memory {
    /// Bytes that have this digest.
    pub(in crate::mirror) fn content(&self, digest: Digest) -> Option<Bytes> {
        self.contents.get(&digest)
    }

    pub(in crate::mirror) fn keep_content(&self, digest: Digest, bytes: Bytes) {
        self.contents.insert(digest, bytes);
    }

    pub(in crate::mirror) fn tag(&self, index: &Index, scope: &Scope, tag: &Tag) -> Option<Arc<TagRow>> {
        let fact = self.tags.get(&In(scope, tag))?;
        (fact.generation == index.generation_of_tag(scope, tag)).then_some(fact.row)
    }

    pub(in crate::mirror) fn keep_tag(&self, scope: &Scope, tag: &Tag, row: Arc<TagRow>, generation: Generation) {
        self.tags.insert((scope.clone(), tag.clone()), TagFact { row, generation });
    }

    pub(in crate::mirror) fn keep_manifest(
        &self,
        scope: &Scope,
        manifest: &Manifest,
        grant: GrantRow,
        generation: Generation,
    ) {
        let fact = ManifestFact { grant, media_type: manifest.media_type.clone(), generation };
        self.manifests.insert((scope.clone(), manifest.digest), fact);
    }

    pub(in crate::mirror) fn keep_blob(
        &self,
        scope: &Scope,
        digest: Digest,
        size_bytes: u64,
        grant: GrantRow,
        generation: Generation,
    ) {
        self.blobs.insert((scope.clone(), digest), BlobFact { grant, size_bytes, generation });
    }

    fn forget(&self, digest: Digest) {
        self.contents.remove(&digest);
        self.files.remove(&digest);
    }
}

impl Mirror {
    /// The bytes of this digest were removed, moved aside or found damaged: nothing of it is answered from memory, and its
    /// file is closed, so that the disk has its space back. Cheap; for any number of digests.
    pub fn forget_in_memory(&self, digest: Digest) {
        // In this order: what is kept between the two is outdated, or removed.
        self.index.bump(digest);
        self.memory.forget(digest);
    }

    /// A manifest that this scope may read and whose bytes are in memory.
    pub(in crate::mirror) fn manifest_in_memory(
        self: &Arc<Self>,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
    ) -> Option<Manifest> {
        let fact = self.memory.manifests.get(&In(scope, &digest))?;
        if fact.generation != self.index.generation_of_digest(scope, digest) || self.is_unused(registry, &fact.grant) {
            return None;
        }
        let bytes = self.memory.content(digest).filter(|bytes| registry.takes_manifest_of(bytes.len()))?;
        self.touch(registry, scope, digest, &fact.grant);
        Some(Manifest { digest, media_type: fact.media_type, bytes })
    }

    /// A stored blob that this scope may read and that is at hand.
    pub(in crate::mirror) fn blob_in_memory(
        self: &Arc<Self>,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
    ) -> Option<MemoryBlob> {
        let fact = self.memory.blobs.get(&In(scope, &digest))?;
        if fact.generation != self.index.generation_of_digest(scope, digest) || self.is_unused(registry, &fact.grant) {
            return None;
        }
        let held = if fact.size_bytes <= SMALL_BYTES {
            MemoryBlob::Small(self.memory.content(digest)?)
        } else {
            let open = self.memory.files.get(&digest).filter(|open| open.is_behind(&fact))?;
            if self.store.is_unreadable(digest) {
                return None;
            }
            MemoryBlob::File(open.file, open.size_bytes)
        };
        self.touch(registry, scope, digest, &fact.grant);
        Some(held)
    }

    /// Keeps an open file for the next who asks, unless the blob went away since `generation` was taken.
    pub(in crate::mirror) fn keep_file(
        &self,
        scope: &Scope,
        digest: Digest,
        file: &BlobFile,
        size_bytes: u64,
        generation: Generation,
    ) {
        if self.index.generation_of_digest(scope, digest) != generation {
            return;
        }
        self.memory.files.insert(digest, CachedFile { file: file.clone(), size_bytes, generation });
        // Whoever forgets it outdates first and removes second: between the two it would be held for nobody.
        if self.index.generation_of_digest(scope, digest) != generation {
            self.memory.files.remove(&digest);
        }
    }
}
