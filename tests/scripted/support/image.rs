//! Images to publish: manifests, indexes, artifacts, and the odd old thing.
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::indexing_slicing, reason = "JSON objects are filled by index")]

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::upstream::{Content, Upstream, sha256, sha512};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A manifest of any kind with what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) media_type: &'static str,
    pub(crate) manifest: Bytes,
    pub(crate) digest: String,
    /// Config first.
    pub(crate) blobs: Vec<Blob>,
    /// The images of an index.
    pub(crate) children: Vec<Self>,
}

#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) content: Content,
}

impl Image {
    pub(crate) fn config(&self) -> &Blob {
        &self.blobs[0]
    }

    pub(crate) fn layers(&self) -> &[Blob] {
        &self.blobs[1..]
    }

    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.manifest.len()})
    }
}

/// An OCI image with these layers, for the common case.
pub(crate) fn image(layers: &[Content]) -> Image {
    layers.iter().fold(Builder::new(), Builder::layer).build()
}

/// An image in the making: OCI types and sha256 unless told otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Builder {
    docker: bool,
    sha512: bool,
    layers: Vec<(Content, Vec<String>)>,
    config: Option<Content>,
    artifact_type: Option<String>,
    subject: Option<Value>,
    annotations: serde_json::Map<String, Value>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Docker's media types.
    pub(crate) fn docker(self) -> Self {
        Self { docker: true, ..self }
    }

    /// sha512 for the manifest, its config and its layers.
    pub(crate) fn sha512(self) -> Self {
        Self { sha512: true, ..self }
    }

    pub(crate) fn layer(self, content: impl Into<Content>) -> Self {
        self.layer_from(content, &[])
    }

    /// A foreign layer: one with `urls`.
    pub(crate) fn layer_from(mut self, content: impl Into<Content>, urls: &[String]) -> Self {
        self.layers.push((content.into(), urls.to_vec()));
        self
    }

    pub(crate) fn config(self, config: impl Into<Content>) -> Self {
        Self { config: Some(config.into()), ..self }
    }

    pub(crate) fn artifact_type(self, artifact_type: &str) -> Self {
        Self { artifact_type: Some(artifact_type.to_owned()), ..self }
    }

    pub(crate) fn subject(self, subject: &Image) -> Self {
        Self { subject: Some(subject.descriptor()), ..self }
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// Makes the manifest longer by about so many bytes.
    pub(crate) fn padding(self, bytes: usize) -> Self {
        self.annotation("padding", &"x".repeat(bytes))
    }

    pub(crate) fn build(self) -> Image {
        let (media_type, config_type, layer_type) = if self.docker {
            let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
            (DOCKER_MANIFEST, "application/vnd.docker.container.image.v1+json", layer)
        } else {
            let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
            (OCI_MANIFEST, "application/vnd.oci.image.config.v1+json", layer)
        };
        let hash = |content: &Content| if self.sha512 { content.sha512() } else { content.sha256() };
        let layers = self.layers.iter().map(|(content, _)| Blob { digest: hash(content), content: content.clone() });
        let layers = layers.collect::<Vec<_>>();
        let config = self.config.unwrap_or_else(|| config_of(&layers));
        let config = Blob { digest: hash(&config), content: config };

        let mut manifest = json!({"schemaVersion": 2, "mediaType": media_type});
        manifest["config"] = describe(config_type, &config);
        let described = layers.iter().zip(&self.layers).map(|(layer, (_, urls))| {
            let mut descriptor = describe(layer_type, layer);
            if !urls.is_empty() {
                descriptor["urls"] = json!(urls);
            }
            descriptor
        });
        manifest["layers"] = described.collect();
        if let Some(artifact_type) = self.artifact_type {
            manifest["artifactType"] = artifact_type.into();
        }
        if let Some(subject) = self.subject {
            manifest["subject"] = subject;
        }
        if !self.annotations.is_empty() {
            manifest["annotations"] = self.annotations.into();
        }
        let blobs = std::iter::once(config).chain(layers).collect();
        finish(media_type, &manifest, self.sha512, blobs, Vec::new())
    }
}

/// An OCI index of these, one platform each.
pub(crate) fn index(children: &[&Image]) -> Image {
    index_of(OCI_INDEX, children)
}

/// The same in Docker's words.
pub(crate) fn docker_list(children: &[&Image]) -> Image {
    index_of(DOCKER_LIST, children)
}

fn index_of(media_type: &'static str, children: &[&Image]) -> Image {
    let architectures = ["amd64", "arm64", "s390x", "ppc64le", "riscv64"].iter().cycle();
    let descriptors = children.iter().zip(architectures).map(|(child, architecture)| {
        let mut descriptor = child.descriptor();
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": descriptors.collect::<Vec<_>>(),
    });
    finish(media_type, &manifest, false, Vec::new(), children.iter().copied().cloned().collect())
}

/// A signature, an SBOM: something that refers to `subject`.
pub(crate) fn artifact(subject: &Image, artifact_type: &str, content: impl Into<Content>) -> Image {
    Builder::new().config("{}").layer(content).artifact_type(artifact_type).subject(subject).build()
}

/// A signed schema 1 manifest. As with real ones, the digest is that of the payload and not that of the bytes.
pub(crate) fn schema1(name: &str, tag: &str) -> Image {
    let payload = json!({"schemaVersion": 1, "name": name, "tag": tag, "fsLayers": [], "history": []});
    let mut manifest = payload.clone();
    manifest["signatures"] = json!([{"header": {"alg": "ES256"}, "signature": "c2ln", "protected": "cHJv"}]);
    let digest = sha256(payload.to_string().as_bytes());
    Image { digest, ..finish(SCHEMA1, &manifest, false, Vec::new(), Vec::new()) }
}

/// Different for different layers, as real configs are.
fn config_of(layers: &[Blob]) -> Content {
    let diff_ids = layers.iter().map(|layer| layer.digest.as_str()).collect::<Vec<_>>();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    Content::from(json!({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).to_string())
}

fn describe(media_type: &str, blob: &Blob) -> Value {
    json!({"mediaType": media_type, "digest": blob.digest, "size": blob.content.size()})
}

fn finish(media_type: &'static str, manifest: &Value, long: bool, blobs: Vec<Blob>, children: Vec<Image>) -> Image {
    // Indented, so that whoever parses and writes it again changes the digest.
    let manifest = Bytes::from(serde_json::to_vec_pretty(manifest).expect("a value is JSON"));
    let digest = if long { sha512(&manifest) } else { sha256(&manifest) };
    Image { media_type, manifest, digest, blobs, children }
}

/// Images put themselves into an upstream: blobs first, then children, then the manifest.
impl Upstream {
    pub(crate) fn publish(&self, repository: &str, tag: &str, image: &Image) -> String {
        let digest = self.publish_untagged(repository, image);
        self.tag(repository, tag, &digest);
        digest
    }

    pub(crate) fn publish_untagged(&self, repository: &str, image: &Image) -> String {
        for blob in &image.blobs {
            self.blob_as(repository, &blob.digest, &blob.content);
        }
        for child in &image.children {
            self.publish_untagged(repository, child);
        }
        self.manifest_as(repository, &image.digest, image.media_type, image.manifest.clone());
        image.digest.clone()
    }

    /// An artifact with a subject, without a tag: the referrers API lists it, and `tag_referrers` will.
    pub(crate) fn put_referrer(&self, repository: &str, artifact: &Image) -> String {
        self.publish_untagged(repository, artifact)
    }
}
