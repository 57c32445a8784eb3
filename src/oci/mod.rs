//! Values of the OCI distribution and image specs that exist only when valid.
//!
//! All names in paths on disk, keys of the index and upstream URLs come from these parsers. No I/O happens here.

mod authority;
mod digest;
mod error_code;
mod image_name;
mod manifest;
mod media_type;
mod object;
mod pattern;
mod pin;
mod platform;
mod range;
mod reference;
mod repository;
mod text;

pub use authority::{Authority, InvalidAuthority};
pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error_code::ErrorCode;
pub use image_name::{ImageName, InvalidName, InvalidShortDigest, Named, ShortDigest};
pub use manifest::{Child, Inspected, NotAManifest, Role, Shape};
pub use media_type::{ACCEPT_MANIFESTS, MediaType};
pub use object::{Field, Scalar, read_object};
pub use pattern::{InvalidPattern, RepositoryPattern};
pub use pin::{BlockPattern, BlockedNames, InvalidBlock, InvalidPin, PinPattern};
pub use platform::{InvalidPlatform, Platform};
pub use range::{ByteRange, RangeHeader, Unsatisfiable};
pub use reference::{InvalidReference, Reference, Tag};
pub use repository::{InvalidRepository, Repository};
