//! The tags of a repository.

use std::sync::Arc;

use serde::Serialize;

use super::examine::{Kind, Wholeness, examine};
use super::page::PageQuery;
use crate::clock::Timestamp;
use crate::index::{HistoryEntry, TagRow, tags_behind};
use crate::jobs::Refused;
use crate::mirror::{Holdings, Mirror, TagState};
use crate::oci::{Authority, Digest, Repository, Tag};

/// A page of tags.
#[derive(Debug, Serialize)]
pub struct Tags {
    /// With its registry.
    pub repository: String,
    pub tags: Vec<TagEntry>,
    /// `after` of the next page.
    pub next: Option<String>,
}

/// One tag.
#[derive(Debug, Serialize)]
pub struct TagEntry {
    pub tag: Tag,
    /// `None` if upstream said that it is gone.
    pub digest: Option<Digest>,
    pub kind: Kind,
    /// Those of which an image is held whole.
    pub platforms: Vec<String>,
    /// Whether it could be pulled if no upstream answered.
    pub held: Wholeness,
    pub state: TagState,
    /// The tag that it stands for.
    pub alias: Option<String>,
    /// When upstream was last asked.
    pub checked: Timestamp,
    /// The newer digest that `min_age` holds back, and since when it was seen.
    pub waiting: Option<Moved>,
    /// Where it pointed, and since when; the last one is where it points.
    pub history: Vec<Moved>,
}

#[derive(Debug, Serialize)]
pub struct Moved {
    pub digest: Digest,
    pub since: Timestamp,
}

/// The tags of a repository that a glob names, or all, in ASCII order.
pub async fn tags(
    mirror: &Arc<Mirror>,
    (authority, repository): (&Authority, &Repository),
    glob: Option<&str>,
    page: &PageQuery,
) -> Result<Tags, Refused> {
    let limit = page.limit()?;
    let glob = glob.map(glob::Pattern::new).transpose().map_err(|err| Refused::invalid(format!("glob: {err}")))?;
    let holdings = super::holdings(mirror, authority, repository)?;
    let is_wanted = move |tag: &str| glob.as_ref().is_none_or(|glob| glob.matches(tag));
    let after = page.after.clone().unwrap_or_default();
    let index = &mirror.cache().index;
    let (rows, has_more) = tags_behind(index, holdings.scope(), after.clone(), limit, is_wanted).await?;
    if rows.is_empty() && after.is_empty() && !index.knows_manifests_of(holdings.scope()).await? {
        let scope = holdings.scope();
        return Err(Refused::not_found(format!("nothing of {}/{} is held", scope.authority, scope.repository)));
    }
    let next = rows.last().filter(|_| has_more).map(|(tag, _)| tag.to_string());
    let mut tags = Vec::new();
    for (tag, row) in rows {
        tags.push(entry(&holdings, tag, row).await?);
    }
    let scope = holdings.scope();
    Ok(Tags { repository: format!("{}/{}", scope.authority, scope.repository), tags, next })
}

async fn entry(holdings: &Holdings, tag: Tag, row: TagRow) -> Result<TagEntry, Refused> {
    let state = holdings.state(&tag, &row);
    let (kind, platforms, held) = match row.digest {
        Some(digest) => {
            let examined = examine(holdings, digest).await?;
            (examined.kind, examined.platforms(), examined.wholeness())
        }
        None => (Kind::Unknown, Vec::new(), Wholeness::Incomplete),
    };
    let (digest, checked) = (row.digest, row.checked);
    let alias = row.alias.as_ref().map(ToString::to_string);
    let waiting = history(row.waiting.into_iter().collect()).pop();
    let history = history(row.history);
    Ok(TagEntry { tag, digest, kind, platforms, held, state, alias, checked, waiting, history })
}

pub(super) fn history(entries: Vec<HistoryEntry>) -> Vec<Moved> {
    entries.into_iter().map(|HistoryEntry { digest, since }| Moved { digest, since }).collect()
}
