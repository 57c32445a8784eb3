//! Whether something that is held in a repository names a digest.

use redb::ReadTransaction;

use crate::index::eviction_order::ReadChildren as _;
use crate::index::facts::KeptList;
use crate::index::schema::{CHILDREN, LAST, LIST_CONTENTS, LISTS, MANIFEST_GRANTS, range};
use crate::index::{Index, IndexError, Scope};
use crate::oci::Digest;

/// Rows that are looked at of each table, so that a question costs the same in any repository.
const MAX_LOOKED_AT: usize = 2000;

/// Whether a manifest that this scope may read lists the digest, or a recorded list whose name begins with `lists` does.
/// A "no" is not sure in a repository with very many manifests.
pub async fn is_named(index: &Index, scope: &Scope, digest: Digest, lists: &'static str) -> Result<bool, IndexError> {
    let scope = scope.clone();
    index.read(move |from| Ok(is_in_list(from, &scope, digest, lists)? || is_child(from, &scope, digest)?)).await
}

fn is_in_list(from: &ReadTransaction, scope: &Scope, digest: Digest, lists: &str) -> Result<bool, IndexError> {
    let (name, last) = (digest.to_string(), format!("{lists}{LAST}"));
    let contents = from.open_table(LIST_CONTENTS)?;
    for entry in from.open_table(LISTS)?.range(range(scope, lists, &last))?.take(MAX_LOOKED_AT) {
        let Ok(row) = serde_json::from_slice::<KeptList>(entry?.1.value()) else { continue };
        if row.has_text(&contents, &name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_child(from: &ReadTransaction, scope: &Scope, digest: Digest) -> Result<bool, IndexError> {
    let listed = from.open_table(CHILDREN)?;
    for entry in from.open_table(MANIFEST_GRANTS)?.range(range(scope, "", LAST))?.take(MAX_LOOKED_AT) {
        let (key, _) = entry?;
        if listed.children(key.value().3)?.contains(&digest) {
            return Ok(true);
        }
    }
    Ok(false)
}
