mod descriptor;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{Digest, Field, MediaType, Platform, Scalar, read_object};

use descriptor::{Listed, MAX_DESCRIPTORS, Needed, RawDescriptor};

/// Most annotations that are kept of one manifest, for its own descriptor.
const MAX_ANNOTATIONS: usize = 500;
/// Most bytes of their keys and values together.
const MAX_ANNOTATION_BYTES: usize = 64 * 1024;
/// Longest `artifactType`. Media types are shorter (RFC 6838).
const MAX_ARTIFACT_TYPE: usize = 255;

/// The parsed content of a manifest. The manifest's own bytes are kept unchanged elsewhere.
#[derive(Debug, Clone)]
pub struct Inspected {
    pub media_type: MediaType,
    pub shape: Shape,
    /// Config and layers, or the manifests of an index. Without inlined and empty content, which clients have, and without
    /// foreign layers, which they fetch elsewhere.
    pub children: Vec<Child>,
    pub subject: Option<Digest>,
    /// `artifactType`, else the config's media type. Referrers are filtered by it (distribution-spec).
    pub artifact_type: Option<String>,
    /// The first of them, up to a bound.
    pub annotations: BTreeMap<String, String>,
}

/// The structure of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Index,
    Image,
    /// A JSON object without any known list.
    Other,
}

/// One descriptor of a manifest. Descriptors whose digest cannot be verified are left out.
#[derive(Debug, Clone)]
pub struct Child {
    pub digest: Digest,
    pub size_bytes: u64,
    pub role: Role,
    /// Of a manifest in an index, where it is named.
    pub platform: Option<Platform>,
}

/// The place of a descriptor in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Config,
    /// A layer, or a blob of an artifact.
    Layer,
    /// A manifest in an index.
    Manifest,
}

impl Role {
    pub const fn is_blob(self) -> bool {
        match self {
            Self::Config | Self::Layer => true,
            Self::Manifest => false,
        }
    }
}

/// A body that is not served as a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAManifest {
    #[error("its body is no JSON object")]
    NotJson,
    #[error("it is a schema 1 manifest, which cannot be verified")]
    Schema1,
    #[error("its body is an index and an image at once, or its type is of the other kind")]
    Ambiguous,
    #[error("its type cannot be told from header or body")]
    Untyped,
    #[error("it lists more than {MAX_DESCRIPTORS} descriptors")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw<'a> {
    #[serde(borrow, default)]
    schema_version: Scalar<'a>,
    #[serde(borrow, default)]
    media_type: Scalar<'a>,
    #[serde(borrow, default)]
    config: Field<RawDescriptor<'a>>,
    #[serde(default)]
    layers: Field<Listed>,
    /// The list of the withdrawn OCI artifact manifest.
    blobs: Option<Listed>,
    #[serde(default)]
    manifests: Field<Listed>,
    #[serde(borrow)]
    subject: Option<RawDescriptor<'a>>,
    #[serde(borrow, default)]
    artifact_type: Scalar<'a>,
    annotations: Option<Annotations>,
}

#[derive(Default)]
struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Annotations, A::Error> {
                let (mut kept, mut bytes) = (BTreeMap::new(), 0);
                while let Some((key, value)) = fields.next_entry::<Scalar<'_>, Scalar<'_>>()? {
                    let Some((key, value)) = key.text().zip(value.text()) else { continue };
                    if kept.len() < MAX_ANNOTATIONS && bytes + key.len() + value.len() <= MAX_ANNOTATION_BYTES {
                        bytes += key.len() + value.len();
                        kept.insert(key.to_owned(), value.to_owned());
                    }
                }
                Ok(Annotations(kept))
            }
        }

        deserializer.deserialize_map(Texts)
    }
}

impl Needed {
    fn child(self, role: Role) -> Child {
        let Self { digest, size_bytes, platform } = self;
        Child { digest, size_bytes, role, platform }
    }
}

/// How a [`Field`] is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Presence {
    Absent,
    Null,
    Given,
}

impl Presence {
    const fn of<T>(field: &Field<T>) -> Self {
        match field {
            Field::Absent => Self::Absent,
            Field::Null => Self::Null,
            Field::Given(_) => Self::Given,
        }
    }
}

impl Inspected {
    /// Whether this is an image that runs as a container: its config is one, and it is not said to be an artifact. Clients
    /// of artifacts read manifest and layers, and never the config.
    pub fn is_container_image(&self) -> bool {
        let is_config = |known: &str| matches!(known, MediaType::OCI_CONFIG | MediaType::DOCKER_CONFIG);
        self.shape == Shape::Image && self.artifact_type.as_deref().is_none_or(is_config)
    }

    /// Parses a body that came with `content_type`.
    ///
    /// The type in the body wins over the header, because the digest covers it (CVE-2021-41190). The header decides only if
    /// the body names no type, and only if it fits the shape. Takes no more memory than a bounded number of descriptors
    /// and annotations does, whatever else the body holds.
    pub fn read(body: &[u8], content_type: Option<&MediaType>) -> Result<Self, NotAManifest> {
        if content_type.is_some_and(MediaType::is_schema_1) {
            return Err(NotAManifest::Schema1);
        }
        let raw: Raw<'_> = read_object(body).ok_or(NotAManifest::NotJson)?;
        let body_type = raw.media_type.text().and_then(MediaType::parse);
        if raw.schema_version.number() == Some(1) || body_type.as_ref().is_some_and(MediaType::is_schema_1) {
            return Err(NotAManifest::Schema1);
        }
        let of_index = Presence::of(&raw.manifests);
        let of_image = Presence::of(&raw.config).max(Presence::of(&raw.layers));
        let shape = shape(of_index, of_image, body_type.as_ref())?;
        let config = raw.config.given();
        let lists =
            [(raw.layers.given(), Role::Layer), (raw.blobs, Role::Layer), (raw.manifests.given(), Role::Manifest)];
        if lists.iter().filter_map(|(list, _)| list.as_ref()).map(|list| list.count).sum::<usize>() > MAX_DESCRIPTORS {
            return Err(NotAManifest::TooMany);
        }
        let mut children: Vec<Child> = Vec::new();
        children.extend(config.iter().filter_map(RawDescriptor::needed).map(|needed| needed.child(Role::Config)));
        for (list, role) in lists {
            children.extend(list.into_iter().flat_map(|list| list.needed).map(|needed| needed.child(role)));
        }
        let artifact_type = |named: &Scalar<'_>| {
            let named = named.text().filter(|text| !text.is_empty() && text.len() <= MAX_ARTIFACT_TYPE);
            named.map(str::to_owned)
        };
        Ok(Self {
            media_type: decide_type(shape, body_type, content_type)?,
            shape,
            children,
            subject: raw.subject.and_then(|subject| subject.digest()),
            artifact_type: artifact_type(&raw.artifact_type)
                .or_else(|| config.and_then(|config| artifact_type(&config.media_type))),
            annotations: raw.annotations.unwrap_or_default().0,
        })
    }
}

fn shape(of_index: Presence, of_image: Presence, body_type: Option<&MediaType>) -> Result<Shape, NotAManifest> {
    use Presence::{Absent, Given, Null};
    match (of_index, of_image) {
        (Given, Null | Absent) | (Null, Absent) => Ok(Shape::Index),
        (Null | Absent, Given) | (Absent, Null) => Ok(Shape::Image),
        (Null, Null) if body_type.is_some_and(MediaType::is_index) => Ok(Shape::Index),
        (Null, Null) if body_type.is_some_and(MediaType::is_image_manifest) => Ok(Shape::Image),
        (Given, Given) | (Null, Null) => Err(NotAManifest::Ambiguous),
        (Absent, Absent) => Ok(Shape::Other),
    }
}

fn decide_type(
    shape: Shape,
    body_type: Option<MediaType>,
    header: Option<&MediaType>,
) -> Result<MediaType, NotAManifest> {
    let fits = |media_type: &MediaType| match shape {
        Shape::Index => !media_type.is_image_manifest(),
        Shape::Image => !media_type.is_index(),
        Shape::Other => !media_type.is_index() && !media_type.is_image_manifest(),
    };
    // Generic types say nothing about a manifest. containerd would read `text/plain` as schema 1.
    let specific = |media_type: &&MediaType| {
        !media_type.as_str().starts_with("text/")
            && !matches!(media_type.as_str(), MediaType::OCTET_STREAM | "application/json")
    };
    if let Some(media_type) = body_type {
        return if fits(&media_type) { Ok(media_type) } else { Err(NotAManifest::Ambiguous) };
    }
    match (header.filter(specific).filter(|h| fits(h)), shape) {
        (Some(header), _) => Ok(header.clone()),
        (None, Shape::Index) => Ok(MediaType::known(MediaType::OCI_INDEX)),
        (None, Shape::Image) => Ok(MediaType::known(MediaType::OCI_MANIFEST)),
        (None, Shape::Other) => Err(NotAManifest::Untyped),
    }
}

#[cfg(test)]
mod tests;
