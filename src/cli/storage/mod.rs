//! Commands about the storage as a whole.

pub(super) mod backup;
pub(super) mod lost;
pub(super) mod restore;
pub(super) mod verify;
