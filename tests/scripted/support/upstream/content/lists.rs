//! Lists in pages: tags and referrers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use super::bytes::Content;
use super::contents::{INDEX, Repository, index_of};
use crate::support::upstream::server::answer::{Answer, Found};
use crate::support::upstream::server::route::query_values;

/// How this registry pages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lists {
    /// The longest page, whatever is asked for.
    pub(crate) page: Option<usize>,
    /// An `n` above this is refused with 400.
    pub(crate) highest_n: Option<usize>,
    /// Quay's way: `next_page` carries a cursor, and `last` is ignored.
    pub(crate) opaque_cursor: bool,
    pub(crate) no_referrers_api: bool,
    pub(crate) no_referrers_filter: bool,
}

impl Lists {
    pub(crate) fn tags(self, name: &str, repository: &Repository, query: &str) -> Result<Found, Box<Answer>> {
        let n = first(query, "n").and_then(|n| n.parse::<usize>().ok());
        if n > self.highest_n.or(n) {
            return Err(Answer::error(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is too high").into());
        }
        let after = if self.opaque_cursor { opened(query, "next_page") } else { first(query, "last") };
        let limit = n.into_iter().chain(self.page).min().unwrap_or(usize::MAX);
        let mut rest = repository.tags.keys().filter(|tag| after.as_ref().is_none_or(|after| *tag > after));
        let page = rest.by_ref().take(limit).collect::<Vec<_>>();
        let body = json!({"name": name, "tags": page}).to_string();
        let found = Found::new(Content::from(body)).media_type("application/json");
        match page.last() {
            Some(last) if rest.next().is_some() => {
                let cursor =
                    if self.opaque_cursor { format!("next_page={}", sealed(last)) } else { format!("last={last}") };
                let n = n.map_or(String::new(), |n| format!("n={n}&"));
                Ok(found.link(&format!("/v2/{name}/tags/list?{n}{cursor}")))
            }
            Some(_) | None => Ok(found),
        }
    }

    pub(crate) fn referrers(
        self,
        name: &str,
        repository: &Repository,
        subject: &str,
        query: &str,
    ) -> Result<Found, Box<Answer>> {
        if self.no_referrers_api {
            return Err(Answer::error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such route").into());
        }
        if !subject.contains(':') {
            return Err(Answer::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest").into());
        }
        let wanted = if self.no_referrers_filter { Vec::new() } else { query_values(query, "artifactType") };
        let is_wanted = |descriptor: &&Value| {
            wanted.is_empty() || wanted.iter().any(|wanted| descriptor["artifactType"] == wanted.as_str())
        };
        let all = repository.referrers.get(subject).map_or(&[][..], Vec::as_slice);
        let start = opened(query, "cursor").and_then(|start| start.parse::<usize>().ok()).unwrap_or(0);
        let mut rest = all.iter().filter(is_wanted).skip(start);
        let page = rest.by_ref().take(self.page.unwrap_or(usize::MAX)).cloned().collect::<Vec<_>>();
        let body = index_of(&page).to_string();
        let mut found = Found::new(Content::from(body)).media_type(INDEX);
        if !wanted.is_empty() {
            found = found.header("oci-filters-applied", "artifactType");
        }
        if rest.next().is_some() {
            let filter = wanted.iter().fold(String::new(), |filter, wanted| {
                let wanted = url::form_urlencoded::byte_serialize(wanted.as_bytes()).collect::<String>();
                format!("{filter}artifactType={wanted}&")
            });
            let cursor = sealed(&(start + page.len()).to_string());
            found = found.link(&format!("/v2/{name}/referrers/{subject}?{filter}cursor={cursor}"));
        }
        Ok(found)
    }
}

fn first(query: &str, key: &str) -> Option<String> {
    query_values(query, key).into_iter().next()
}

fn sealed(cursor: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("after {cursor}"))
}

fn opened(query: &str, key: &str) -> Option<String> {
    let cursor = URL_SAFE_NO_PAD.decode(first(query, key)?).ok()?;
    Some(String::from_utf8(cursor).ok()?.strip_prefix("after ")?.to_owned())
}
