mod link;

pub use link::next_page_query;

use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use crate::oci::{Digest, MediaType, Repository, read_object};

use crate::upstream::error::{Failure, UpstreamError};
use crate::upstream::request::{Fault, Kind, Question, Requests};
use crate::upstream::{Deadline, RegistryClient};

/// One page of `tags/list`, with the upstream's link to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsPage {
    pub tags: Vec<String>,
    /// The query of the next page, passed on as it is; `None` on the last page.
    pub next: Option<String>,
}

/// One page of referrers: descriptors as the upstream wrote them.
#[derive(Debug, Clone)]
pub struct ReferrersPage {
    /// Unchecked JSON.
    pub descriptors: Vec<serde_json::Value>,
    /// As in [`TagsPage`].
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct TagsBody {
    /// `null` in registries without tags.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct IndexBody {
    manifests: Option<Vec<serde_json::Value>>,
}

impl TagsPage {
    /// Reads a body; `next` is the query of its `Link`.
    pub fn read(body: &[u8], next: Option<String>) -> Option<Self> {
        let listed: TagsBody = read_object(body)?;
        Some(Self { tags: listed.tags.unwrap_or_default(), next })
    }
}

impl RegistryClient {
    /// One page of tags. `query` is sent unchanged; its `n` must be clamped by now.
    pub async fn list_tags(
        &self,
        repository: &Repository,
        query: &str,
        deadline: Deadline,
    ) -> Result<TagsPage, UpstreamError> {
        let question = &question(Kind::Tags, repository, "tags/list".to_owned(), query);
        Requests::of(self)
            .over_endpoints(
                Kind::Tags,
                deadline,
                |_| false,
                |_, endpoint| async move {
                    let response = Requests::of(self).exchange(&endpoint, question).await?;
                    let next = next_page(response.headers());
                    let limit = self.settings.max_list_size;
                    let bytes = Requests::of(self).read(response, limit, "max_list_size").await?;
                    let page = TagsPage::read(&bytes, next)
                        .ok_or_else(|| Failure::Refused("its tag list is not the spec's JSON".to_owned()))?;
                    Ok::<_, Fault>(page)
                },
            )
            .await
    }

    /// One page of referrers; `None` if the upstream has no referrers API. Any answer except 200 with an index means that
    /// (spec: 404; in practice also 400, 405, and redirects to HTML).
    pub async fn list_referrers(
        &self,
        repository: &Repository,
        subject: Digest,
        query: &str,
        deadline: Deadline,
    ) -> Result<Option<ReferrersPage>, UpstreamError> {
        let question = &question(Kind::Referrers, repository, format!("referrers/{subject}"), query);
        let listed = Requests::of(self)
            .over_endpoints(
                Kind::Referrers,
                deadline,
                |_| false,
                |_, endpoint| async move {
                    let response = match Requests::of(self).exchange(&endpoint, question).await {
                        Ok(response) => response,
                        Err(fault) if endpoint.partial && fault.failure == Failure::NotFound => return Err(fault),
                        Err(Fault {
                            failure: Failure::NotFound | Failure::UnexpectedStatus(_) | Failure::Refused(_),
                            ..
                        }) => return Ok(None),
                        Err(fault) => return Err(fault),
                    };
                    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
                    let is_index =
                        content_type.and_then(MediaType::parse).is_some_and(|t| t.as_str() == MediaType::OCI_INDEX);
                    if !is_index {
                        return Ok(None);
                    }
                    let next = next_page(response.headers());
                    let limit = self.settings.max_list_size;
                    let bytes = Requests::of(self).read(response, limit, "max_list_size").await?;
                    // The API exists and failed, which does not mean that there are no referrers.
                    let index: IndexBody = read_object(&bytes)
                        .ok_or_else(|| Failure::Refused("its list of referrers is not the spec's JSON".to_owned()))?;
                    Ok(Some(ReferrersPage { descriptors: index.manifests.unwrap_or_default(), next }))
                },
            )
            .await;
        match listed {
            // Of every endpoint, as none has everything.
            Err(UpstreamError { failure: Failure::NotFound, .. }) => Ok(None),
            listed => listed,
        }
    }
}

fn question(kind: Kind, repository: &Repository, tail: String, query: &str) -> Question {
    let query = Some(query.to_owned()).filter(|query| !query.is_empty());
    Question { method: Method::GET, kind, repository: repository.clone(), tail, query, range: None }
}

fn next_page(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_page_query)
}
