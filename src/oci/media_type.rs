use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::text::writes_as_text;

/// `type/subtype` without parameters, as registries put it in `Content-Type` and `mediaType`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MediaType(Arc<str>);

/// `Accept` of every manifest request upstream, whatever the client accepts: an answer that varies with `Accept` would
/// give one tag several digests. Schema 1 is left out on purpose.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json, */*;q=0.1";

impl MediaType {
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const OCTET_STREAM: &str = "application/octet-stream";

    /// Parses a header's or a descriptor's value and drops parameters. `None` if it is no media type (RFC 6838).
    pub fn parse(value: &str) -> Option<Self> {
        let essence = value.split(';').next()?.trim();
        let (kind, subtype) = essence.split_once('/')?;
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        (essence.len() <= 255 && is_name(kind) && is_name(subtype)).then(|| Self(essence.into()))
    }

    pub(super) fn known(value: &'static str) -> Self {
        Self(value.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an index or a manifest list.
    pub fn is_index(&self) -> bool {
        matches!(&*self.0, Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Whether it is the manifest of one image.
    pub fn is_image_manifest(&self) -> bool {
        matches!(&*self.0, Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// Docker's first format, whose digest is not the hash of its body.
    pub fn is_schema_1(&self) -> bool {
        self.0.starts_with("application/vnd.docker.distribution.manifest.v1+")
    }
}

writes_as_text!(MediaType);

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a media type"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_dropped_and_header_breaks_refused() {
        let parsed = MediaType::parse("application/vnd.oci.image.index.v1+json; charset=utf-8").unwrap();
        assert_eq!(parsed.as_str(), MediaType::OCI_INDEX);
        for bad in ["", "text", "/", "a/", "a/b c", "a/b\r\nx: y", "a/b/c"] {
            assert!(MediaType::parse(bad).is_none(), "{bad:?}");
        }
    }
}
