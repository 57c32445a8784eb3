//! Bundles: images in one archive, as they are carried to where no network leads. Written is one form, the OCI image
//! layout; read are that, `docker save` and skopeo's `dir:`. No I/O but that of the reader which is given.

pub mod docker_archive;
pub mod layout;
pub mod receipt;
pub mod tar_reader;
pub mod tar_writer;
pub mod unpacked;
