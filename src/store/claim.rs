//! One user per partial name. A blob's fill and a manifest's write may want the same one, and what was linked from a name
//! must be what was hashed under it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<HashSet<PathBuf>>,
    freed: Notify,
}

/// The right to make, write and unlink one partial name; given up when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    partial: PathBuf,
}

impl Claims {
    /// Waits until nobody else holds the name.
    pub(super) async fn take(self: &Arc<Self>, partial: &Path) -> Claim {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // From here on no release goes unseen.
            freed.as_mut().enable();
            if self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(partial.to_owned()) {
                return Claim { claims: Arc::clone(self), partial: partial.to_owned() };
            }
            freed.await;
        }
    }
}

impl Claims {
    /// `None` if somebody holds the name.
    pub(super) fn try_take(self: &Arc<Self>, partial: &Path) -> Option<Claim> {
        let is_free = self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(partial.to_owned());
        is_free.then(|| Claim { claims: Arc::clone(self), partial: partial.to_owned() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.partial);
        self.claims.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_has_one_user_at_a_time() {
        let claims = Arc::new(Claims::default());
        let (name, other) = (Path::new("a"), Path::new("b"));
        let first = claims.take(name).await;
        drop(claims.take(other).await);
        let mut second = std::pin::pin!(claims.take(name));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        let _second = second.await;
    }
}
