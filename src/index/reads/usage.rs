//! How much each repository and each registry holds, from one pass over the grants.
//!
//! The pass reads two numbers of each blob and never its row or its file. Its memory grows with the number of blobs: 32
//! bytes and a slot each. Whoever asks often keeps its result.

use std::collections::{HashMap, HashSet};

use redb::{ReadTransaction, ReadableTable as _};

use crate::clock::Timestamp;
use crate::index::eviction_order::ReadChildren as _;
use crate::index::facts::{GrantRow, TagRow};
use crate::index::schema::{BLOB_GRANTS, CHILDREN, MANIFEST_GRANTS, RECENCY, STORED_BYTES, SUMS, TAGS};
use crate::index::{Index, IndexError};

/// What is held, by repository and by registry.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// In the order of their names.
    pub repositories: Vec<RepositoryUsage>,
    pub authorities: Vec<AuthorityUsage>,
    /// All that is stored. Bytes.
    pub stored_bytes: u64,
    /// What is stored and may be read in no repository. Bytes.
    pub unreachable_bytes: u64,
}

/// What one repository holds.
#[derive(Debug, Clone, Default)]
pub struct RepositoryUsage {
    pub authority: String,
    pub repository: String,
    /// Tags that point somewhere.
    pub tags: u64,
    /// Stored manifests that may be read in it.
    pub manifests: u64,
    pub sums: Sums,
    /// When one of its manifests was last used.
    pub used: Option<Timestamp>,
}

/// What one registry holds.
#[derive(Debug, Clone, Default)]
pub struct AuthorityUsage {
    pub authority: String,
    pub repositories: u64,
    pub sums: Sums,
}

/// Bytes of blobs and manifests, each counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// What nobody else may read.
    pub own_bytes: u64,
    /// What others may read, too.
    pub shared_bytes: u64,
    /// What no registry can give again, of both. Bytes.
    pub last_copy_bytes: u64,
}

impl Sums {
    fn add(&mut self, content: &Content, is_shared: bool) {
        let to = if is_shared { &mut self.shared_bytes } else { &mut self.own_bytes };
        *to += content.size_bytes;
        if content.is_last_copy {
            self.last_copy_bytes += content.size_bytes;
        }
    }

    /// It turned out that others have it, too.
    fn share(&mut self, content: &Content) {
        self.own_bytes = self.own_bytes.saturating_sub(content.size_bytes);
        self.shared_bytes += content.size_bytes;
    }
}

/// Nobody holds it, as far as is known.
const NOBODY: u32 = u32::MAX;
/// More than one holds it.
const SEVERAL: u32 = u32::MAX - 1;

/// A stored blob. By the first 64 bits of its hash: two that have the same are counted as one.
struct Content {
    size_bytes: u64,
    /// Seconds.
    used: u32,
    is_last_copy: bool,
    repository: u32,
    authority: u32,
    /// Who has counted it last: its own repeated mention adds nothing.
    last: u32,
}

type Contents = HashMap<u64, Content, foldhash::fast::RandomState>;

/// Reads the usage. `is_last_copy` tells whether content that came from a registry of this name, which is empty if none is
/// known, cannot come again.
pub async fn usage(index: &Index, is_last_copy: impl Fn(&str) -> bool + Send + 'static) -> Result<Usage, IndexError> {
    index.read(move |from| Pass::new(from, &is_last_copy)?.run(from)).await
}

struct Pass {
    contents: Contents,
    repositories: Vec<RepositoryUsage>,
    authorities: Vec<AuthorityUsage>,
    /// By registry and repository.
    known: HashMap<(String, String), (u32, u32)>,
    known_authorities: HashMap<String, u32>,
    /// Authorities of a repository, by its number.
    of: Vec<u32>,
    /// The last one looked up: rows come in order.
    latest: Option<(u32, u32)>,
}

impl Pass {
    fn new(from: &ReadTransaction, is_last_copy: &dyn Fn(&str) -> bool) -> Result<Self, IndexError> {
        let mut contents = Contents::default();
        let mut last_copies: HashMap<String, bool> = HashMap::new();
        for entry in from.open_table(RECENCY)?.iter()? {
            let (digest, row) = entry?;
            let (authority, _, used, size_bytes) = row.value();
            let is_last_copy = match last_copies.get(authority) {
                Some(is_last_copy) => *is_last_copy,
                None => *last_copies.entry(authority.to_owned()).or_insert_with(|| is_last_copy(authority)),
            };
            let used = u32::try_from(used).unwrap_or(u32::MAX);
            let content =
                Content { size_bytes, used, is_last_copy, repository: NOBODY, authority: NOBODY, last: NOBODY };
            contents.insert(short(digest.value()), content);
        }
        Ok(Self {
            contents,
            repositories: Vec::new(),
            authorities: Vec::new(),
            known: HashMap::new(),
            known_authorities: HashMap::new(),
            of: Vec::new(),
            latest: None,
        })
    }

    fn run(mut self, from: &ReadTransaction) -> Result<Usage, IndexError> {
        self.read_tags(from)?;
        self.read_manifests(from)?;
        for entry in from.open_table(BLOB_GRANTS)?.iter()? {
            let (key, _) = entry?;
            let (_, authority, repository, digest) = key.value();
            // Blobs that are granted in a whole registry are found by their manifests.
            if !repository.is_empty() {
                let repository = self.repository(authority, repository);
                self.count(repository, digest);
            }
        }
        let reached: u64 =
            self.contents.values().filter(|content| content.repository != NOBODY).map(|c| c.size_bytes).sum();
        let stored_bytes = from.open_table(SUMS)?.get(STORED_BYTES)?.map_or(0, |sum| sum.value());
        let Self { mut repositories, mut authorities, .. } = self;
        repositories.retain(|usage| usage.tags + usage.manifests + usage.sums.own_bytes + usage.sums.shared_bytes > 0);
        for authority in &mut authorities {
            authority.repositories =
                repositories.iter().filter(|usage| usage.authority == authority.authority).count() as u64;
        }
        authorities.retain(|authority| authority.repositories > 0);
        repositories.sort_by(|a, b| (&a.authority, &a.repository).cmp(&(&b.authority, &b.repository)));
        authorities.sort_by(|a, b| a.authority.cmp(&b.authority));
        let unreachable_bytes = stored_bytes.saturating_sub(reached);
        Ok(Usage { repositories, authorities, stored_bytes, unreachable_bytes })
    }

    fn read_tags(&mut self, from: &ReadTransaction) -> Result<(), IndexError> {
        for entry in from.open_table(TAGS)?.iter()? {
            let (key, row) = entry?;
            let (_, authority, repository, _) = key.value();
            let row: Option<TagRow> = serde_json::from_slice(row.value()).ok();
            if row.is_some_and(|row| row.digest.is_some()) {
                let (nth, _) = self.repository(authority, repository);
                if let Some(usage) = self.repositories.get_mut(nth as usize) {
                    usage.tags += 1;
                }
            }
        }
        Ok(())
    }

    fn read_manifests(&mut self, from: &ReadTransaction) -> Result<(), IndexError> {
        let listed = from.open_table(CHILDREN)?;
        // Where a grant is of a whole registry, repositories do not come one after another.
        let mut seen: HashSet<(u32, u64)> = HashSet::new();
        for entry in from.open_table(MANIFEST_GRANTS)?.iter()? {
            let (key, row) = entry?;
            let (_, authority, repository, digest) = key.value();
            if !repository.is_empty() {
                let repository = self.repository(authority, repository);
                self.count_manifest(repository, digest);
                continue;
            }
            let row: Option<GrantRow> = serde_json::from_slice(row.value()).ok();
            let repositories = row.and_then(|row| row.repositories).unwrap_or_default();
            let children = listed.children(digest)?;
            for repository in repositories {
                let repository = self.repository(authority, repository.as_str());
                self.count_manifest(repository, digest);
                for child in &children {
                    let child = child.to_string();
                    if seen.insert((repository.0, short(&child))) {
                        self.count(repository, &child);
                    }
                }
            }
        }
        Ok(())
    }

    fn repository(&mut self, authority: &str, repository: &str) -> (u32, u32) {
        if let Some((nth, of)) = self.latest
            && self
                .repositories
                .get(nth as usize)
                .is_some_and(|known| known.repository == repository && known.authority == authority)
        {
            return (nth, of);
        }
        let key = (authority.to_owned(), repository.to_owned());
        let found = if let Some(found) = self.known.get(&key) {
            *found
        } else {
            let of = self.authority(authority);
            let nth = u32::try_from(self.repositories.len()).unwrap_or(SEVERAL);
            let (authority, repository) = key.clone();
            self.repositories.push(RepositoryUsage { authority, repository, ..RepositoryUsage::default() });
            self.of.push(of);
            self.known.insert(key, (nth, of));
            (nth, of)
        };
        self.latest = Some(found);
        found
    }

    fn authority(&mut self, authority: &str) -> u32 {
        if let Some(nth) = self.known_authorities.get(authority) {
            return *nth;
        }
        let nth = u32::try_from(self.authorities.len()).unwrap_or(SEVERAL);
        self.authorities.push(AuthorityUsage { authority: authority.to_owned(), ..AuthorityUsage::default() });
        self.known_authorities.insert(authority.to_owned(), nth);
        nth
    }

    fn count_manifest(&mut self, repository: (u32, u32), digest: &str) {
        let Some(used) = self.count(repository, digest) else { return };
        if let Some(usage) = self.repositories.get_mut(repository.0 as usize) {
            usage.manifests += 1;
            usage.used = usage.used.max(Some(used));
        }
    }

    /// Adds a blob to a repository and its registry, once each. Returns its last use; `None` if it is not stored.
    fn count(&mut self, (repository, authority): (u32, u32), digest: &str) -> Option<Timestamp> {
        let content = self.contents.get_mut(&short(digest))?;
        let used = Timestamp::from_millis(u64::from(content.used) * 1000);
        if content.last == repository {
            return Some(used);
        }
        // In one registry the repositories come one after another.
        let is_new_there = self.of.get(content.last as usize) != Some(&authority);
        content.last = repository;
        let was = content.repository;
        if was != NOBODY
            && was != SEVERAL
            && let Some(first) = self.repositories.get_mut(was as usize)
        {
            first.sums.share(content);
        }
        content.repository = if was == NOBODY { repository } else { SEVERAL };
        if let Some(usage) = self.repositories.get_mut(repository as usize) {
            usage.sums.add(content, was != NOBODY);
        }
        if is_new_there {
            let was = content.authority;
            if was != NOBODY
                && was != SEVERAL
                && let Some(first) = self.authorities.get_mut(was as usize)
            {
                first.sums.share(content);
            }
            content.authority = if was == NOBODY { authority } else { SEVERAL };
            if let Some(usage) = self.authorities.get_mut(authority as usize) {
                usage.sums.add(content, was != NOBODY);
            }
        }
        Some(used)
    }
}

/// The first 64 bits of the hash.
fn short(digest: &str) -> u64 {
    let hex = digest.split_once(':').and_then(|(_, hex)| hex.get(..16));
    hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}
