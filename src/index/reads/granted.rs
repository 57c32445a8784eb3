//! Which blobs nobody may read.

use std::collections::HashSet;

use redb::ReadableTable as _;

use crate::index::schema::{BLOB_GRANTS, MANIFEST_GRANTS};
use crate::index::{Index, IndexError};
use crate::oci::Digest;

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
