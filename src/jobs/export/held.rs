//! An image as it is held: what it consists of, and what of it is not here.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::cache::Cache;
use crate::cache::blocks::Blocked;
use crate::index::{IndexError, held_digests};
use crate::mirror::Placement;
use crate::oci::{Algorithm, Child, Digest, Inspected, MediaType, Platform, Role, Shape};
use crate::store::Verified;

/// Most manifests of one image: an index of all platforms, of which each may be an index.
const MAX_MANIFESTS: usize = 1000;
/// How deep indexes may list indexes.
const MAX_DEPTH: u8 = 4;
/// Digests that are named when some are not here.
const MAX_NAMED: usize = 5;

/// What stands for an empty config: clients have it without asking, and some ask all the same (image-spec, manifest.md).
pub const EMPTY: &[u8] = b"{}";

/// Its digest, if a manifest lists it.
pub fn empty_in(manifest: &[u8]) -> Option<Digest> {
    let digest = Digest::of(Algorithm::Sha256, EMPTY);
    let name = digest.hex();
    manifest.windows(name.len()).any(|window| window == name.as_bytes()).then_some(digest)
}

/// The platforms of an index that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedPlatforms {
    /// Those that are here whole, and at least one.
    Held,
    All,
    Only(Vec<Platform>),
}

/// Content by its digest, and its size in bytes.
pub type Sized = (Digest, u64);

/// An image of which everything that was wanted is here.
#[derive(Debug, Clone)]
pub struct HeldImage {
    pub root: Digest,
    pub media_type: MediaType,
    pub size_bytes: u64,
    /// The root first.
    pub manifests: Vec<Sized>,
    /// Configs and layers, in the order in which they are listed.
    pub blobs: Vec<Sized>,
    /// The config and the layers of the only image of it.
    pub single: Option<(Digest, Vec<Digest>)>,
}

/// Why an image cannot be carried.
#[derive(Debug, thiserror::Error)]
pub enum Lacking {
    #[error("it is not held")]
    NotHeld,
    #[error("its manifest {0} is not held")]
    Manifest(Digest),
    #[error("it is held for another repository, and was not proved for this one yet: {0}")]
    Unproven(String),
    #[error("{0}: {1}")]
    Blocked(Digest, Arc<Blocked>),
    #[error("not all of it is held; there is no {0}")]
    Blobs(String),
    #[error("none of its platforms is held whole; {0}")]
    NoPlatform(Box<Self>),
    #[error("it has no image for {0}")]
    NotForPlatform(String),
    #[error("the manifest {0} cannot be read as one")]
    NoManifest(Digest),
    #[error("it lists too many manifests, or manifests too deep in one another")]
    TooDeep,
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the disk does not give it: {0}")]
    Disk(#[from] std::io::Error),
}

impl WantedPlatforms {
    /// Reads `linux/amd64` and `all`. Nothing stands for those that are held.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        if texts.is_empty() {
            return Ok(Self::Held);
        }
        let read = |text: &String| text.parse().map_err(|err| format!("{}: {err}", crate::quote::quoted(text)));
        let only: Vec<Platform> = texts.iter().filter(|text| *text != "all").map(read).collect::<Result<_, _>>()?;
        Ok(if only.len() == texts.len() { Self::Only(only) } else { Self::All })
    }

    pub(in crate::jobs) fn contain(&self, platform: Option<&Platform>) -> bool {
        match self {
            Self::Held | Self::All => true,
            Self::Only(wanted) => platform.is_some_and(|platform| wanted.iter().any(|want| want.names(platform))),
        }
    }
}

/// The manifest that a repository may give, with its type.
pub async fn held_manifest(
    cache: &Cache,
    at: &Placement,
    digest: Digest,
) -> Result<Option<(MediaType, Bytes)>, Lacking> {
    let facts = cache.index.manifest(&at.scope, digest, at.whole_authority).await?;
    let (Some(grant), media_type) = (facts.grant, facts.media_type) else { return Ok(None) };
    let Some(media_type) = media_type.or(grant.media_type) else { return Ok(None) };
    match cache.store.read_verified(digest, at.max_manifest_bytes).await? {
        Verified::Right(bytes) => Ok(Some((media_type, bytes))),
        Verified::Wrong(_) | Verified::Missing | Verified::TooLarge => Ok(None),
    }
}

/// Looks an image up. Nothing of it counts as used.
pub async fn look_up(
    cache: &Cache,
    at: &Placement,
    root: Digest,
    wanted: &WantedPlatforms,
) -> Result<HeldImage, Lacking> {
    let (media_type, bytes) = held_manifest(cache, at, root).await?.ok_or(Lacking::NotHeld)?;
    let mut found = HeldImage {
        root,
        media_type,
        size_bytes: bytes.len() as u64,
        manifests: Vec::new(),
        blobs: Vec::new(),
        single: None,
    };
    let mut walk = Walk { cache, at, wanted, seen: HashSet::new(), images: Vec::new() };
    walk.add(root, &bytes, &mut found, 0).await?;
    if let [single] = walk.images.as_slice() {
        found.single = Some(single.clone());
    }
    Ok(found)
}

struct Walk<'a> {
    cache: &'a Cache,
    at: &'a Placement,
    wanted: &'a WantedPlatforms,
    seen: HashSet<Digest>,
    images: Vec<(Digest, Vec<Digest>)>,
}

impl Walk<'_> {
    async fn add(&mut self, digest: Digest, bytes: &Bytes, found: &mut HeldImage, depth: u8) -> Result<(), Lacking> {
        self.refuse_blocked(digest)?;
        if depth > MAX_DEPTH || found.manifests.len() >= MAX_MANIFESTS {
            return Err(Lacking::TooDeep);
        }
        let inspected =
            Inspected::read(bytes, None).or_else(|_untyped| Inspected::read(bytes, Some(&found.media_type)));
        let inspected = inspected.map_err(|_not_one| Lacking::NoManifest(digest))?;
        let (manifests, blobs): (Vec<&Child>, Vec<&Child>) =
            inspected.children.iter().partition(|child| child.role == Role::Manifest);
        self.add_blobs(&blobs, found).await?;
        if let Some(empty) = empty_in(bytes).filter(|empty| self.seen.insert(*empty)) {
            found.blobs.push((empty, EMPTY.len() as u64));
        }
        if inspected.shape == Shape::Image
            && let Some(config) = blobs.iter().find(|blob| blob.role == Role::Config)
        {
            let layers = blobs.iter().filter(|blob| blob.role == Role::Layer).map(|blob| blob.digest);
            self.images.push((config.digest, layers.collect()));
        }
        if self.seen.insert(digest) {
            found.manifests.push((digest, bytes.len() as u64));
        }
        self.add_manifests(&manifests, found, depth).await
    }

    fn refuse_blocked(&self, digest: Digest) -> Result<(), Lacking> {
        let blocked = self.cache.blocks.of_digest(&self.at.scope, digest);
        blocked.map_or(Ok(()), |blocked| Err(Lacking::Blocked(digest, blocked)))
    }

    async fn add_manifests(&mut self, listed: &[&Child], found: &mut HeldImage, depth: u8) -> Result<(), Lacking> {
        let mut lacking = None;
        let mut count = 0;
        for child in listed.iter().filter(|child| self.wanted.contain(child.platform.as_ref())) {
            if self.seen.contains(&child.digest) {
                count += 1;
                continue;
            }
            let before = (found.manifests.len(), found.blobs.len(), self.images.len());
            let added = match held_manifest(self.cache, self.at, child.digest).await {
                Ok(Some((_, bytes))) => Box::pin(self.add(child.digest, &bytes, found, depth + 1)).await,
                Ok(None) => Err(Lacking::Manifest(child.digest)),
                Err(error) => Err(error),
            };
            match added {
                Ok(()) => count += 1,
                Err(error @ (Lacking::Index(_) | Lacking::Disk(_) | Lacking::TooDeep)) => return Err(error),
                Err(error) if *self.wanted == WantedPlatforms::Held => {
                    for (digest, _) in found.manifests.drain(before.0..).chain(found.blobs.drain(before.1..)) {
                        self.seen.remove(&digest);
                    }
                    self.images.truncate(before.2);
                    lacking.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match (count, lacking, self.wanted) {
            (0, Some(error), _) => Err(Lacking::NoPlatform(Box::new(error))),
            (0, None, WantedPlatforms::Only(wanted)) if !listed.is_empty() => {
                let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
                Err(Lacking::NotForPlatform(wanted.join(", ")))
            }
            _ => Ok(()),
        }
    }

    async fn add_blobs(&mut self, listed: &[&Child], found: &mut HeldImage) -> Result<(), Lacking> {
        listed.iter().try_for_each(|child| self.refuse_blocked(child.digest))?;
        let digests = listed.iter().map(|child| child.digest).collect();
        let held = held_digests(&self.cache.index, &self.at.scope, digests, false, self.at.whole_authority).await?;
        let named = |lacking: Vec<Digest>| {
            let more = lacking.len().saturating_sub(MAX_NAMED);
            let mut text: Vec<String> = lacking.iter().take(MAX_NAMED).map(ToString::to_string).collect();
            text.extend((more > 0).then(|| format!("and {more} more")));
            text.join(", ")
        };
        let missing: Vec<Digest> = held.iter().filter(|held| !held.is_stored).map(|held| held.digest).collect();
        if !missing.is_empty() {
            return Err(Lacking::Blobs(named(missing)));
        }
        let unproven: Vec<Digest> = held.iter().filter(|held| !held.is_granted).map(|held| held.digest).collect();
        if !unproven.is_empty() {
            return Err(Lacking::Unproven(named(unproven)));
        }
        for child in listed {
            if self.seen.insert(child.digest) {
                found.blobs.push((child.digest, child.size_bytes));
            }
        }
        Ok(())
    }
}
