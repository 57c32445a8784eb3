//! A manifest with what it lists, and which of that is held.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::index::{HeldDigest, IndexError};
use crate::mirror::Holdings;
use crate::oci::{Digest, Inspected, Platform, Role, Shape, read_object};

/// Images of an index that are looked at.
const MAX_IMAGES: usize = 200;
/// The platform of what is no image, such as attestations, in an index.
const UNKNOWN: &str = "unknown";

/// A manifest and the images that it leads to.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) kind: Kind,
    /// `None` if it is not held, or cannot be read.
    pub(super) manifest: Option<Read>,
    /// The image itself, or the images that an index lists.
    pub(super) images: Vec<Image>,
}

/// The content of a manifest.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) inspected: Inspected,
    pub(super) size_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Index,
    Image,
    /// A manifest that no container is run from: a chart, a signature.
    Artifact,
    /// It is not held.
    Unknown,
}

/// Whether clients could go on with it if no upstream answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wholeness {
    /// All that is listed is held.
    Whole,
    /// Of an index: some of its images are whole.
    Partial,
    Incomplete,
}

/// One image, or one artifact.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) digest: Digest,
    pub(super) platform: Option<Platform>,
    /// Size of its manifest, as far as it is known. Bytes.
    pub(super) size_bytes: u64,
    pub(super) is_held: bool,
    /// What it lists, if its manifest is held.
    pub(super) parts: Vec<Part>,
}

/// What a manifest lists.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    pub(super) role: Role,
    pub(super) held: HeldDigest,
    /// A client that goes on with the image asks for it.
    pub(super) is_needed: bool,
}

impl Image {
    pub(super) fn missing(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.is_needed && !part.held.is_served())
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_held && self.missing().next().is_none()
    }

    /// Whether it runs somewhere: what an index lists for no platform does not.
    pub(super) fn is_for_a_platform(&self) -> bool {
        self.platform.as_ref().is_none_or(|platform| platform.os != UNKNOWN)
    }

    /// Bytes of it that are held.
    pub(super) fn held_bytes(&self) -> u64 {
        let own = if self.is_held { self.size_bytes } else { 0 };
        own + self.parts.iter().filter(|part| part.held.is_served()).map(|part| part.size_bytes).sum::<u64>()
    }
}

impl Examined {
    pub(super) fn wholeness(&self) -> Wholeness {
        let (whole, all) = (self.images.iter().filter(|image| image.is_whole()).count(), self.images.len());
        match (self.manifest.is_some(), whole) {
            (true, whole) if whole == all => Wholeness::Whole,
            (true, 1..) if self.images.iter().any(|image| image.is_for_a_platform() && image.is_whole()) => {
                Wholeness::Partial
            }
            _ => Wholeness::Incomplete,
        }
    }

    /// The platforms whose images are whole.
    pub(super) fn platforms(&self) -> Vec<String> {
        let whole = self.images.iter().filter(|image| image.is_whole() && image.is_for_a_platform());
        whole.filter_map(|image| image.platform.as_ref().map(ToString::to_string)).collect()
    }
}

pub(super) async fn examine(holdings: &Holdings, digest: Digest) -> Result<Examined, IndexError> {
    let Some(read) = read(holdings, digest).await? else {
        return Ok(Examined { kind: Kind::Unknown, manifest: None, images: Vec::new() });
    };
    if read.inspected.shape != Shape::Index {
        let is_image = read.inspected.is_container_image();
        let mut image = image(holdings, digest, &read).await?;
        if is_image {
            image.platform = platform_of(holdings, &read.inspected).await;
        }
        let kind = if is_image { Kind::Image } else { Kind::Artifact };
        return Ok(Examined { kind, manifest: Some(read), images: vec![image] });
    }
    let mut images = Vec::new();
    let mut listed: Vec<_> = read.inspected.children.iter().filter(|child| child.role == Role::Manifest).collect();
    listed.truncate(MAX_IMAGES);
    for child in listed {
        let absent = Image {
            digest: child.digest,
            platform: child.platform.clone(),
            size_bytes: child.size_bytes,
            is_held: false,
            parts: Vec::new(),
        };
        let held = match self::read(holdings, child.digest).await? {
            // An index in an index counts as held if its own manifest is: clients choose within it by no rule that is known.
            Some(read) => Image { platform: child.platform.clone(), ..image(holdings, child.digest, &read).await? },
            None => absent,
        };
        images.push(held);
    }
    Ok(Examined { kind: Kind::Index, manifest: Some(read), images })
}

async fn read(holdings: &Holdings, digest: Digest) -> Result<Option<Read>, IndexError> {
    let Some(manifest) = holdings.manifest(digest).await? else { return Ok(None) };
    let inspected = Inspected::read(&manifest.bytes, Some(&manifest.media_type)).ok();
    Ok(inspected.map(|inspected| Read { inspected, size_bytes: manifest.bytes.len() as u64 }))
}

async fn image(holdings: &Holdings, digest: Digest, read: &Read) -> Result<Image, IndexError> {
    let Read { inspected, size_bytes } = read;
    let of = |is_blob: bool| inspected.children.iter().filter(move |child| child.role.is_blob() == is_blob);
    let mut held = HashMap::new();
    for (is_blob, are_manifests) in [(true, false), (false, true)] {
        let digests: Vec<Digest> = of(is_blob).map(|child| child.digest).collect();
        held.extend(holdings.held(digests, are_manifests).await?.into_iter().map(|held| (held.digest, held)));
    }
    let needs_config = inspected.is_container_image();
    let part = |child: &crate::oci::Child| Part {
        digest: child.digest,
        size_bytes: child.size_bytes,
        role: child.role,
        held: held.get(&child.digest).copied().unwrap_or(HeldDigest {
            digest: child.digest,
            is_stored: false,
            is_granted: false,
        }),
        is_needed: child.role != Role::Config || needs_config,
    };
    let parts = inspected.children.iter().map(part).collect();
    Ok(Image { digest, platform: None, size_bytes: *size_bytes, is_held: true, parts })
}

/// The platform that the config of an image names.
async fn platform_of(holdings: &Holdings, inspected: &Inspected) -> Option<Platform> {
    #[derive(Deserialize)]
    struct Config {
        os: String,
        architecture: String,
        variant: Option<String>,
    }
    let config = inspected.children.iter().find(|child| child.role == Role::Config)?;
    let bytes = holdings.config(config.digest).await?;
    let Config { os, architecture, variant } = read_object(&bytes)?;
    let is_named = !os.is_empty() && !architecture.is_empty();
    is_named.then_some(Platform { os, architecture, variant })
}
