//! The registry's content. Repositories know nothing of each other, as behind a real registry's access control.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::{Value, json};

use super::bytes::{Content, sha256};
use super::lists::Lists;

/// Changed by tests at any time, also from within a script by `Step::then`.
#[derive(Default)]
pub(crate) struct Contents {
    repositories: BTreeMap<String, Repository>,
    pub(crate) files: BTreeMap<String, Content>,
    pub(crate) lists: Lists,
}

#[derive(Default)]
pub(crate) struct Repository {
    pub(crate) manifests: HashMap<String, Manifest>,
    pub(crate) blobs: HashMap<String, Content>,
    pub(crate) tags: BTreeMap<String, String>,
    /// By subject, in the order of publication. A subject need not be there.
    pub(crate) referrers: HashMap<String, Vec<Value>>,
}

pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) content: Content,
}

impl Contents {
    /// Puts a blob there and returns its sha256 digest.
    pub(crate) fn blob(&mut self, repository: &str, content: impl Into<Content>) -> String {
        let content = content.into();
        let digest = content.sha256();
        self.blob_as(repository, &digest, content);
        digest
    }

    /// A blob under a digest of another algorithm, or under one that is not its own.
    pub(crate) fn blob_as(&mut self, repository: &str, digest: &str, content: impl Into<Content>) {
        self.repository(repository).blobs.insert(digest.to_owned(), content.into());
    }

    /// Puts a manifest there and returns its sha256 digest. One with a `subject` becomes a referrer of it.
    pub(crate) fn manifest(&mut self, repository: &str, media_type: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        self.manifest_as(repository, &digest, media_type, bytes);
        digest
    }

    /// A manifest under a digest of another algorithm, or under one that is not its own.
    pub(crate) fn manifest_as(&mut self, repository: &str, digest: &str, media_type: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let repository = self.repository(repository);
        if let Some((subject, descriptor)) = referrer(digest, media_type, &bytes) {
            let referrers = repository.referrers.entry(subject).or_default();
            if !referrers.contains(&descriptor) {
                referrers.push(descriptor);
            }
        }
        let manifest = Manifest { media_type: media_type.to_owned(), content: bytes.into() };
        repository.manifests.insert(digest.to_owned(), manifest);
    }

    /// Makes the tag, or moves it.
    pub(crate) fn tag(&mut self, repository: &str, tag: &str, digest: &str) {
        self.repository(repository).tags.insert(tag.to_owned(), digest.to_owned());
    }

    pub(crate) fn remove_tag(&mut self, repository: &str, tag: &str) {
        self.repository(repository).tags.remove(tag);
    }

    /// Tags that point to it stay, and lead nowhere.
    pub(crate) fn remove_manifest(&mut self, repository: &str, digest: &str) {
        self.repository(repository).manifests.remove(digest);
    }

    pub(crate) fn remove_blob(&mut self, repository: &str, digest: &str) {
        self.repository(repository).blobs.remove(digest);
    }

    pub(crate) fn delete_repository(&mut self, repository: &str) {
        self.repositories.remove(repository);
    }

    /// Bytes at a path outside the registry protocol.
    pub(crate) fn file(&mut self, path: &str, content: impl Into<Content>) {
        self.files.insert(path.to_owned(), content.into());
    }

    /// The index by which clients find referrers where there is no API: the tag `sha256-<hex>`.
    pub(crate) fn tag_referrers(&mut self, repository: &str, subject: &str) -> String {
        let referrers = self.repository(repository).referrers.get(subject).cloned().unwrap_or_default();
        let index = index_of(&referrers).to_string();
        let digest = self.manifest(repository, INDEX, index);
        self.tag(repository, &subject.replace(':', "-"), &digest);
        digest
    }

    fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(crate) fn find(&self, repository: &str) -> Option<&Repository> {
        self.repositories.get(repository)
    }
}

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn index_of(descriptors: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors})
}

/// The subject, and the descriptor that its list of referrers shows.
fn referrer(digest: &str, media_type: &str, bytes: &[u8]) -> Option<(String, Value)> {
    let manifest: Value = serde_json::from_slice(bytes).ok()?;
    let subject = manifest["subject"]["digest"].as_str()?.to_owned();
    let artifact_type = manifest["artifactType"].as_str().or(manifest["config"]["mediaType"].as_str());
    let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
    if let Some(artifact_type) = artifact_type {
        descriptor["artifactType"] = artifact_type.into();
    }
    if manifest["annotations"].is_object() {
        descriptor["annotations"] = manifest["annotations"].clone();
    }
    Some((subject, descriptor))
}
