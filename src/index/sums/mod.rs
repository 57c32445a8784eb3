//! What the index counts: bytes that are stored, and what its own rows take.

pub(super) mod rows;
pub(super) mod stored;
