//! The blobs that may go first, read from the heads of the order: the cost does not grow with the number of blobs.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use redb::ReadTransaction;

use super::{Access, Class, DEPTH, PINNED_BYTES, ReadChildren as _, evicting, seconds};
use crate::clock::Timestamp;
use crate::file_blocks::in_blocks;
use crate::index::schema::{CHILDREN, LAST, ORDER, PINNED, RECENCY, SUMS};
use crate::index::sums::stored::by_registry;
use crate::index::{Index, IndexError};
use crate::oci::Digest;

/// A blob that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub digest: Digest,
    pub size_bytes: u64,
    /// The authority that it can come from again.
    pub authority: String,
}

/// The question.
#[derive(Debug, Clone)]
pub struct Search {
    pub now: Timestamp,
    /// Only what can come again from one of these.
    pub authorities: Vec<String>,
    /// Later uses than the order knows: those of the last minutes.
    pub used_lately: Arc<HashMap<Digest, Timestamp>>,
    /// Only what was last used before.
    pub unused_since: Option<Timestamp>,
    /// Blobs that must stay for now.
    pub except: HashSet<Digest>,
    /// Enough is enough.
    pub bytes: u64,
    pub blobs: usize,
}

impl Class {
    /// How many times longer than content used once it stays unused before it goes: measured, see docs/eviction.md.
    const fn weight(self) -> u64 {
        match self {
            Self::Probation => 1,
            Self::Protected => 16,
            Self::Manifest => 64,
        }
    }
}

/// The head of one class of one authority; the greatest goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    /// Idle time by the class's patience. Milliseconds, so that small differences count.
    score: u64,
    /// The tie-break.
    digest: String,
    size_bytes: u64,
    class: u8,
    nth: usize,
    /// Its latest use is counted.
    is_exact: bool,
}

impl Index {
    /// The blobs that may go, the first to go first, until there are enough.
    pub async fn candidates(&self, search: Search) -> Result<Vec<Candidate>, IndexError> {
        self.read(move |from| candidates(from, &search)).await
    }

    /// Uses with those of what the used manifests list; at most `limit`.
    pub async fn with_listed(&self, uses: Vec<Access>, limit: usize) -> Result<Vec<Access>, IndexError> {
        self.read(move |from| {
            let (listed, recency) = (from.open_table(CHILDREN)?, from.open_table(RECENCY)?);
            let (mut all, mut begin) = (uses, 0);
            for _level in 0..DEPTH {
                let end = all.len();
                for nth in begin..end {
                    let Some(Access { digest, at }) = all.get(nth).copied() else { break };
                    let name = digest.to_string();
                    // What is not stored, or is a blob, lists nothing.
                    let class = recency.get(name.as_str())?.map(|row| row.value().1);
                    if class != Some(Class::Manifest.number()) {
                        continue;
                    }
                    let children = listed.children(&name)?;
                    let room = limit.saturating_sub(all.len());
                    all.extend(children.into_iter().take(room).map(|digest| Access { digest, at }));
                }
                begin = end;
            }
            Ok(all)
        })
        .await
    }

    /// When anything that may go was last used; `None` where there is nothing.
    pub async fn latest_access(&self) -> Result<Option<Timestamp>, IndexError> {
        self.read(|from| {
            let authorities = by_registry(&from.open_table(SUMS)?)?;
            let table = from.open_table(ORDER)?;
            let mut latest = None;
            for (authority, _) in &authorities {
                for class in Class::ALL {
                    let (of, class) = (authority.as_str(), class.number());
                    if let Some(last) = table.range((of, class, 0, "")..=(of, class, u64::MAX, LAST))?.next_back() {
                        latest = latest.max(Some(last?.0.value().2));
                    }
                }
            }
            Ok(latest.map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000))))
        })
        .await
    }

    /// Bytes that pins keep.
    pub async fn pinned_bytes(&self) -> Result<u64, IndexError> {
        self.read(|from| Ok(from.open_table(SUMS)?.get(PINNED_BYTES)?.map_or(0, |sum| sum.value()))).await
    }

    pub async fn is_pinned(&self, digest: Digest) -> Result<bool, IndexError> {
        self.read(move |from| Ok(from.open_table(PINNED)?.get(digest.to_string().as_str())?.is_some())).await
    }

    /// Blobs that an earlier process was evicting when it ended.
    pub async fn evicting(&self) -> Result<Vec<Digest>, IndexError> {
        self.read(evicting).await
    }
}

fn candidates(from: &ReadTransaction, search: &Search) -> Result<Vec<Candidate>, IndexError> {
    let now = search.now.as_millis();
    let before = search.unused_since.map(seconds);
    let table = from.open_table(ORDER)?;
    let mut ranges = Vec::new();
    for authority in &search.authorities {
        for class in Class::ALL {
            let authority_of = authority.as_str();
            let (first, last) = ((authority_of, class.number(), 0, ""), (authority_of, class.number(), u64::MAX, LAST));
            ranges.push((class, table.range(first..=last)?));
        }
    }
    let mut heads = BinaryHeap::new();
    let mut advance = |heads: &mut BinaryHeap<Head>, nth: usize| -> Result<(), IndexError> {
        let Some((class, range)) = ranges.get_mut(nth) else { return Ok(()) };
        let Some(entry) = range.next() else { return Ok(()) };
        let (key, size) = entry?;
        let (_, _, used, digest) = key.value();
        if before.is_none_or(|before| used < before) {
            let (digest, size_bytes, class) = (digest.to_owned(), size.value(), class.number());
            let score = score(now, used.saturating_mul(1000), class);
            heads.push(Head { score, digest, size_bytes, class, nth, is_exact: false });
        }
        Ok(())
    };
    for nth in 0..search.authorities.len() * Class::ALL.len() {
        advance(&mut heads, nth)?;
    }
    let (mut found, mut bytes) = (Vec::new(), 0_u64);
    while found.len() < search.blobs && bytes < search.bytes {
        let Some(head) = heads.pop() else { break };
        let digest: Digest = head.digest.parse().map_err(|_not_a_digest| IndexError::BadRow)?;
        if !head.is_exact {
            advance(&mut heads, head.nth)?;
            if let Some(used) = search.used_lately.get(&digest) {
                // Into its later place: no use makes anything go sooner.
                let score = score(now, used.as_millis(), head.class).min(head.score);
                if search.unused_since.is_none_or(|since| *used < since) {
                    heads.push(Head { score, is_exact: true, ..head });
                }
                continue;
            }
        }
        let authority = search.authorities.get(head.nth / Class::ALL.len()).cloned().unwrap_or_default();
        if !search.except.contains(&digest) {
            bytes += in_blocks(head.size_bytes);
            found.push(Candidate { digest, size_bytes: head.size_bytes, authority });
        }
    }
    Ok(found)
}

/// Idle time by the class's patience. Milliseconds.
fn score(now: u64, used: u64, class: u8) -> u64 {
    now.saturating_sub(used) / Class::of(class).weight()
}
