//! The fake registry of the scripted tests: it counts what it is asked for, and makes large blobs out of nothing.

#[path = "../../tests/scripted/support/image.rs"]
pub(crate) mod image;
#[path = "../../tests/scripted/support/upstream/mod.rs"]
pub(crate) mod upstream;
