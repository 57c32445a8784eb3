//! Denials: upstream no longer lets us in.

use redb::{ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::list;
use super::{BlobRow, Change, DropLists, Kind, LogForm};
use crate::index::generation::Generations;
use crate::index::revocations::Revocation;
use crate::index::schema::{self, ANY_REPOSITORY, BLOB_GRANTS, BLOBS, Key, LAST, LISTS, MANIFEST_GRANTS};
use crate::index::{IndexError, Scope};
use crate::oci::{Authority, Digest};

/// Nothing may be read in this scope without asking.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DropGrants {
    pub scope: Scope,
}

impl Kind for DropGrants {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        list::drop_lists(to, &self.scope, "")?;
        for grants in [MANIFEST_GRANTS, BLOB_GRANTS] {
            to.open_table(grants)?.retain_in(schema::range(&self.scope, "", LAST), |_, _| false)?;
        }
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_scope(&self.scope);
    }

    fn revocations(&self) -> Vec<Revocation> {
        vec![Revocation::Scope(self.scope.clone())]
    }

    /// Clients ask for any number of made-up names, which upstream refuses.
    fn log_form(&self, before: &WriteTransaction) -> Result<LogForm, IndexError> {
        for table in [LISTS, MANIFEST_GRANTS, BLOB_GRANTS] {
            if schema::has_rows(&before.open_table(table)?, &self.scope, "")? {
                return Ok(LogForm::Whole);
            }
        }
        Ok(LogForm::Nothing)
    }
}

/// The same of these digests, where one grant had opened them to the whole authority.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DropPublicGrants {
    pub scope: Scope,
    pub digests: Vec<Digest>,
}

impl Kind for DropPublicGrants {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        for grants in [MANIFEST_GRANTS, BLOB_GRANTS] {
            let mut grants = to.open_table(grants)?;
            for digest in &self.digests {
                grants.remove(Key::digest(&self.scope, *digest, true).as_tuple())?;
            }
        }
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        for digest in &self.digests {
            generations.bump_digest(*digest);
        }
    }

    fn revocations(&self) -> Vec<Revocation> {
        let Scope { domain, authority, .. } = &self.scope;
        self.digests.iter().map(|digest| Revocation::Digest(*domain, authority.clone(), *digest)).collect()
    }

    fn weight(&self) -> usize {
        self.digests.len()
    }
}

/// More was refused than could be remembered one by one: nothing may be read in this registry, or in any, without asking.
/// Imported content stays readable: no upstream could be asked for it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DropAllGrants {
    pub authority: Option<Authority>,
}

impl Kind for DropAllGrants {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let is_of = |of: &str| self.authority.as_ref().is_none_or(|authority| authority.as_str() == of);
        list::drop_all(to, self.authority.as_ref())?;
        let blobs = to.open_table(BLOBS)?;
        let is_imported = |digest: &str| {
            let row = blobs.get(digest).ok().flatten();
            let row = row.and_then(|row| serde_json::from_slice::<BlobRow>(row.value()).ok());
            row.is_some_and(|row| row.origin.is_none())
        };
        for grants in [MANIFEST_GRANTS, BLOB_GRANTS] {
            to.open_table(grants)?.retain(|(_, of, _, digest), _| !is_of(of) || is_imported(digest))?;
        }
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_all();
    }

    fn revocations(&self) -> Vec<Revocation> {
        vec![Revocation::All(self.authority.clone())]
    }
}

impl From<Revocation> for Change {
    /// The denial that refuses this.
    fn from(revocation: Revocation) -> Self {
        match revocation {
            Revocation::Scope(scope) => DropGrants { scope }.into(),
            Revocation::Digest(domain, authority, digest) => {
                let repository = ANY_REPOSITORY.parse().expect("a repository's name");
                DropPublicGrants { scope: Scope { domain, authority, repository }, digests: vec![digest] }.into()
            }
            Revocation::Lists(scope, family) => DropLists { scope, family }.into(),
            Revocation::All(authority) => DropAllGrants { authority }.into(),
        }
    }
}
