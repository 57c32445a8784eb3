//! The registry of the distribution spec, read-only and honest.

use http::{Method, StatusCode};

use super::bytes::Content;
use super::contents::{Contents, Repository};
use crate::support::upstream::observe::record::Recorded;
use crate::support::upstream::server::answer::{Answer, Found};
use crate::support::upstream::server::route::Kind;

impl Contents {
    pub(crate) fn look_up(&self, request: &Recorded) -> Result<Found, Box<Answer>> {
        if request.method != Method::GET && request.method != Method::HEAD {
            let answer = Answer::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only");
            return Err(answer.header("allow", "GET, HEAD").into());
        }
        match request.kind {
            Kind::Ping => Ok(Found::new(Content::from("{}"))
                .media_type("application/json")
                .header("docker-distribution-api-version", "registry/2.0")),
            Kind::File => match self.files.get(&request.path) {
                Some(content) => Ok(Found::new(content.clone()).media_type("application/octet-stream").ranges()),
                None => Err(Answer::not_found("UNSUPPORTED").into()),
            },
            Kind::Token => Err(Answer::not_found("UNSUPPORTED").into()),
            Kind::Manifest | Kind::Blob | Kind::Tags | Kind::Referrers => self.look_up_in_repository(request),
        }
    }

    fn look_up_in_repository(&self, request: &Recorded) -> Result<Found, Box<Answer>> {
        let name = request.repository.as_deref().unwrap_or_default();
        let reference = request.reference.as_deref().unwrap_or_default();
        let Some(repository) = self.find(name) else { return Err(Answer::not_found("NAME_UNKNOWN").into()) };
        match request.kind {
            Kind::Manifest => repository.look_up_manifest(reference),
            Kind::Blob => match repository.blobs.get(reference) {
                Some(content) => {
                    Ok(Found::new(content.clone()).media_type("application/octet-stream").digest(reference).ranges())
                }
                None => Err(Answer::not_found("BLOB_UNKNOWN").into()),
            },
            Kind::Tags => self.lists.tags(name, repository, &request.query),
            Kind::Referrers => self.lists.referrers(name, repository, reference, &request.query),
            Kind::Token | Kind::Ping | Kind::File => unreachable!("these have no repository"),
        }
    }
}

impl Repository {
    fn look_up_manifest(&self, reference: &str) -> Result<Found, Box<Answer>> {
        let digest = self.tags.get(reference).map_or(reference, String::as_str);
        match self.manifests.get(digest) {
            Some(manifest) => Ok(Found::new(manifest.content.clone()).media_type(&manifest.media_type).digest(digest)),
            None => Err(Answer::not_found("MANIFEST_UNKNOWN").into()),
        }
    }
}
