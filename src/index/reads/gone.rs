//! Rows about manifests whose bytes are gone.

use crate::index::schema::{BLOBS, OwnedKey, REFERRERS};
use crate::index::{DropReferrers, Index, IndexError};

/// Looks at up to `limit` referrers behind `after`: those that are not stored any more, and where to go on; `None` at the
/// end. Such a one is known again when it is fetched again.
pub async fn gone_referrers(
    index: &Index,
    after: Option<OwnedKey>,
    limit: usize,
) -> Result<(DropReferrers, Option<OwnedKey>), IndexError> {
    index
        .read(move |from| {
            let (rows, blobs) = (from.open_table(REFERRERS)?, from.open_table(BLOBS)?);
            let start = after.unwrap_or_default();
            let start = (start.0, start.1.as_str(), start.2.as_str(), start.3.as_str());
            let mut gone = Vec::new();
            for (seen, entry) in rows.range(start..)?.enumerate() {
                let (key, _) = entry?;
                let (domain, authority, repository, both) = key.value();
                let owned = (domain, authority.to_owned(), repository.to_owned(), both.to_owned());
                if seen >= limit {
                    return Ok((DropReferrers(gone), Some(owned)));
                }
                let referrer = both.split_once(' ').map_or("", |(_, referrer)| referrer);
                if blobs.get(referrer)?.is_none() {
                    gone.push(owned);
                }
            }
            Ok((DropReferrers(gone), None))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::health::Health;
    use crate::index::{BeginEviction, BlobRow, Change, EndEviction, PutBlob, PutReferrer, ReferrerRow, Scope};
    use crate::oci::{Algorithm, Digest};

    #[tokio::test]
    async fn t51_rows_of_referrers_go_with_their_manifests() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::open(root.path(), Health::default(), Timestamp::default(), &|_| Ok(())).unwrap().0;
        let digest = |nth: u32| Digest::of(Algorithm::Sha256, &nth.to_le_bytes());
        let scope = Scope { domain: 0, authority: "a.test".parse().unwrap(), repository: "app".parse().unwrap() };
        let subject = digest(0);
        for nth in 1..=5 {
            let row = ReferrerRow { descriptor: serde_json::json!({ "size": nth }) };
            let put = PutReferrer { scope: scope.clone(), subject, referrer: digest(nth), row };
            index.apply(vec![put.into()]).await.unwrap();
        }
        let row = BlobRow { size_bytes: 1, origin: None, stored: Timestamp::default() };
        let store = |nth| Change::from(PutBlob { digest: digest(nth), row: row.clone() });
        index.apply(vec![store(1)]).await.unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (gone, next) = gone_referrers(&index, after, 2).await.unwrap();
            found.extend(gone.0);
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found.len(), 4);
        // One of them was stored meanwhile.
        index.apply(vec![store(2), DropReferrers(found).into()]).await.unwrap();
        let left = index.referrers_of(&scope, subject).await.unwrap();
        let mut left: Vec<_> = left.into_iter().map(|row| row.descriptor["size"].clone()).collect();
        left.sort_by_key(serde_json::Value::as_u64);
        assert_eq!(left, [1, 2]);
        let begin = Change::from(BeginEviction(vec![digest(1)]));
        let end = Change::from(EndEviction { digests: vec![digest(1)], gone: true });
        index.apply(vec![begin, end]).await.unwrap();
        let left = index.referrers_of(&scope, subject).await.unwrap();
        assert_eq!(left.len(), 1, "the row of one that is evicted goes at once");
        assert_eq!(left[0].descriptor["size"], 2);
        index.close().await;
    }
}
