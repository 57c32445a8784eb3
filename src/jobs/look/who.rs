//! Who pulled something.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::find::{full_digest, holdings};
use crate::clock::Timestamp;
use crate::index::{Pull, PullQuestion, pulls};
use crate::jobs::Refused;
use crate::mirror::Mirror;
use crate::oci::{Digest, Named, Tag};

/// Entries of one answer.
const MOST: usize = 10_000;

/// The answer to `who`, the last pull first.
#[derive(Debug, Serialize)]
pub struct Pullers {
    pub pulls: Vec<Puller>,
    /// There are more than are told.
    pub has_more: bool,
}

/// One client, and what it pulled by one name.
#[derive(Debug, Serialize)]
pub struct Puller {
    /// The name of its identity, or its address.
    pub who: String,
    /// With its registry.
    pub repository: String,
    /// `None`: by the digest.
    pub tag: Option<Tag>,
    /// The manifest.
    pub digest: Digest,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Requests: clients often ask twice for what they pull once.
    pub count: u64,
}

/// Who pulled an image, a whole repository (a name without tag and digest), or a digest: a manifest, or a blob of manifests
/// that are held. As far as it was recorded, and is kept.
pub async fn who(mirror: &Arc<Mirror>, named: &Named, since: Option<Duration>) -> Result<Pullers, Refused> {
    let since = since.map_or_else(Timestamp::default, |since| mirror.cache().context.clock.now().before(since));
    let mut question = PullQuestion { since, ..PullQuestion::default() };
    match named {
        Named::Content(short) => question.digest = Some(full_digest(mirror, None, short).await?),
        Named::Image(name) => {
            let holdings = holdings(mirror, &name.authority, &name.repository)?;
            let scope = holdings.scope();
            question.repository = Some((scope.authority.clone(), scope.repository.clone()));
            match &name.digest {
                Some(short) => question.digest = Some(full_digest(mirror, Some(&holdings), short).await?),
                None => question.tag.clone_from(&name.tag),
            }
        }
    }
    let (found, has_more) = pulls(&mirror.cache().index, question, MOST).await?;
    let puller = |pull: Pull| {
        let Pull { authority, repository, digest, tag, who, first, last, count } = pull;
        Puller {
            who: who.to_string(),
            repository: format!("{authority}/{repository}"),
            tag,
            digest,
            first,
            last,
            count,
        }
    };
    Ok(Pullers { pulls: found.into_iter().map(puller).collect(), has_more })
}
