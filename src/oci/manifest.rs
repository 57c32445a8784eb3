use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Digest, MediaType, Platform, read_object};

/// The parsed content of a manifest. The manifest's own bytes are kept unchanged elsewhere.
#[derive(Debug, Clone)]
pub struct Inspected {
    pub media_type: MediaType,
    pub shape: Shape,
    /// Config and layers, or the manifests of an index. Without inlined and empty content, which clients have.
    pub children: Vec<Child>,
    pub subject: Option<Digest>,
    /// `artifactType`, else the config's media type. Referrers are filtered by it (distribution-spec).
    pub artifact_type: Option<String>,
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
    #[error("its body is an index and an image at once")]
    Ambiguous,
    #[error("its type cannot be told from header or body")]
    Untyped,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<serde_json::Value>,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    /// The list of the withdrawn OCI artifact manifest.
    blobs: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    digest: String,
    #[serde(default)]
    size: serde_json::Value,
    media_type: Option<String>,
    platform: Option<RawPlatform>,
    /// The content itself, in base64 (image-spec, descriptor.md).
    data: Option<String>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl RawDescriptor {
    fn child(&self, role: Role) -> Option<Child> {
        let digest = self.digest.parse().ok()?;
        if self.is_known_to_all(digest) {
            return None;
        }
        let platform = self.platform.as_ref().map(|platform| Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
        });
        Some(Child { digest, size_bytes: self.size.as_u64()?, role, platform })
    }

    /// Whether clients have the content without a request: inlined, or `{}` of the empty descriptor.
    fn is_known_to_all(&self, digest: Digest) -> bool {
        let is_content = |content: &[u8]| Digest::of(digest.algorithm(), content) == digest;
        let inlined = self.data.as_ref().and_then(|data| STANDARD.decode(data).ok());
        inlined.is_some_and(|data| is_content(&data)) || is_content(b"{}")
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
    /// the body names no type, and only if it fits the shape.
    pub fn read(body: &[u8], content_type: Option<&MediaType>) -> Result<Self, NotAManifest> {
        if content_type.is_some_and(MediaType::is_schema_1) {
            return Err(NotAManifest::Schema1);
        }
        let raw: Raw = read_object(body).ok_or(NotAManifest::NotJson)?;
        let body_type = raw.media_type.as_deref().and_then(MediaType::parse);
        if raw.schema_version.as_ref().and_then(serde_json::Value::as_u64) == Some(1)
            || body_type.as_ref().is_some_and(MediaType::is_schema_1)
        {
            return Err(NotAManifest::Schema1);
        }
        let shape = match (&raw.manifests, raw.config.is_some() || raw.layers.is_some()) {
            (Some(_), true) => return Err(NotAManifest::Ambiguous),
            (Some(_), false) => Shape::Index,
            (None, true) => Shape::Image,
            (None, false) => Shape::Other,
        };
        let mut children: Vec<Child> = Vec::new();
        children.extend(raw.config.iter().filter_map(|d| d.child(Role::Config)));
        children.extend(raw.layers.iter().flatten().filter_map(|d| d.child(Role::Layer)));
        children.extend(raw.blobs.iter().flatten().filter_map(|d| d.child(Role::Layer)));
        children.extend(raw.manifests.iter().flatten().filter_map(|d| d.child(Role::Manifest)));
        Ok(Self {
            media_type: decide_type(shape, body_type, content_type)?,
            shape,
            children,
            subject: raw.subject.and_then(|d| d.digest.parse().ok()),
            artifact_type: raw
                .artifact_type
                .filter(|t| !t.is_empty())
                .or_else(|| raw.config.and_then(|c| c.media_type)),
            annotations: raw.annotations.unwrap_or_default(),
        })
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
mod tests {
    use super::*;

    fn read(body: &str, header: &str) -> Result<String, NotAManifest> {
        let header = MediaType::parse(header);
        Inspected::read(body.as_bytes(), header.as_ref()).map(|m| m.media_type.to_string())
    }

    #[test]
    fn the_type_comes_from_the_body_then_the_header_then_the_structure() {
        let docker = format!(r#"{{"mediaType":"{}","config":{{}},"layers":[]}}"#, MediaType::DOCKER_MANIFEST);
        assert_eq!(read(&docker, MediaType::OCI_INDEX).unwrap(), MediaType::DOCKER_MANIFEST);
        assert_eq!(read(r#"{"layers":[]}"#, MediaType::DOCKER_MANIFEST).unwrap(), MediaType::DOCKER_MANIFEST);
        assert_eq!(read(r#"{"layers":[]}"#, "text/plain").unwrap(), MediaType::OCI_MANIFEST);
        assert_eq!(read(r#"{"manifests":[]}"#, MediaType::OCI_MANIFEST).unwrap(), MediaType::OCI_INDEX);
        assert_eq!(read(r#"{"a":1}"#, "application/vnd.example+json").unwrap(), "application/vnd.example+json");
    }

    #[test]
    fn t19_a_body_that_is_two_things_at_once_is_refused() {
        assert_eq!(read(r#"{"manifests":[],"layers":[]}"#, ""), Err(NotAManifest::Ambiguous));
        let lie = format!(r#"{{"mediaType":"{}","layers":[]}}"#, MediaType::OCI_INDEX);
        assert_eq!(read(&lie, ""), Err(NotAManifest::Ambiguous));
    }

    #[test]
    fn what_a_client_has_without_asking_is_not_needed() {
        let needed = |config: &str| {
            let layer = format!("sha256:{}", "0".repeat(64));
            let body = format!(r#"{{"config":{config},"layers":[{{"digest":"{layer}","size":1}}]}}"#);
            Inspected::read(body.as_bytes(), None).unwrap().children.len()
        };
        let (empty, other) =
            (Digest::of(crate::oci::Algorithm::Sha256, b"{}"), Digest::of(crate::oci::Algorithm::Sha256, b"abc"));
        assert_eq!(needed(&format!(r#"{{"digest":"{empty}","size":2}}"#)), 1);
        assert_eq!(needed(&format!(r#"{{"digest":"{other}","size":3,"data":"YWJj"}}"#)), 1);
        assert_eq!(needed(&format!(r#"{{"digest":"{other}","size":3,"data":"bGll"}}"#)), 2, "a lie is not content");
        assert_eq!(needed(&format!(r#"{{"digest":"{other}","size":3}}"#)), 2);
    }

    #[test]
    fn what_cannot_be_verified_or_read_is_no_manifest() {
        assert_eq!(read("<html>", "text/html"), Err(NotAManifest::NotJson));
        assert_eq!(read("[]", ""), Err(NotAManifest::NotJson));
        let listed = "[2,null,null,[],null,null,null,null,null]";
        assert_eq!(read(listed, ""), Err(NotAManifest::NotJson), "fields by position");
        assert_eq!(read(r#"{"schemaVersion":1}"#, ""), Err(NotAManifest::Schema1));
        assert_eq!(read("{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"), Err(NotAManifest::Schema1));
        assert_eq!(read("{}", "text/plain"), Err(NotAManifest::Untyped));
    }
}
