//! One user per partial name. A blob's fill and a manifest's write may want the same one, and what was linked from a name
//! must be what was hashed under it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(in crate::store) struct NameLocks {
    held: Mutex<HashSet<PathBuf>>,
    freed: Notify,
}

/// The right to make, write and unlink one partial name; given up when dropped.
#[derive(Debug)]
pub(in crate::store) struct NameLock {
    name_locks: Arc<NameLocks>,
    partial: PathBuf,
}

impl NameLocks {
    /// Waits until nobody else holds the name.
    pub(in crate::store) async fn take(self: &Arc<Self>, partial: &Path) -> NameLock {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // From here on no release goes unseen.
            freed.as_mut().enable();
            if self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(partial.to_owned()) {
                return NameLock { name_locks: Arc::clone(self), partial: partial.to_owned() };
            }
            freed.await;
        }
    }
}

impl NameLocks {
    /// `None` if somebody holds the name.
    pub(in crate::store) fn try_take(self: &Arc<Self>, partial: &Path) -> Option<NameLock> {
        let is_free = self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(partial.to_owned());
        is_free.then(|| NameLock { name_locks: Arc::clone(self), partial: partial.to_owned() })
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        self.name_locks.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.partial);
        self.name_locks.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_has_one_user_at_a_time() {
        let name_locks = Arc::new(NameLocks::default());
        let (name, other) = (Path::new("a"), Path::new("b"));
        let first = name_locks.take(name).await;
        drop(name_locks.take(other).await);
        let mut second = std::pin::pin!(name_locks.take(name));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        let _second = second.await;
    }
}
