//! The memory tier: facts with the generation they were read at, small contents, open files.
//!
//! A fact is believed while its [`Generation`] stands. Bytes were compared with their digest before they came here. A hit
//! needs no index, no disk and no other thread. Every part is bounded, since clients choose what is asked for.

use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::quality::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, Weighter};

use crate::index::{Generation, GrantRow, Index, Scope, TagRow};
use crate::oci::{Digest, Inspected, MediaType, Shape, Tag};
use crate::store::{BlobFile, Store};

/// Blobs of up to so many bytes are kept in memory: image configurations, signatures, small layers.
pub const SMALL_BYTES: u64 = 64 * 1024;
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

/// Facts, contents and open files that are asked for often.
pub struct Memory {
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
    /// Read before the file was opened: a file that took its place since is another.
    generation: Generation,
}

/// A manifest whose bytes were compared with its digest.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
}

impl Manifest {
    /// Only an image manifest needs its blobs to be of use.
    pub fn shape(&self) -> Shape {
        Inspected::read(&self.bytes, Some(&self.media_type)).map_or(Shape::Other, |inspected| inspected.shape)
    }
}

/// A stored blob that is in memory, or whose file is open.
pub enum MemoryBlob {
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
    pub fn content(&self, digest: Digest) -> Option<Bytes> {
        self.contents.get(&digest)
    }

    pub fn keep_content(&self, digest: Digest, bytes: Bytes) {
        self.contents.insert(digest, bytes);
    }

    pub fn tag(&self, index: &Index, scope: &Scope, tag: &Tag) -> Option<Arc<TagRow>> {
        let fact = self.tags.get(&In(scope, tag))?;
        (fact.generation == index.generation_of_tag(scope, tag)).then_some(fact.row)
    }

    pub fn keep_tag(&self, scope: &Scope, tag: &Tag, row: Arc<TagRow>, generation: Generation) {
        self.tags.insert((scope.clone(), tag.clone()), TagFact { row, generation });
    }

    /// The grant of a manifest in this scope, and the manifest, if its bytes are in memory.
    pub fn manifest(&self, index: &Index, scope: &Scope, digest: Digest) -> Option<(GrantRow, Manifest)> {
        let ManifestFact { grant, media_type, generation } = self.manifests.get(&In(scope, &digest))?;
        if generation != index.generation_of_digest(scope, digest) {
            return None;
        }
        let bytes = self.content(digest)?;
        Some((grant, Manifest { digest, media_type, bytes }))
    }

    pub fn keep_manifest(&self, scope: &Scope, manifest: &Manifest, grant: GrantRow, generation: Generation) {
        let fact = ManifestFact { grant, media_type: manifest.media_type.clone(), generation };
        self.manifests.insert((scope.clone(), manifest.digest), fact);
    }

    /// The grant of a stored blob in this scope, and the blob, if it is in memory or its file is open.
    pub fn blob(&self, index: &Index, store: &Store, scope: &Scope, digest: Digest) -> Option<(GrantRow, MemoryBlob)> {
        let fact = self.blobs.get(&In(scope, &digest))?;
        if fact.generation != index.generation_of_digest(scope, digest) {
            return None;
        }
        if fact.size_bytes <= SMALL_BYTES {
            return Some((fact.grant, MemoryBlob::Small(self.content(digest)?)));
        }
        let open = self.files.get(&digest).filter(|open| open.is_behind(&fact))?;
        let is_readable = !store.is_unreadable(digest);
        is_readable.then(|| (fact.grant, MemoryBlob::File(open.file, open.size_bytes)))
    }

    pub fn keep_blob(&self, scope: &Scope, digest: Digest, size_bytes: u64, grant: GrantRow, generation: Generation) {
        self.blobs.insert((scope.clone(), digest), BlobFact { grant, size_bytes, generation });
    }

    /// Keeps an open file, unless the blob went away since `generation` was read.
    pub fn keep_file(
        &self,
        index: &Index,
        scope: &Scope,
        digest: Digest,
        (file, size_bytes): (&BlobFile, u64),
        generation: Generation,
    ) {
        if index.generation_of_digest(scope, digest) != generation {
            return;
        }
        self.files.insert(digest, CachedFile { file: file.clone(), size_bytes, generation });
        // A removal bumps the generation first and drops the file second: between the two it would stay open for nobody.
        if index.generation_of_digest(scope, digest) != generation {
            self.files.remove(&digest);
        }
    }

    /// Whether an open file of this blob is kept here.
    pub(super) fn keeps_file(&self, digest: Digest) -> bool {
        self.files.peek(&digest).is_some()
    }

    pub(super) fn forget(&self, digest: Digest) {
        self.contents.remove(&digest);
        self.files.remove(&digest);
    }
}
