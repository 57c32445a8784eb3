//! How commands reach a mirror: over the socket of the one that runs, else in its storage.

pub(super) mod as_owner;
mod config_file;
pub(super) mod offline_storage;
pub(super) mod server;

pub(super) use config_file::ConfigFile;
