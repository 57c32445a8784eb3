//! Blocks as they are looked up: by repository, tag and digest.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::index::{BlockRow, Scope};
use crate::oci::{BlockPattern, BlockedNames, Digest, PinPattern, Tag};

/// Why something may not be pulled: what a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    pub block: BlockPattern,
    pub reason: Option<String>,
    /// The block names it; else only blocked images use it.
    pub is_named: bool,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_named { "it is blocked here" } else { "only images that are blocked here use it" })?;
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// All blocks.
#[derive(Default)]
pub(super) struct Table {
    contents: HashMap<Digest, Arc<Blocked>>,
    images: Vec<Images>,
}

/// A block of images by their names. What it reaches is refused under these names only.
struct Images {
    pattern: PinPattern,
    named: Arc<Blocked>,
    used: Arc<Blocked>,
    reach: HashSet<Digest>,
}

impl Table {
    pub(super) fn new(blocks: Vec<(BlockPattern, BlockRow)>) -> Self {
        let (mut contents, mut used_only, mut images) = (HashMap::new(), Vec::new(), Vec::new());
        for (block, BlockRow { reason, reaches, shared, .. }) in blocks {
            let named = Arc::new(Blocked { block: block.clone(), reason: reason.clone(), is_named: true });
            let used = Arc::new(Blocked { block: block.clone(), reason, is_named: false });
            let shared: HashSet<Digest> = shared.into_iter().collect();
            let reach = reaches.into_iter().filter(|digest| !shared.contains(digest));
            match block.names {
                BlockedNames::Content(digest) => {
                    contents.insert(digest, named);
                    used_only.extend(reach.map(|digest| (digest, Arc::clone(&used))));
                }
                BlockedNames::Images(pattern) => images.push(Images { pattern, named, used, reach: reach.collect() }),
            }
        }
        for (digest, used) in used_only {
            contents.entry(digest).or_insert(used);
        }
        Self { contents, images }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.images.is_empty()
    }

    pub(super) fn content(&self, digest: Digest) -> Option<Arc<Blocked>> {
        self.contents.get(&digest).cloned()
    }

    pub(super) fn repository(&self, scope: &Scope) -> Option<Arc<Blocked>> {
        let is_blocked = |images: &&Images| images.pattern.matches(&scope.authority, &scope.repository, None);
        self.images.iter().find(is_blocked).map(|images| Arc::clone(&images.named))
    }

    pub(super) fn tag(&self, scope: &Scope, tag: &Tag) -> Option<Arc<Blocked>> {
        let is_blocked =
            |images: &&Images| images.pattern.matches(&scope.authority, &scope.repository, Some(tag.as_str()));
        self.images.iter().find(is_blocked).map(|images| Arc::clone(&images.named))
    }

    /// A manifest or a blob that is asked for in this scope.
    pub(super) fn digest(&self, scope: &Scope, digest: Digest) -> Option<Arc<Blocked>> {
        let by_tag = |images: &&Images| {
            images.reach.contains(&digest) && images.pattern.is_in(&scope.authority, &scope.repository)
        };
        self.content(digest)
            .or_else(|| self.repository(scope))
            .or_else(|| self.images.iter().find(by_tag).map(|images| Arc::clone(&images.used)))
    }

    /// Whether a block reaches this and does not name it.
    pub(super) fn reaches(&self, digest: Digest) -> bool {
        self.contents.get(&digest).is_some_and(|blocked| !blocked.is_named)
            || self.images.iter().any(|images| images.reach.contains(&digest))
    }
}
