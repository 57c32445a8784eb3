//! Long contents that answers hold: each once in memory, however many answers have it, and all of them within a limit, of
//! which one owner takes no more than a part.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// Contents of up to so many bytes are short: they are neither shared nor counted, and are read without waiting for a turn
/// or for room.
pub const SHORT: usize = 64 * 1024;

/// The contents that somebody holds, by a key that says what they are. Clones are the same.
pub struct SharedBytes<K: Eq + Hash>(Arc<Shared<K>>);

struct Shared<K: Eq + Hash> {
    held: Mutex<Held<K>>,
    limit_bytes: usize,
}

struct Held<K: Eq + Hash> {
    contents: HashMap<K, Weak<Content<K>>>,
    bytes: usize,
    /// By owner: who had a content made that is there.
    of: HashMap<Arc<str>, usize>,
}

impl<K: Eq + Hash> Held<K> {
    /// Whether so many bytes more of this owner fit. One owner takes half of the room, or three quarters while no other has
    /// any.
    fn fits(&self, owner: &str, length: usize, limit_bytes: usize) -> bool {
        let own = self.of.get(owner).copied().unwrap_or(0);
        let most = if own == self.bytes { limit_bytes / 4 * 3 } else { limit_bytes / 2 };
        self.bytes + length <= limit_bytes && own + length <= most.max(length)
    }

    fn add(&mut self, owner: &Arc<str>, length: usize) {
        self.bytes += length;
        *self.of.entry(Arc::clone(owner)).or_default() += length;
    }

    fn sub(&mut self, owner: &Arc<str>, length: usize) {
        self.bytes -= length;
        if let Some(own) = self.of.get_mut(owner) {
            *own -= length;
            if *own == 0 {
                self.of.remove(owner);
            }
        }
    }
}

/// Contents take more memory together than they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answers under way take all the memory that they may")]
pub struct Crowded;

struct Content<K: Eq + Hash> {
    key: K,
    owner: Arc<str>,
    bytes: Bytes,
    all: Arc<Shared<K>>,
}

/// What the [`Bytes`] that are given out own.
struct Share<K: Eq + Hash>(Arc<Content<K>>);

impl<K: Eq + Hash> AsRef<[u8]> for Share<K> {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl<K: Eq + Hash> Shared<K> {
    fn held(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Content<K> {
    fn drop(&mut self) {
        let mut held = self.all.held();
        held.sub(&self.owner, self.bytes.len());
        // The key may belong to a newer content by now.
        if held.contents.get(&self.key).is_some_and(|content| content.strong_count() == 0) {
            held.contents.remove(&self.key);
        }
    }
}

/// Room that is counted before its content is there.
struct Room<'a, K: Eq + Hash>(&'a Shared<K>, Arc<str>, usize);

impl<K: Eq + Hash> Drop for Room<'_, K> {
    fn drop(&mut self) {
        self.0.held().sub(&self.1, self.2);
    }
}

impl<K: Eq + Hash> Clone for SharedBytes<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> SharedBytes<K> {
    /// Contents longer than [`SHORT`] may take so many bytes together.
    pub fn within(limit_bytes: usize) -> Self {
        let held = Mutex::new(Held { contents: HashMap::new(), bytes: 0, of: HashMap::new() });
        Self(Arc::new(Shared { held, limit_bytes }))
    }

    /// The content, if somebody holds it.
    pub fn find(&self, key: &K) -> Option<Bytes> {
        let content = self.0.held().contents.get(key)?.upgrade()?;
        Some(Bytes::from_owner(Share(content)))
    }

    /// The content that somebody holds, else what `make` gives, which has to be `length` bytes and counts for the owner.
    ///
    /// # Errors
    ///
    /// There is no room for it. Nothing was made.
    pub fn share(&self, owner: &str, key: &K, length: usize, make: impl FnOnce() -> Bytes) -> Result<Bytes, Crowded> {
        if length <= SHORT {
            return Ok(make());
        }
        let room = {
            let mut held = self.0.held();
            if let Some(content) = held.contents.get(key).and_then(Weak::upgrade) {
                return Ok(Bytes::from_owner(Share(content)));
            }
            if !held.fits(owner, length, self.0.limit_bytes) {
                return Err(Crowded);
            }
            let owner: Arc<str> =
                held.of.get_key_value(owner).map_or_else(|| owner.into(), |(owner, _)| Arc::clone(owner));
            held.add(&owner, length);
            Room(&self.0, owner, length)
        };
        let bytes = make();
        let mut held = self.0.held();
        let other = held.contents.get(key).and_then(Weak::upgrade);
        let content = other.unwrap_or_else(|| {
            let owner = Arc::clone(&room.1);
            held.add(&owner, bytes.len());
            let content = Arc::new(Content { key: key.clone(), owner, bytes: bytes.clone(), all: Arc::clone(&self.0) });
            held.contents.insert(key.clone(), Arc::downgrade(&content));
            content
        });
        // In this order: what is dropped may need the lock.
        drop(held);
        drop((room, bytes));
        Ok(Bytes::from_owner(Share(content)))
    }

    /// Whether a content of so many bytes of this owner would be refused now.
    pub fn is_full_for(&self, owner: &str, length: usize) -> bool {
        length > SHORT && !self.0.held().fits(owner, length, self.0.limit_bytes)
    }

    /// Whether three quarters of the room are taken: clients that take nothing have to go sooner.
    pub fn is_crowded(&self) -> bool {
        self.0.held().bytes > self.0.limit_bytes / 4 * 3
    }

    /// Bytes of all contents that somebody holds.
    pub fn bytes(&self) -> usize {
        self.0.held().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t50_a_long_content_is_made_once_and_all_keep_within_the_limit() {
        let shared: SharedBytes<u8> = SharedBytes::within(3 * SHORT);
        let length = SHORT + 1;
        let make = || Bytes::from(vec![7; length]);
        let first = shared.share("a", &1, length, make).unwrap();
        for _other in 0..100 {
            let same = shared.share("b", &1, length, || panic!("it is there")).unwrap();
            assert_eq!(same.as_ptr(), first.as_ptr());
        }
        let second = shared.share("b", &2, length, make).unwrap();
        assert_eq!((shared.bytes(), shared.is_full_for("c", length)), (2 * length, true));
        assert_eq!(shared.share("c", &3, length, || panic!("there is no room")), Err(Crowded));
        assert_eq!(shared.share("c", &3, SHORT, || Bytes::from(vec![1; SHORT])).unwrap().len(), SHORT);
        drop((first.slice(1..2), first));
        assert_eq!((shared.bytes(), shared.find(&1)), (length, None));
        drop(shared.share("c", &3, length, make).unwrap());
        drop(second);
        assert_eq!(shared.bytes(), 0);
        assert!(shared.0.held().contents.is_empty() && shared.0.held().of.is_empty());
    }

    #[test]
    fn t122_one_owner_leaves_room_for_others_and_takes_half_while_they_have_some() {
        let length = SHORT + 1;
        let shared: SharedBytes<u8> = SharedBytes::within(8 * length);
        let make = || Bytes::from(vec![7; length]);
        let share = |owner: &str, key| shared.share(owner, &key, length, make);
        let mut held: Vec<_> = (0..6).map(|key| share("a", key).unwrap()).collect();
        assert_eq!(share("a", 6), Err(Crowded), "a quarter is for others");
        assert!(shared.is_full_for("a", length) && !shared.is_full_for("b", length));
        let others: Vec<_> = (10..12).map(|key| share("b", key).unwrap()).collect();
        held.truncate(4);
        assert_eq!(share("a", 7), Err(Crowded), "half, while another has some");
        held.extend(share("b", 12));
        held.remove(0);
        held.extend(share("a", 7));
        drop((held, others));
        assert_eq!(shared.bytes(), 0);
    }
}
