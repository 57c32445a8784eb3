//! `tags/list`: pages go through to upstream; where it cannot be asked, a page is cut from the last complete list.

use std::sync::Arc;

use super::{List, ListRequest, shared, unread};
use crate::index::{ALL_TAGS, Scope};
use crate::mirror::Mirror;
use crate::mirror::answer::{Outcome, Provenance, TagsAnswer};
use crate::mirror::error::PullError;
use crate::mirror::negative_cache::Asked;
use crate::mirror::registries::Registry;
use crate::upstream::{TagList, TagsPage, read_in_turn};

/// The paging part of a request, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagsQuery {
    pub n: Option<u32>,
    pub last: Option<String>,
    /// Cursors of upstream's own, as in `next_page` of quay.io; handed through.
    pub cursors: Vec<(String, String)>,
}

impl TagsQuery {
    /// The query that goes up, with `n` within what this upstream accepts.
    fn upstream_query(&self, max_page: u32) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(n) = self.n {
            query.append_pair("n", &n.clamp(1, max_page).to_string());
        }
        if let Some(last) = &self.last {
            query.append_pair("last", last);
        }
        query.extend_pairs(&self.cursors);
        query.finish()
    }

    /// Whether `page`, which is the answer to this, has all tags. A page that is full may go on: `Link` is optional.
    fn is_whole_list(&self, page: &TagsPage, max_page: u32) -> bool {
        let limit = self.n.map(|n| n.clamp(1, max_page));
        let is_full = limit.is_some_and(|limit| page.tags.count() as u64 >= u64::from(limit));
        self.is_first_page() && page.next.is_none() && !is_full
    }

    fn is_first_page(&self) -> bool {
        self.last.is_none() && self.cursors.is_empty()
    }
}

impl TagsQuery {
    /// The page asked for, out of all tags.
    fn cut_from(&self, tags: &TagList) -> TagsPage {
        let limit = self.n.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let (tags, more) = tags.page(self.last.as_deref(), limit);
        let next = tags.names().last().filter(|_| more).map(|last| {
            let mut next = url::form_urlencoded::Serializer::new(String::new());
            next.append_pair("n", &limit.to_string()).append_pair("last", &last);
            next.finish()
        });
        TagsPage { tags, next }
    }

    /// Some registries ignore `n` and `last`, and the order: distribution before 3 does. Such an answer is the whole list,
    /// from which the page can be cut.
    fn mend(&self, page: TagsPage) -> TagsPage {
        if page.next.is_some() || !self.cursors.is_empty() {
            return page;
        }
        let names = || page.tags.names();
        let is_longer = self.n.is_some_and(|n| n > 0 && page.tags.count() as u64 > u64::from(n));
        let is_from_the_start = self.last.as_ref().is_some_and(|last| names().any(|tag| tag == *last));
        let is_unordered = !names().is_sorted() && !names().is_sorted_by_key(|tag| tag.to_lowercase());
        if is_longer || is_from_the_start || is_unordered { self.cut_from(&page.tags) } else { page }
    }
}

pub(in crate::mirror) async fn tags(
    mirror: &Arc<Mirror>,
    registry: &Arc<Registry>,
    scope: &Scope,
    query: &TagsQuery,
) -> Result<TagsAnswer, PullError> {
    let query = without_made_up_cursors(mirror, scope, query).await;
    let mut answer = page(mirror, registry, scope, &query).await?;
    if query.n == Some(0) {
        (answer.tags, answer.next) = (TagList::default().json().clone(), None);
    }
    Ok(answer)
}

/// Parameters that neither the spec nor upstream's own links know are not passed on: each would be a list of its own.
async fn without_made_up_cursors(mirror: &Mirror, scope: &Scope, query: &TagsQuery) -> TagsQuery {
    let mut query = query.clone();
    if !query.cursors.is_empty() {
        let links = mirror.cache.index.next_pages(scope, ALL_TAGS).await.unwrap_or_default();
        query.cursors.retain(|(name, _)| {
            let is_in = |link: &String| url::form_urlencoded::parse(link.as_bytes()).any(|(key, _)| key == *name);
            KNOWN_CURSORS.contains(&name.as_str()) || links.iter().any(is_in)
        });
    }
    query
}

async fn page(
    mirror: &Arc<Mirror>,
    registry: &Arc<Registry>,
    scope: &Scope,
    query: &TagsQuery,
) -> Result<TagsAnswer, PullError> {
    let max_page = registry.client().settings().max_page;
    let up = query.upstream_query(max_page);
    let name = format!("{ALL_TAGS}{up}");
    // A cursor that upstream does not know says nothing about the list: only its beginning does.
    let family = if query.is_first_page() { ALL_TAGS.to_owned() } else { name.clone() };
    let is_offline = registry.policy.offline;
    if !is_offline && query.is_first_page() && mirror.negative_cache.is_missing(scope, Asked::Tags) {
        return Err(registry.not_found(true));
    }
    let request = ListRequest {
        mirror: Arc::clone(mirror),
        registry: Arc::clone(registry),
        scope: scope.clone(),
        name,
        family,
        about: None,
    };
    let fetch = || {
        let (request, query, up) = (request.clone(), query.clone(), up.clone());
        async move {
            let client = request.registry.client();
            let deadline = client.answer_deadline();
            let page = client.list_tags(&request.scope.repository, &up, deadline).await?;
            let mended = read_in_turn(page.tags.json().len(), move || {
                let page = query.mend(page);
                (query.is_whole_list(&page, max_page), page)
            });
            let (is_whole, TagsPage { tags, next }) = mended.await.ok_or_else(unread)?;
            let list = List { json: tags.json().clone(), next };
            if is_whole && request.name != ALL_TAGS {
                request.put(ALL_TAGS, list.clone()).await;
            }
            Ok(list)
        }
    };
    match request.get(fetch).await {
        Ok((List { json, next }, provenance)) => Ok(TagsAnswer { tags: json, next, provenance }),
        Err(error) => {
            let is_gone = error.is_not_found() && !is_offline;
            if is_gone && query.is_first_page() {
                mirror.negative_cache.remember(scope, Asked::Tags, registry.policy.negative_ttl);
            }
            let is_final = error.is_denied() || error.is_upstreams_word() || matches!(error, PullError::Crowded(_));
            if is_gone || is_final {
                return Err(error);
            }
            let mut held = held(mirror, registry, scope, query).await.ok_or(error)?;
            held.tags = shared(mirror.cache.index.contents(), &scope.authority, held.tags).await?;
            Ok(held)
        }
    }
}

/// The last complete list and the tags held since, cut to the page asked for; `None` if nothing is held.
async fn held(mirror: &Mirror, registry: &Registry, scope: &Scope, query: &TagsQuery) -> Option<TagsAnswer> {
    let (now, index) = (mirror.cache.context.clock.now(), &mirror.cache.index);
    let complete = index.list(scope, ALL_TAGS).await.ok().flatten();
    let complete = complete.filter(|row| registry.policy.within_max_stale(now.since(row.checked)));
    let listed = complete.as_ref().and_then(List::of).map(|list| TagList::kept(list.json)).unwrap_or_default();
    let since = index.tags_of(scope, registry.policy.public).await.unwrap_or_default();
    if listed.is_empty() && since.is_empty() {
        return None;
    }
    let query = query.clone();
    let cut = read_in_turn(listed.json().len(), move || query.cut_from(&listed.and(&since)));
    let TagsPage { tags, next } = cut.await?;
    let age = complete.map(|row| now.since(row.checked));
    let stale_because = Some("upstream cannot be asked; this is what is held".to_owned());
    let tags = tags.json().clone();
    Some(TagsAnswer {
        tags,
        next,
        provenance: Provenance { outcome: Outcome::Stale, age, stale_because, held_back: None },
    })
}

/// Cursors of large registries, known before their first link was seen: quay.io's.
const KNOWN_CURSORS: [&str; 1] = ["next_page"];

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(n: Option<u32>, last: Option<&str>, tags: &[&str]) -> (Vec<String>, Option<String>) {
        let query = TagsQuery { n, last: last.map(str::to_owned), cursors: Vec::new() };
        let TagsPage { tags, next } = query.mend(TagsPage { tags: TagList::of(tags.iter().copied()), next: None });
        (tags.names().map(std::borrow::Cow::into_owned).collect(), next)
    }

    #[test]
    fn a_page_is_cut_from_a_list_that_ignores_the_query() {
        assert_eq!(mend(Some(2), None, &["c", "a", "b"]), (vec!["a".into(), "b".into()], Some("n=2&last=b".into())));
        assert_eq!(mend(Some(2), Some("b"), &["c", "a", "b"]), (vec!["c".into()], None));
        assert_eq!(mend(None, Some("a"), &["a", "b"]), (vec!["b".into()], None));
        assert_eq!(mend(None, None, &["b", "a"]), (vec!["a".into(), "b".into()], None));
    }

    #[test]
    fn a_page_that_keeps_to_the_query_stays_as_it_is() {
        assert_eq!(
            mend(Some(2), Some("a"), &["b", "C"]),
            (vec!["b".into(), "C".into()], None),
            "case-insensitive order"
        );
        assert_eq!(mend(Some(0), None, &["a"]), (vec!["a".into()], None));
    }
}
