//! The harness: the mirror, its upstream, its disk, and clients.

pub(crate) mod chaos;
pub(crate) mod client;
pub(crate) mod cloud;
mod eventually;
pub(crate) mod faulty_disk;
pub(crate) mod image;
pub(crate) mod log;
pub(crate) mod mirror;
pub(crate) mod tmpfs;
pub(crate) mod upstream;

pub(crate) use self::eventually::eventually;
