mod link;
mod reading;
mod referrer_list;
mod tag_list;

pub use link::next_page_query;
pub use reading::read_in_turn;
pub use referrer_list::ReferrerList;
pub use tag_list::TagList;

use http::Method;
use http::header::CONTENT_TYPE;

use crate::oci::{Digest, MediaType, Repository};

use crate::upstream::error::{Failure, UpstreamError};
use crate::upstream::request::{Fault, Kind, Question, Requests};
use crate::upstream::{Deadline, RegistryClient};

use link::next_page;

/// One page of `tags/list`, with the upstream's link to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagsPage {
    pub tags: TagList,
    /// The query of the next page, passed on as it is; `None` on the last page.
    pub next: Option<String>,
}

/// One page of referrers.
#[derive(Debug, Clone)]
pub struct ReferrersPage {
    pub list: ReferrerList,
    /// As in [`TagsPage`].
    pub next: Option<String>,
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
                    let next = next_page(response.headers())?;
                    let limit = self.settings.max_list_size;
                    let body = Requests::of(self).read(response, limit, "max_list_size").await?;
                    let tags = read_in_turn(body.bytes.len(), move || {
                        let tags = TagList::read(&body.bytes);
                        drop(body);
                        tags
                    });
                    let tags = tags.await.flatten();
                    let tags =
                        tags.ok_or_else(|| Failure::Refused("its tag list is not the spec's JSON".to_owned()))?;
                    Ok::<_, Fault>(TagsPage { tags, next })
                },
            )
            .await
    }

    /// One page of referrers; `None` if the upstream has no referrers API. Any answer except 200 with an index means that
    /// (spec: 404; in practice also 400, 405, 501, and redirects to HTML).
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
                            failure:
                                Failure::NotFound
                                | Failure::UnexpectedStatus(_)
                                | Failure::ServerError(501)
                                | Failure::Refused(_),
                            ..
                        }) => return Ok(None),
                        Err(fault) => return Err(fault),
                    };
                    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
                    let content_type = content_type.and_then(MediaType::parse);
                    let is = |name: &str| content_type.as_ref().is_some_and(|have| have.as_str() == name);
                    // A page for people.
                    if is("text/html") {
                        return Ok(None);
                    }
                    let is_typed = is(MediaType::OCI_INDEX);
                    let next = next_page(response.headers())?;
                    let limit = self.settings.max_list_size;
                    let body = Requests::of(self).read(response, limit, "max_list_size").await?;
                    // The list counts, whatever its label says.
                    let read = read_in_turn(body.bytes.len(), move || {
                        let list = ReferrerList::read(&body.bytes, !is_typed);
                        // An object of another kind, or a page.
                        let is_none = list.is_none() && !is_typed && !ReferrerList::breaks_off(&body.bytes);
                        drop(body);
                        (list, is_none)
                    });
                    let (list, is_none) = read.await.unwrap_or_default();
                    match list {
                        Some(list) => Ok(Some(ReferrersPage { list, next })),
                        None if is_none => Ok(None),
                        // The API exists and failed, which does not mean that there are no referrers.
                        None => Err(Failure::Refused("its list of referrers is not the spec's JSON".to_owned()).into()),
                    }
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
