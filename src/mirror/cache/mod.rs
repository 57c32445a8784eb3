//! What is held: bytes and their record.

pub(super) mod faults;
pub(super) mod memory;
pub(super) mod pending_records;
pub(super) mod retention;
pub(super) mod scrub;
pub(super) mod usage;
