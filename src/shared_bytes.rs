//! Long contents that answers hold: each once in memory, however many answers have it, and all of them within a limit.

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
}

/// Contents take more memory together than they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answers under way take all the memory that they may")]
pub struct Crowded;

struct Content<K: Eq + Hash> {
    key: K,
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
        held.bytes -= self.bytes.len();
        // The key may belong to a newer content by now.
        if held.contents.get(&self.key).is_some_and(|content| content.strong_count() == 0) {
            held.contents.remove(&self.key);
        }
    }
}

/// Room that is counted before its content is there.
struct Room<'a, K: Eq + Hash>(&'a Shared<K>, usize);

impl<K: Eq + Hash> Drop for Room<'_, K> {
    fn drop(&mut self) {
        self.0.held().bytes -= self.1;
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
        let held = Mutex::new(Held { contents: HashMap::new(), bytes: 0 });
        Self(Arc::new(Shared { held, limit_bytes }))
    }

    /// The content, if somebody holds it.
    pub fn find(&self, key: &K) -> Option<Bytes> {
        let content = self.0.held().contents.get(key)?.upgrade()?;
        Some(Bytes::from_owner(Share(content)))
    }

    /// The content that somebody holds, else what `make` gives, which has to be `length` bytes.
    ///
    /// # Errors
    ///
    /// There is no room for it. Nothing was made.
    pub fn share(&self, key: &K, length: usize, make: impl FnOnce() -> Bytes) -> Result<Bytes, Crowded> {
        if length <= SHORT {
            return Ok(make());
        }
        let room = {
            let mut held = self.0.held();
            if let Some(content) = held.contents.get(key).and_then(Weak::upgrade) {
                return Ok(Bytes::from_owner(Share(content)));
            }
            if held.bytes + length > self.0.limit_bytes {
                return Err(Crowded);
            }
            held.bytes += length;
            Room(&self.0, length)
        };
        let bytes = make();
        let mut held = self.0.held();
        let other = held.contents.get(key).and_then(Weak::upgrade);
        let content = other.unwrap_or_else(|| {
            held.bytes += bytes.len();
            let content = Arc::new(Content { key: key.clone(), bytes: bytes.clone(), all: Arc::clone(&self.0) });
            held.contents.insert(key.clone(), Arc::downgrade(&content));
            content
        });
        // In this order: what is dropped may need the lock.
        drop(held);
        drop((room, bytes));
        Ok(Bytes::from_owner(Share(content)))
    }

    /// Whether a content of so many bytes would be refused now.
    pub fn is_full_for(&self, length: usize) -> bool {
        length > SHORT && self.0.held().bytes + length > self.0.limit_bytes
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
        let first = shared.share(&1, length, make).unwrap();
        for _other in 0..100 {
            let same = shared.share(&1, length, || panic!("it is there")).unwrap();
            assert_eq!(same.as_ptr(), first.as_ptr());
        }
        let second = shared.share(&2, length, make).unwrap();
        assert_eq!((shared.bytes(), shared.is_full_for(length)), (2 * length, true));
        assert_eq!(shared.share(&3, length, || panic!("there is no room")), Err(Crowded));
        assert_eq!(shared.share(&3, SHORT, || Bytes::from(vec![1; SHORT])).unwrap().len(), SHORT);
        drop((first.slice(1..2), first));
        assert_eq!((shared.bytes(), shared.find(&1)), (length, None));
        drop(shared.share(&3, length, make).unwrap());
        drop(second);
        assert_eq!(shared.bytes(), 0);
        assert!(shared.0.held().contents.is_empty());
    }
}
