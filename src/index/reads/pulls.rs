//! Who pulled what.

use std::collections::{BTreeMap, HashSet};

use redb::ReadTransaction;

use crate::clock::Timestamp;
use crate::index::facts::Pull;
use crate::index::schema::{self, CHILDREN, PULLS};
use crate::index::{Index, IndexError};
use crate::oci::{Authority, Digest, Repository, Tag};

/// Different pulls that are held in memory for one question.
const MAX_GROUPS: usize = 100_000;

/// The pulls that are asked for.
#[derive(Debug, Clone, Default)]
pub struct PullQuestion {
    pub repository: Option<(Authority, Repository)>,
    pub tag: Option<Tag>,
    /// A manifest; or a blob, which is asked for as the manifests that list it.
    pub digest: Option<Digest>,
    pub since: Timestamp,
}

/// Up to `limit` pulls, the last ones first, and whether there are more. Reads all that is recorded since then.
pub async fn pulls(index: &Index, question: PullQuestion, limit: usize) -> Result<(Vec<Pull>, bool), IndexError> {
    index
        .read(move |from| {
            let mut wanted = question.digest.map(|digest| HashSet::from([digest]));
            let (mut found, mut has_more) = matching(from, &question, wanted.as_ref())?;
            if let Some(digest) = question.digest.filter(|_| found.is_empty()) {
                wanted = Some(listing(from, digest)?);
                (found, has_more) = matching(from, &question, wanted.as_ref())?;
            }
            found.sort_by_key(|pull| std::cmp::Reverse(pull.last));
            has_more |= found.len() > limit;
            found.truncate(limit);
            Ok((found, has_more))
        })
        .await
}

fn matching(
    from: &ReadTransaction,
    question: &PullQuestion,
    digests: Option<&HashSet<Digest>>,
) -> Result<(Vec<Pull>, bool), IndexError> {
    let table = match from.open_table(PULLS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((Vec::new(), false)),
        table => table?,
    };
    let (mut groups, mut has_more): (BTreeMap<_, Pull>, bool) = (BTreeMap::new(), false);
    for entry in table.range((question.since.day(), "", "", "", "", "")..)? {
        let (key, row) = entry?;
        let (_, authority, repository, digest, tag, who) = key.value();
        let is_named = question
            .repository
            .as_ref()
            .is_none_or(|named| named.0.as_str() == authority && named.1.as_str() == repository);
        let is_tagged = question.tag.as_ref().is_none_or(|named| named.as_str() == tag);
        let (first, last, count) = row.value();
        if !is_named || !is_tagged || last < question.since.as_millis() {
            continue;
        }
        let Ok(digest) = digest.parse::<Digest>() else { continue };
        if digests.is_some_and(|digests| !digests.contains(&digest)) {
            continue;
        }
        let (Ok(authority), Ok(repository)) = (authority.parse::<Authority>(), repository.parse::<Repository>()) else {
            continue;
        };
        let (first, last) = (Timestamp::from_millis(first), Timestamp::from_millis(last));
        let group = (authority.to_string(), repository.to_string(), digest, tag.to_owned(), who.to_owned());
        if groups.len() >= MAX_GROUPS && !groups.contains_key(&group) {
            has_more = true;
            continue;
        }
        let made =
            Pull { authority, repository, digest, tag: tag.parse().ok(), who: who.into(), first, last, count: 0 };
        let pull = groups.entry(group).or_insert(made);
        (pull.first, pull.last) = (pull.first.min(first), pull.last.max(last));
        pull.count = pull.count.saturating_add(count);
    }
    Ok((groups.into_values().collect(), has_more))
}

/// The manifests that list a digest.
fn listing(from: &ReadTransaction, digest: Digest) -> Result<HashSet<Digest>, IndexError> {
    let mut found = HashSet::new();
    schema::each_of(&from.open_table(CHILDREN)?, |manifest, children: Vec<Digest>| {
        if children.contains(&digest) {
            found.insert(manifest);
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Health;
    use crate::index::{Change, NotePulls};
    use crate::oci::Algorithm;

    const DAY: u64 = 86_400_000;

    fn pull(day: u64, nth: u64) -> Pull {
        let at = Timestamp::from_millis(day * DAY + nth);
        let digest = Digest::of(Algorithm::Sha256, &nth.to_le_bytes());
        let (authority, repository) = ("docker.io".parse().unwrap(), "org/app".parse().unwrap());
        Pull { authority, repository, digest, tag: None, who: "10.0.0.1".into(), first: at, last: at, count: 1 }
    }

    #[tokio::test]
    async fn t114_what_is_recorded_of_pulls_is_bounded_by_bytes_and_by_days() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::open(root.path(), Health::default(), Timestamp::default(), &|_| Ok(())).unwrap().0;
        let note = async |pulls: Vec<Pull>, first_day, max_bytes| {
            index.apply(vec![Change::from(NotePulls { pulls, first_day, max_bytes })]).await.unwrap();
            pulls_of(&index).await
        };
        let first: Vec<Pull> = (0..100).map(|nth| pull(10, nth)).collect();
        assert_eq!(note(first.clone(), 0, u64::MAX).await.len(), 100);
        let again = note(first, 0, u64::MAX).await;
        assert_eq!((again.len(), again[0].count), (100, 2), "the same pulls take no more rows");
        let row = 64 + "docker.io".len() + "org/app".len() + "sha256:".len() + 64 + "10.0.0.1".len();
        let most = 50 * u64::try_from(row).unwrap();
        let kept = note((0..100).map(|nth| pull(11, 1000 + nth)).collect(), 0, most).await;
        assert_eq!(kept.len(), 50);
        assert!(kept.iter().all(|pull| pull.last.day() == 11), "the oldest went first");
        assert_eq!(note(Vec::new(), 12, u64::MAX).await, []);
        assert_eq!(note(vec![pull(12, 1)], 12, 0).await, [], "no room is none");
        assert_eq!(note(vec![pull(12, 1)], 12, u64::MAX).await.len(), 1, "the sum has not gone wrong");
        index.close().await;
    }

    async fn pulls_of(index: &Index) -> Vec<Pull> {
        pulls(index, PullQuestion::default(), usize::MAX).await.unwrap().0
    }
}
