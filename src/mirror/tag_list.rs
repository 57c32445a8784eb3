//! `tags/list`: pages go through to upstream; where it cannot be asked, a page is cut from the last complete list.

use std::sync::Arc;

use crate::index::Scope;
use crate::upstream::TagsPage;

use super::negative::Asked;
use super::outcome::{Outcome, Provenance, PullError, TagsAnswer};
use super::{Member, Mirror, Place};

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

    fn is_first_page(&self) -> bool {
        self.last.is_none() && self.cursors.is_empty()
    }
}

impl Mirror {
    pub async fn tags(self: &Arc<Self>, place: &Place, query: &TagsQuery) -> Result<TagsAnswer, PullError> {
        let (member, scope) = self.enter(place)?;
        let mut answer = self.tags_page(&member, &scope, query).await?;
        if query.n == Some(0) {
            (answer.tags, answer.next) = (Vec::new(), None);
        }
        Ok(answer)
    }

    async fn tags_page(
        self: &Arc<Self>,
        member: &Arc<Member>,
        scope: &Scope,
        query: &TagsQuery,
    ) -> Result<TagsAnswer, PullError> {
        let up = query.upstream_query(member.upstream.settings().max_page);
        let name = format!("tags?{up}");
        if !member.policy.offline && self.is_known_missing(scope, Asked::Tags) {
            return Err(member.not_found(true));
        }
        let fetch = || {
            let (member, scope, up) = (Arc::clone(member), scope.clone(), up.clone());
            async move {
                let deadline = member.upstream.patience();
                Ok(member.upstream.list_tags(&scope.repository, &up, deadline).await?)
            }
        };
        match self.cached_list::<TagsPage, _, _>(member, scope, &name, fetch).await {
            Ok((page, provenance)) => {
                self.remember_if_complete(scope, query, &name, &page).await;
                Ok(TagsAnswer { tags: page.tags, next: page.next, provenance })
            }
            Err(error) => {
                let gone = error.is_denied() || (error.is_not_found() && !member.policy.offline);
                if gone {
                    if error.is_not_found() {
                        self.remember_missing(member, scope, Asked::Tags);
                    }
                    return Err(error);
                }
                self.held_tags(scope, query).await.ok_or(error)
            }
        }
    }

    /// The last complete list and the tags held since, cut to the page asked for; `None` if nothing is held.
    async fn held_tags(&self, scope: &Scope, query: &TagsQuery) -> Option<TagsAnswer> {
        let complete = self.index.list(scope, COMPLETE).await.ok().flatten();
        let listed: Option<TagsPage> = complete.as_ref().and_then(|row| serde_json::from_str(&row.content).ok());
        let mut tags = listed.map(|page| page.tags).unwrap_or_default();
        tags.extend(self.index.tags_of(scope).await.unwrap_or_default());
        tags.sort_unstable();
        tags.dedup();
        if tags.is_empty() {
            return None;
        }
        if let Some(last) = &query.last {
            tags.retain(|tag| tag > last);
        }
        let limit = query.n.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let more = tags.len() > limit;
        tags.truncate(limit);
        let next = tags.last().filter(|_| more).map(|last| {
            let mut next = url::form_urlencoded::Serializer::new(String::new());
            next.append_pair("n", &limit.to_string()).append_pair("last", last);
            next.finish()
        });
        let age = complete.map(|row| self.clock.now().since(row.checked));
        let stale_because = Some("upstream cannot be asked; this is what is held".to_owned());
        Some(TagsAnswer { tags, next, provenance: Provenance { outcome: Outcome::Stale, age, stale_because } })
    }

    /// A first page without a next one is the whole list.
    async fn remember_if_complete(&self, scope: &Scope, query: &TagsQuery, name: &str, page: &TagsPage) {
        if name == COMPLETE || !query.is_first_page() || page.next.is_some() {
            return;
        }
        let Ok(content) = serde_json::to_string(page) else { return };
        let now = self.clock.now();
        let row = crate::index::ListRow { content, checked: now, hold_until: crate::clock::Timestamp::default() };
        let change = crate::index::Change::PutList { scope: scope.clone(), list: COMPLETE.to_owned(), row };
        let _lost = self.index.apply(vec![change]).await;
    }
}

/// The list under which a complete answer is found: that of a request without paging.
const COMPLETE: &str = "tags?";
