//! The tasks that run for as long as the mirror does. Each ends by itself when [`Context::stopping`] is cancelled, before
//! the index is closed.
//!
//! [`Context::stopping`]: crate::cache::Context::stopping

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::cache::retry_faults;
use crate::cache::scrub::{VerifySettings, run_scrub};
use crate::mirror::Mirror;

/// Starts all of them. `was_clean`: the last server of this storage ended in good order.
pub(super) fn start(mirror: &Arc<Mirror>, verify: VerifySettings, was_clean: bool) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    // Drops grants and lists that nobody used for long.
    tasks.spawn(Arc::clone(mirror).run_grant_expiry());
    // Tries a disk that failed until it works, and puts in order what was left.
    tasks.spawn(retry_faults(Arc::clone(mirror.evictor())));
    // Keeps the promises about space.
    tasks.spawn(Arc::clone(mirror.evictor()).run());
    // Reads stored bytes again.
    tasks.spawn(run_scrub(Arc::clone(mirror.cache()), verify, was_clean));
    tasks
}
