//! Which blobs nobody may read.

use std::collections::HashSet;

use redb::ReadableTable as _;

use crate::index::facts::BlobRow;
use crate::index::schema::{BLOB_GRANTS, BLOBS, MANIFEST_GRANTS};
use crate::index::{Index, IndexError};
use crate::oci::Digest;

use super::parse;

/// Those of the digests that no scope was granted. Reads all grants: a second for a million.
pub async fn ungranted(index: &Index, digests: Vec<Digest>) -> Result<HashSet<Digest>, IndexError> {
    index
        .read(move |from| {
            let mut left: HashSet<Digest> = digests.into_iter().collect();
            for table in [MANIFEST_GRANTS, BLOB_GRANTS] {
                if left.is_empty() {
                    break;
                }
                for entry in from.open_table(table)?.iter()? {
                    if let Ok(digest) = entry?.0.value().3.parse::<Digest>() {
                        left.remove(&digest);
                    }
                }
            }
            Ok(left)
        })
        .await
}

/// Up to `limit` recorded blobs behind `after`, and where to go on; `None` at the end.
pub async fn stored_blobs(
    index: &Index,
    after: Option<String>,
    limit: usize,
) -> Result<(Vec<(Digest, BlobRow)>, Option<String>), IndexError> {
    index
        .read(move |from| {
            let start = after.unwrap_or_default();
            let mut found = Vec::new();
            for (seen, entry) in from.open_table(BLOBS)?.range(start.as_str()..)?.enumerate() {
                let (name, row) = entry?;
                if seen == limit {
                    return Ok((found, Some(name.value().to_owned())));
                }
                if let Ok(digest) = name.value().parse() {
                    found.push((digest, parse(row.value())?));
                }
            }
            Ok((found, None))
        })
        .await
}
