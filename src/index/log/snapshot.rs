//! All facts of one moment, as lines: a snapshot beside the blobs, or a backup.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::str::FromStr;

use redb::{ReadTransaction, ReadableTable as _, TableDefinition};
use serde::de::DeserializeOwned;

use super::framing::{self, Mark};
use super::segments::LogDirectory;
use crate::clock::Timestamp;
use crate::index::pins::PINS;
use crate::index::row::{BlobRow, GrantRow, ListRow, ReferrerRow, TagRow};
use crate::index::schema::{
    BLOB_GRANTS, BLOBS, CHILDREN, LISTS, MANIFEST_GRANTS, MANIFEST_TYPES, REFERRERS, ScopedKey, TAGS,
};
use crate::index::unrecoverable::UNRECOVERABLE;
use crate::index::{Change, IndexError, Scope};
use crate::oci::{Digest, Repository};

/// Stands in a grant for a whole authority, where the repository is not known.
pub(in crate::index) const ANY_REPOSITORY: &str = "any";

pub(in crate::index) fn any_repository() -> Repository {
    ANY_REPOSITORY.parse().expect("a repository's name")
}

/// Writes `snapshot-<number>.jsonl`, whole or not at all, and removes what it replaces. Returns its size in bytes.
pub(in crate::index) fn take(
    facts: &LogDirectory,
    number: u64,
    from: &ReadTransaction,
    goes_on: &dyn Fn() -> bool,
) -> Result<u64, IndexError> {
    let path = facts.snapshot(number);
    let unfinished = path.with_extension("tmp");
    let io = IndexError::Log;
    match std::fs::remove_file(&unfinished) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(io(err)),
        _ => {}
    }
    let written = (|| {
        let mut out = BufWriter::with_capacity(1 << 20, LogDirectory::create_file(&unfinished).map_err(io)?);
        write(from, &mut out, goes_on)?;
        let file: File = out.into_inner().map_err(|err| io(err.into_error()))?;
        file.sync_all().map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        std::fs::rename(&unfinished, &path).map_err(io)?;
        facts.sync().map_err(io)?;
        Ok(bytes)
    })();
    if written.is_err() {
        // The next start removes it, if it cannot be removed now.
        let _left = std::fs::remove_file(&unfinished);
        return written;
    }
    facts.remove_superseded().map_err(io)?;
    written
}

/// Writes all facts, and returns how many. Rows that cannot be read are left out. Ends early, with an error, when
/// `goes_on` says no.
pub(in crate::index) fn write(
    from: &ReadTransaction,
    out: &mut dyn Write,
    goes_on: &dyn Fn() -> bool,
) -> Result<u64, IndexError> {
    let mut lines = Lines { out, buffer: Vec::new(), facts: 0, goes_on };
    lines.mark(Mark::RoadsteadFacts(framing::VERSION))?;
    for entry in from.open_table(MANIFEST_TYPES)?.iter()? {
        let (key, row) = entry?;
        let (domain, authority, digest, _) = key.value();
        let (Ok(authority), Ok(digest)) = (authority.parse(), digest.parse()) else { continue };
        let Some(media_type) = parse(row.value()) else { continue };
        lines.fact(&Change::PutManifestType { domain, authority, digest, media_type })?;
    }
    for entry in from.open_table(BLOBS)?.iter()? {
        let (key, row) = entry?;
        let (Ok(digest), Some(row)) = (key.value().parse(), parse::<BlobRow>(row.value())) else { continue };
        lines.fact(&Change::PutBlob { digest, row })?;
    }
    for entry in from.open_table(CHILDREN)?.iter()? {
        let (key, row) = entry?;
        let (Ok(manifest), Some(children)) = (key.value().parse(), parse(row.value())) else { continue };
        lines.fact(&Change::PutChildren { manifest, children })?;
    }
    lines.scoped(from, MANIFEST_GRANTS, |scope, whole_authority, digest, row: GrantRow| {
        let (Ok(digest), Some(media_type)) = (digest.parse::<Digest>(), row.media_type) else { return Vec::new() };
        let repositories = row.repositories.unwrap_or_else(|| vec![scope.repository.clone()]);
        let grants = repositories.into_iter().map(|repository| Change::GrantManifest {
            scope: Scope { repository, ..scope.clone() },
            whole_authority,
            digest,
            media_type: media_type.clone(),
            day: row.used_day,
        });
        grants.collect()
    })?;
    lines.scoped(from, BLOB_GRANTS, |scope, whole_authority, digest, row: GrantRow| {
        Some(Change::GrantBlob { scope, whole_authority, digest: digest.parse().ok()?, day: row.used_day })
    })?;
    lines
        .scoped(from, TAGS, |scope, _, tag, row: TagRow| Some(Change::PutTag { scope, tag: tag.parse().ok()?, row }))?;
    lines.scoped(from, LISTS, |scope, _, list, row: ListRow| {
        Some(Change::PutList { scope, list: list.to_owned(), row })
    })?;
    lines.scoped(from, REFERRERS, |scope, _, both, row: ReferrerRow| {
        let (subject, referrer) = both.split_once(' ')?;
        Some(Change::PutReferrer { scope, subject: subject.parse().ok()?, referrer: referrer.parse().ok()?, row })
    })?;
    for entry in from.open_table(PINS)?.iter()? {
        let (pin, at) = entry?;
        let (Ok(pin), at) = (pin.value().parse(), Timestamp::from_millis(at.value().saturating_mul(1000))) else {
            continue;
        };
        lines.fact(&Change::PutPin { pin, at })?;
    }
    let lost = match from.open_table(UNRECOVERABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        table => Some(table?),
    };
    if let Some(lost) = lost {
        for entry in lost.iter()? {
            let (digest, row) = entry?;
            let (Ok(digest), Some(row)) = (digest.value().parse(), parse(row.value())) else { continue };
            lines.fact(&Change::PutUnrecoverable { digest, row })?;
        }
    }
    let facts = lines.facts;
    lines.mark(Mark::End { facts })?;
    Ok(facts)
}

struct Lines<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    facts: u64,
    goes_on: &'a dyn Fn() -> bool,
}

impl Lines<'_> {
    fn mark(&mut self, mark: Mark) -> Result<(), IndexError> {
        self.buffer.clear();
        framing::write(&mark, &mut self.buffer)?;
        self.out.write_all(&self.buffer).map_err(IndexError::Log)
    }

    fn fact(&mut self, fact: &Change) -> Result<(), IndexError> {
        self.facts += 1;
        if self.facts.is_multiple_of(1000) && !(self.goes_on)() {
            return Err(IndexError::Closed);
        }
        self.buffer.clear();
        framing::write(fact, &mut self.buffer)?;
        self.out.write_all(&self.buffer).map_err(IndexError::Log)
    }

    fn scoped<T: DeserializeOwned, F: IntoIterator<Item = Change>>(
        &mut self,
        from: &ReadTransaction,
        table: TableDefinition<'_, ScopedKey, &'static [u8]>,
        facts: impl Fn(Scope, bool, &str, T) -> F,
    ) -> Result<(), IndexError> {
        for entry in from.open_table(table)?.iter()? {
            let (key, row) = entry?;
            let (domain, authority, repository, what) = key.value();
            let whole_authority = repository.is_empty();
            let repository = if whole_authority { ANY_REPOSITORY } else { repository };
            let (Ok(authority), Ok(repository)) = (authority.parse(), Repository::from_str(repository)) else {
                continue;
            };
            let scope = Scope { domain, authority, repository };
            let Some(row) = parse(row.value()) else { continue };
            for fact in facts(scope, whole_authority, what, row) {
                self.fact(&fact)?;
            }
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(row: &[u8]) -> Option<T> {
    serde_json::from_slice(row).ok()
}
