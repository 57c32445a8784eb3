//! Stored blobs in the order in which they may go: an LRU list for each class and authority.
//!
//! A stored blob has one row in [`RECENCY`] and, unless it is pinned, one in [`ORDER`], whose head is read when space is
//! needed. Rows, order and sums change in one place, [`EvictionOrder::place`], and with the blob's own row in one
//! transaction.

mod candidates;
mod pinned;

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable as _, Table, WriteTransaction};

use crate::clock::Timestamp;
use crate::file_blocks::in_blocks;
use crate::index::IndexError;
use crate::index::schema::{CHILDREN, EVICTING, IN_BLOCKS, LAST, ORDER, PINNED, RECENCY, SUMS};
use crate::oci::{Authority, Digest};

pub use candidates::{Candidate, Search};
pub(super) use pinned::{mark, reach};

/// Bytes, in whole blocks, by the authority they can come from again. Its name follows, and is empty if none is known.
pub(super) const STORED_BY: &str = "stored_bytes/";
pub(super) const PINNED_BYTES: &str = "pinned_bytes";

/// A use is noted if the last one is older. Seconds.
const GRAIN: u64 = 300;
/// An index lists manifests, which list layers.
const DEPTH: u8 = 2;
/// Most that one manifest is taken to reach: an index of a hundred platforms with a hundred layers each.
pub(super) const MAX_REACHED: usize = 10_000;

/// The class of content in the order (see docs/eviction.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Used when it was fetched, and not since.
    Probation,
    /// Used again later.
    Protected,
    /// A manifest: tiny, and the key to the rest.
    Manifest,
}

impl Class {
    pub(super) const ALL: [Self; 3] = [Self::Probation, Self::Protected, Self::Manifest];

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Probation => 0,
            Self::Protected => 1,
            Self::Manifest => 2,
        }
    }

    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Probation,
            1 => Self::Protected,
            _ => Self::Manifest,
        }
    }

    const fn after_access(self) -> Self {
        match self {
            Self::Probation | Self::Protected => Self::Protected,
            Self::Manifest => Self::Manifest,
        }
    }
}

/// One use of a blob or manifest, off the path of the request that used it.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    pub digest: Digest,
    pub at: Timestamp,
}

/// A blob's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OrderEntry {
    authority: String,
    class: Class,
    /// Seconds.
    used: u64,
    size_bytes: u64,
}

/// The tables that change together.
pub(super) struct EvictionOrder<'t> {
    recency: Table<'t, &'static str, (&'static str, u8, u64, u64)>,
    queue: Table<'t, (&'static str, u8, u64, &'static str), u64>,
    pinned: Table<'t, &'static str, u64>,
    sums: Table<'t, &'static str, u64>,
}

pub(super) const fn seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1000
}

impl<'t> EvictionOrder<'t> {
    pub(super) fn open(to: &'t WriteTransaction) -> Result<Self, IndexError> {
        Ok(Self {
            recency: to.open_table(RECENCY)?,
            queue: to.open_table(ORDER)?,
            pinned: to.open_table(PINNED)?,
            sums: to.open_table(SUMS)?,
        })
    }

    fn of(&self, name: &str) -> Result<Option<OrderEntry>, IndexError> {
        let row = self.recency.get(name)?;
        Ok(row.map(|row| {
            let (authority, class, used, size_bytes) = row.value();
            OrderEntry { authority: authority.to_owned(), class: Class::of(class), used, size_bytes }
        }))
    }

    pub(super) fn pinned_at(&self, name: &str) -> Result<Option<u64>, IndexError> {
        Ok(self.pinned.get(name)?.map(|at| at.value()))
    }

    /// Moves, adds or, with `None`, removes a blob: its row, its place in the order, and the sums.
    fn place(&mut self, name: &str, next: Option<&OrderEntry>) -> Result<(), IndexError> {
        let pinned = self.pinned_at(name)?.is_some();
        if let Some(old) = self.of(name)? {
            self.queue.remove((old.authority.as_str(), old.class.number(), old.used, name))?;
            self.add(&format!("{STORED_BY}{}", old.authority), 0, in_blocks(old.size_bytes))?;
            if pinned {
                self.add(PINNED_BYTES, 0, in_blocks(old.size_bytes))?;
            }
        }
        let Some(next) = next else {
            self.recency.remove(name)?;
            return Ok(());
        };
        let (authority, class) = (next.authority.as_str(), next.class.number());
        self.recency.insert(name, (authority, class, next.used, next.size_bytes))?;
        self.add(&format!("{STORED_BY}{authority}"), in_blocks(next.size_bytes), 0)?;
        if pinned {
            self.add(PINNED_BYTES, in_blocks(next.size_bytes), 0)
        } else {
            self.queue.insert((authority, class, next.used, name), next.size_bytes)?;
            Ok(())
        }
    }

    fn add(&mut self, sum: &str, plus: u64, minus: u64) -> Result<(), IndexError> {
        let now = self.sums.get(sum)?.map_or(0, |sum| sum.value());
        match now.saturating_add(plus).saturating_sub(minus) {
            0 => self.sums.remove(sum)?,
            next => self.sums.insert(sum, next)?,
        };
        Ok(())
    }

    /// A blob was stored, or stored again.
    pub(super) fn put(
        &mut self,
        name: &str,
        origin: Option<&Authority>,
        stored: Timestamp,
        size_bytes: u64,
    ) -> Result<(), IndexError> {
        let old = self.of(name)?;
        let known = old.as_ref().map(|old| old.authority.clone());
        let next = OrderEntry {
            authority: origin.map(ToString::to_string).or(known).unwrap_or_default(),
            class: old.as_ref().map_or(Class::Probation, |old| old.class),
            used: seconds(stored).max(old.map_or(0, |old| old.used)),
            size_bytes,
        };
        self.place(name, Some(&next))
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), IndexError> {
        self.place(name, None)
    }

    /// An authority has shown that it has the bytes. If none was known to, they may go now and come again from there.
    pub(super) fn obtainable(&mut self, name: &str, authority: &str) -> Result<(), IndexError> {
        match self.of(name)? {
            Some(old) if old.authority.is_empty() => {
                self.place(name, Some(&OrderEntry { authority: authority.to_owned(), ..old }))
            }
            _ => Ok(()),
        }
    }

    /// A blob that lists others is a manifest. Its client will need them: they count as used.
    pub(super) fn is_manifest(
        &mut self,
        name: &str,
        children: &[Digest],
        listed: &impl ReadChildren,
    ) -> Result<(), IndexError> {
        let Some(old) = self.of(name)? else { return Ok(()) };
        let used = old.used;
        self.place(name, Some(&OrderEntry { class: Class::Manifest, ..old }))?;
        let mut left = MAX_REACHED;
        for child in children {
            let child = child.to_string();
            let may_list = self.note(&child, used)?;
            left = left.saturating_sub(1);
            let below = if may_list && left > 0 { listed.children(&child)? } else { Vec::new() };
            for child in below.iter().take(left) {
                self.note(&child.to_string(), used)?;
            }
            left = left.saturating_sub(below.len());
        }
        Ok(())
    }

    /// Notes a use of it. `false` if the last one is young, or it lists nothing: long lists are costly to look for.
    fn note(&mut self, name: &str, at: u64) -> Result<bool, IndexError> {
        let Some(old) = self.of(name)?.filter(|old| at >= old.used.saturating_add(GRAIN)) else { return Ok(false) };
        let may_list = old.class == Class::Manifest;
        self.place(name, Some(&OrderEntry { class: old.class.after_access(), used: at, ..old }))?;
        Ok(may_list)
    }

    /// Takes it out of the order, or marks it anew. `false` if it had been marked at that time or later already.
    pub(super) fn pin(&mut self, name: &str, at: u64) -> Result<bool, IndexError> {
        let before = self.pinned.insert(name, at)?.map(|before| before.value());
        match before {
            Some(before) if before >= at => {
                self.pinned.insert(name, before)?;
                Ok(false)
            }
            Some(_) => Ok(true),
            None => {
                if let Some(place) = self.of(name)? {
                    self.queue.remove((place.authority.as_str(), place.class.number(), place.used, name))?;
                    self.add(PINNED_BYTES, in_blocks(place.size_bytes), 0)?;
                }
                Ok(true)
            }
        }
    }

    /// Puts it back into the order if nothing has pinned it since.
    pub(super) fn unpin(&mut self, name: &str, before: u64) -> Result<(), IndexError> {
        if self.pinned_at(name)?.is_none_or(|at| at >= before) {
            return Ok(());
        }
        self.pinned.remove(name)?;
        if let Some(place) = self.of(name)? {
            self.add(PINNED_BYTES, 0, in_blocks(place.size_bytes))?;
            self.queue.insert((place.authority.as_str(), place.class.number(), place.used, name), place.size_bytes)?;
        }
        Ok(())
    }
}

/// Makes the sums anew, in whole blocks, if an earlier release has counted bytes.
pub(super) fn count_in_blocks(to: &WriteTransaction) -> Result<(), IndexError> {
    let mut order = EvictionOrder::open(to)?;
    let last = format!("{STORED_BY}{LAST}");
    order.sums.retain_in(STORED_BY..=last.as_str(), |_, _| false)?;
    order.sums.remove(PINNED_BYTES)?;
    let (mut stored, mut pinned): (BTreeMap<String, u64>, u64) = Default::default();
    for entry in order.recency.iter()? {
        let (name, row) = entry?;
        let (authority, _, _, size_bytes) = row.value();
        *stored.entry(format!("{STORED_BY}{authority}")).or_default() += in_blocks(size_bytes);
        if order.pinned.get(name.value())?.is_some() {
            pinned += in_blocks(size_bytes);
        }
    }
    order.add(PINNED_BYTES, pinned, 0)?;
    stored.iter().try_for_each(|(sum, bytes)| order.add(sum, *bytes, 0))?;
    order.add(IN_BLOCKS, 1, 0)
}

/// The lists of manifests.
pub(super) trait ReadChildren {
    fn children(&self, name: &str) -> Result<Vec<Digest>, IndexError>;
}

impl<T: redb::ReadableTable<&'static str, &'static [u8]>> ReadChildren for T {
    fn children(&self, name: &str) -> Result<Vec<Digest>, IndexError> {
        let Some(row) = self.get(name)? else { return Ok(Vec::new()) };
        serde_json::from_slice(row.value()).map_err(|_not_the_row| IndexError::BadRow)
    }
}

/// Notes uses. Those of what a manifest lists are among them: see [`reached_by`].
pub(super) fn note(to: &WriteTransaction, uses: &[Access]) -> Result<(), IndexError> {
    let mut order = EvictionOrder::open(to)?;
    for Access { digest, at } in uses {
        order.note(&digest.to_string(), seconds(*at))?;
    }
    Ok(())
}

/// A use with those of all that it lists, where the last one is not young. They are many, and written in steps.
pub(super) fn reached_by(from: &ReadTransaction, used: Access) -> Result<Vec<Access>, IndexError> {
    let (listed, recency) = (from.open_table(CHILDREN)?, from.open_table(RECENCY)?);
    let (mut reached, mut left) = (Vec::new(), vec![(used.digest, DEPTH)]);
    while let Some((digest, depth)) = left.pop().filter(|_| reached.len() < MAX_REACHED) {
        let name = digest.to_string();
        let before = recency.get(name.as_str())?.map(|row| (row.value().1, row.value().2));
        if before.is_some_and(|(_, before)| seconds(used.at) < before.saturating_add(GRAIN)) {
            continue;
        }
        reached.push(Access { digest, at: used.at });
        // What is not stored, or is a blob, lists nothing.
        let may_list = before.is_some_and(|(class, _)| Class::of(class) == Class::Manifest);
        if may_list && depth > 0 {
            left.extend(listed.children(&name)?.into_iter().map(|child| (child, depth - 1)));
        }
    }
    Ok(reached)
}

/// Their files are about to be removed.
pub(super) fn mark_evicting(to: &WriteTransaction, digests: &[Digest]) -> Result<(), IndexError> {
    let mut evicting = to.open_table(EVICTING)?;
    for digest in digests {
        evicting.insert(digest.to_string().as_str(), ())?;
    }
    Ok(())
}

/// Those of them that were still marked.
pub(super) fn unmark_evicting(to: &WriteTransaction, digests: &[Digest]) -> Result<Vec<Digest>, IndexError> {
    let mut evicting = to.open_table(EVICTING)?;
    let mut marked = Vec::new();
    for digest in digests {
        if evicting.remove(digest.to_string().as_str())?.is_some() {
            marked.push(*digest);
        }
    }
    Ok(marked)
}

/// Blobs that an earlier process was removing when it ended.
pub(super) fn evicting(from: &ReadTransaction) -> Result<Vec<Digest>, IndexError> {
    let mut digests = Vec::new();
    for entry in from.open_table(EVICTING)?.iter()? {
        digests.push(entry?.0.value().parse().map_err(|_not_a_digest| IndexError::BadRow)?);
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Health;
    use crate::index::{BlobRow, Change, Index, NoteAccesses, PutBlob, PutChildren};
    use crate::oci::Algorithm;

    #[tokio::test]
    async fn t52_a_use_reaches_a_bounded_number_and_not_what_was_used_a_moment_ago() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::open(root.path(), Health::default(), Timestamp::default(), &|_| Ok(())).unwrap().0;
        let digest = |nth: usize| Digest::of(Algorithm::Sha256, &nth.to_le_bytes());
        let row = BlobRow { size_bytes: 1, origin: None, stored: Timestamp::default() };
        let list = |nth: usize, children: std::ops::Range<usize>| {
            Change::from(PutChildren { manifest: digest(nth), children: children.map(digest).collect() })
        };
        let stored = |nth| Change::from(PutBlob { digest: digest(nth), row: row.clone() });
        let mut facts = vec![stored(0), list(0, 1..11)];
        facts.extend((1..11).flat_map(|nth| [stored(nth), list(nth, nth * 2000..(nth + 1) * 2000)]));
        index.apply(facts).await.unwrap();
        let used = |seconds: u64| Access { digest: digest(0), at: Timestamp::from_millis(seconds * 1000) };
        let reached = index.reached_by(used(3600)).await.unwrap();
        assert_eq!(reached.len(), MAX_REACHED);
        index.apply(vec![NoteAccesses(reached).into()]).await.unwrap();
        assert!(index.reached_by(used(3601)).await.unwrap().is_empty());
        index.close().await;
    }
}
