//! What blocks reach: the layers that only blocked images use.
//!
//! What a blocked manifest lists is blocked with it, unless an image that is not blocked uses it too. An image is not blocked
//! if a tag that no block names points to it, or if something lists it that is not blocked, or if nothing leads to it from
//! what is blocked. Each question reads all manifests and tags once, and is asked only when blocks change.

use std::collections::{HashMap, HashSet};

use redb::ReadTransaction;

use crate::index::eviction_order::{MAX_REACHED, ReadChildren as _};
use crate::index::facts::{self, BlockRow, GrantRow, TagRow};
use crate::index::schema::{self, CHILDREN, MANIFEST_GRANTS, TAGS};
use crate::index::{Index, IndexError, Scope};
use crate::oci::{BlockPattern, BlockedNames, Digest, PinPattern};

/// What one block reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockReach {
    /// At most [`MAX_REACHED`].
    pub reaches: Vec<Digest>,
    /// What images that are not blocked use of these.
    pub shared: Vec<Digest>,
}

/// All blocks, in the order of their texts.
pub async fn blocks(index: &Index) -> Result<Vec<(BlockPattern, BlockRow)>, IndexError> {
    index
        .read(|from| {
            let mut found = Vec::new();
            facts::each_block(from, |block, row| {
                found.push((block, row));
                Ok(())
            })?;
            Ok(found)
        })
        .await
}

/// What each of these blocks reaches, if there are no others. `known` is what it reached before.
pub async fn block_reach(
    index: &Index,
    blocks: Vec<(BlockPattern, Vec<Digest>)>,
) -> Result<Vec<BlockReach>, IndexError> {
    index
        .read(move |from| {
            let work = Blocking { from, blocks: &blocks };
            let tags = work.tags()?;
            let mut reached = Vec::new();
            for (nth, (block, known)) in blocks.iter().enumerate() {
                reached.push(work.reach(block, known, tags.named.get(&nth).map_or(&[], Vec::as_slice))?);
            }
            let all: HashSet<Digest> = reached.iter().flatten().copied().chain(work.contents()).collect();
            let shared = work.shared(&all, &tags.free)?;
            Ok(reached
                .into_iter()
                .map(|reaches| {
                    let shared = reaches.iter().copied().filter(|digest| shared.contains(digest)).collect();
                    BlockReach { reaches, shared }
                })
                .collect())
        })
        .await
}

struct Blocking<'a> {
    from: &'a ReadTransaction,
    blocks: &'a [(BlockPattern, Vec<Digest>)],
}

#[derive(Default)]
struct Tagged {
    /// The number of a block → what the tags that it names point to.
    named: HashMap<usize, Vec<Digest>>,
    /// What tags point to that no block names.
    free: HashSet<Digest>,
}

impl Blocking<'_> {
    /// Digests that are blocked themselves.
    fn contents(&self) -> impl Iterator<Item = Digest> {
        self.blocks.iter().filter_map(|(block, _)| match block.names {
            BlockedNames::Content(digest) => Some(digest),
            BlockedNames::Images(_) => None,
        })
    }

    fn images(&self) -> impl Iterator<Item = (usize, &PinPattern)> {
        self.blocks.iter().enumerate().filter_map(|(nth, (block, _))| match &block.names {
            BlockedNames::Content(_) => None,
            BlockedNames::Images(pattern) => Some((nth, pattern)),
        })
    }

    fn tags(&self) -> Result<Tagged, IndexError> {
        let mut tagged = Tagged::default();
        schema::each_scoped(self.from, TAGS, |scope, _, tag, row: TagRow| {
            let Some(digest) = row.digest else { return Ok(()) };
            let mut is_free = true;
            for (nth, pattern) in self.images() {
                if pattern.matches(&scope.authority, &scope.repository, Some(tag)) {
                    is_free = false;
                    if pattern.is_of_tags() {
                        tagged.named.entry(nth).or_default().push(digest);
                    }
                }
            }
            if is_free {
                tagged.free.insert(digest);
            }
            Ok(())
        })?;
        Ok(tagged)
    }

    fn reach(&self, block: &BlockPattern, known: &[Digest], named: &[Digest]) -> Result<Vec<Digest>, IndexError> {
        let listed = self.from.open_table(CHILDREN)?;
        let own = match block.names {
            BlockedNames::Content(digest) => Some(digest),
            BlockedNames::Images(_) => None,
        };
        let (mut seen, mut reached, mut nth) = (HashSet::new(), Vec::new(), 0);
        let roots = own.iter().chain(named).chain(known).copied();
        reached.extend(roots.filter(|digest| seen.insert(*digest)));
        while let Some(next) = reached.get(nth).filter(|_| reached.len() <= MAX_REACHED) {
            let children = listed.children(&next.to_string())?;
            reached.extend(children.into_iter().filter(|child| seen.insert(*child)));
            nth += 1;
        }
        reached.retain(|digest| Some(*digest) != own);
        reached.truncate(MAX_REACHED);
        Ok(reached)
    }

    /// What images that are not blocked use of all that is reached.
    fn shared(&self, all: &HashSet<Digest>, free: &HashSet<Digest>) -> Result<HashSet<Digest>, IndexError> {
        let listed = self.from.open_table(CHILDREN)?;
        let (contents, by_place) = (self.contents().collect::<HashSet<_>>(), self.blocked_by_place()?);
        let may_share = |digest: &Digest| all.contains(digest) && !contents.contains(digest);
        let mut shared: HashSet<Digest> = free.iter().copied().filter(may_share).collect();
        schema::each_of(&listed, |manifest, children: Vec<Digest>| {
            if !all.contains(&manifest) && !by_place.contains(&manifest) {
                shared.extend(children.into_iter().filter(may_share));
            }
            Ok(())
        })?;
        let mut left: Vec<Digest> = shared.iter().copied().collect();
        while let Some(digest) = left.pop() {
            let children = listed.children(&digest.to_string())?;
            left.extend(children.into_iter().filter(may_share).filter(|child| shared.insert(*child)));
        }
        Ok(shared)
    }

    /// Manifests that may be read in blocked repositories only.
    fn blocked_by_place(&self) -> Result<HashSet<Digest>, IndexError> {
        let wholes: Vec<&PinPattern> =
            self.images().map(|(_, pattern)| pattern).filter(|pattern| !pattern.is_of_tags()).collect();
        let (mut blocked, mut free) = (HashSet::new(), HashSet::new());
        if wholes.is_empty() {
            return Ok(blocked);
        }
        let is_blocked = |scope: &Scope| wholes.iter().any(|whole| whole.is_in(&scope.authority, &scope.repository));
        schema::each_scoped(self.from, MANIFEST_GRANTS, |scope, whole_authority, digest, row: GrantRow| {
            let Ok(digest) = digest.parse::<Digest>() else { return Ok(()) };
            let places = match (whole_authority, row.repositories) {
                (false, _) => vec![scope.repository.clone()],
                (true, repositories) => repositories.unwrap_or_default(),
            };
            let of = |repository| Scope { repository, ..scope.clone() };
            let is_free = places.is_empty() || places.into_iter().any(|repository| !is_blocked(&of(repository)));
            if is_free {
                free.insert(digest)
            } else {
                blocked.insert(digest)
            };
            Ok(())
        })?;
        blocked.retain(|digest| !free.contains(digest));
        Ok(blocked)
    }
}
