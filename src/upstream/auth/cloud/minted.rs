//! What a cloud gives in the end.

use std::time::Duration;

use crate::secret::Secret;

/// A login at a registry, and how long it is good from now.
#[derive(Debug, Clone)]
pub(super) struct Minted {
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) life: Duration,
}
