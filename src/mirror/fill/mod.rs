//! One download for each authority and digest, followed by all its readers.

pub(super) mod admission;
pub(super) mod download;
pub(super) mod in_flight;
pub(super) mod progress;
pub(super) mod reader;
pub(super) mod task;
