use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

use crate::oci::{Digest, MediaType, Reference, Repository};

use crate::upstream::error::{Failure, UpstreamError};
use crate::upstream::request::{Fault, Kind, Question, Requests};
use crate::upstream::{Deadline, RegistryClient, body};

/// The headers of a manifest's HEAD. They are claims, not proof.
#[derive(Debug, Clone)]
pub struct ManifestHead {
    pub digest: Option<Digest>,
    pub media_type: Option<MediaType>,
    pub size_bytes: Option<u64>,
}

/// A manifest's body, not yet verified against a digest.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    pub bytes: Bytes,
    /// Until it is kept elsewhere.
    _room: Option<Arc<body::Room>>,
    pub content_type: Option<MediaType>,
    /// `Docker-Content-Digest`. Only its algorithm is used.
    pub claimed: Option<Digest>,
    /// Index of the endpoint that sent it.
    pub endpoint: usize,
}

impl RegistryClient {
    /// HEAD of a tag, which Docker Hub does not count as a pull. Where it says no, the caller uses GET
    /// ([`Failure::leaves_it_to_get`]). Fails with `HeadRefused` too if HEAD told nothing a while ago.
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        deadline: Deadline,
    ) -> Result<ManifestHead, UpstreamError> {
        // Not through `over_endpoints`: no request is sent, so a breaker must not see an answer.
        if self.endpoints.iter().all(|endpoint| endpoint.head_is_useless()) {
            return Err(self.error_at(0, Failure::HeadRefused));
        }
        let question = &question(Method::HEAD, repository, reference);
        // GET decides where HEAD failed, so HEAD is not repeated.
        Requests::of(&self.asking_once())
            .over_endpoints(
                Kind::Manifest,
                deadline,
                |_| false,
                |_, endpoint| async move {
                    if endpoint.head_is_useless() {
                        return Err(Failure::HeadRefused.into());
                    }
                    // A refusal is not remembered here: 401 and 403 may concern the repository only.
                    let response = Requests::of(self).exchange(&endpoint, question).await?;
                    let head = head_of(response.headers());
                    if head.digest.is_none() {
                        endpoint.remember_head_is_useless();
                    }
                    Ok(head)
                },
            )
            .await
    }

    /// Records that the endpoint answers GET where it refused HEAD, so that HEAD is not tried for a while.
    pub fn remember_head_is_refused(&self, endpoint: usize) {
        if let Some(endpoint) = self.endpoints.get(endpoint) {
            endpoint.remember_head_is_useless();
        }
    }

    /// Fetches a manifest of at most `max_manifest_size`. The caller verifies it.
    pub async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        deadline: Deadline,
    ) -> Result<FetchedManifest, UpstreamError> {
        let question = &question(Method::GET, repository, reference);
        let skip = |at| match reference {
            Reference::Digest(digest) => self.is_marked_bad(at, *digest),
            Reference::Tag(_) => false,
        };
        Requests::of(self)
            .over_endpoints(Kind::Manifest, deadline, skip, |at, endpoint| async move {
                let response = Requests::of(self).exchange(&endpoint, question).await?;
                let head = head_of(response.headers());
                let limit = self.settings.max_manifest_size;
                let body::Body { bytes, room } = Requests::of(self).read(response, limit, "max_manifest_size").await?;
                Ok::<_, Fault>(FetchedManifest {
                    bytes,
                    _room: room.map(Arc::new),
                    content_type: head.media_type,
                    claimed: head.digest,
                    endpoint: at,
                })
            })
            .await
    }
}

fn question(method: Method, repository: &Repository, reference: &Reference) -> Question {
    Question {
        method,
        kind: Kind::Manifest,
        repository: repository.clone(),
        tail: format!("manifests/{reference}"),
        query: None,
        range: None,
    }
}

fn head_of(headers: &HeaderMap) -> ManifestHead {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    ManifestHead {
        digest: text("docker-content-digest").and_then(|digest| digest.trim().parse().ok()),
        media_type: text(CONTENT_TYPE.as_str()).and_then(MediaType::parse),
        size_bytes: body::content_length(headers),
    }
}
