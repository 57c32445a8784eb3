//! Changing what an upstream holds. Each is `Contents`' method of the same name.

use bytes::Bytes;

use super::bytes::Content;
use crate::support::upstream::Upstream;

impl Upstream {
    pub(crate) fn blob(&self, repository: &str, content: impl Into<Content>) -> String {
        let content = content.into();
        // Before the lock: hashing a gigabyte takes a second.
        let digest = content.sha256();
        self.blob_as(repository, &digest, content);
        digest
    }

    pub(crate) fn blob_as(&self, repository: &str, digest: &str, content: impl Into<Content>) {
        self.shared.lock().contents.blob_as(repository, digest, content);
    }

    pub(crate) fn manifest(&self, repository: &str, media_type: &str, bytes: impl Into<Bytes>) -> String {
        self.shared.lock().contents.manifest(repository, media_type, bytes)
    }

    pub(crate) fn manifest_as(&self, repository: &str, digest: &str, media_type: &str, bytes: impl Into<Bytes>) {
        self.shared.lock().contents.manifest_as(repository, digest, media_type, bytes);
    }

    pub(crate) fn tag(&self, repository: &str, tag: &str, digest: &str) {
        self.shared.lock().contents.tag(repository, tag, digest);
    }

    pub(crate) fn remove_tag(&self, repository: &str, tag: &str) {
        self.shared.lock().contents.remove_tag(repository, tag);
    }

    pub(crate) fn remove_manifest(&self, repository: &str, digest: &str) {
        self.shared.lock().contents.remove_manifest(repository, digest);
    }

    pub(crate) fn remove_blob(&self, repository: &str, digest: &str) {
        self.shared.lock().contents.remove_blob(repository, digest);
    }

    pub(crate) fn delete_repository(&self, repository: &str) {
        self.shared.lock().contents.delete_repository(repository);
    }

    pub(crate) fn file(&self, path: &str, content: impl Into<Content>) {
        self.shared.lock().contents.file(path, content);
    }

    pub(crate) fn tag_referrers(&self, repository: &str, subject: &str) -> String {
        self.shared.lock().contents.tag_referrers(repository, subject)
    }
}
