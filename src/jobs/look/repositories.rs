//! What repositories and registries hold.

use std::cmp::Ordering;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use super::kept::Kept;
use super::page::PageQuery;
use crate::clock::Timestamp;
use crate::index::{AuthorityUsage, RepositoryUsage, Usage, usage};
use crate::jobs::{Refused, RefusedCode};
use crate::mirror::{Mirror, PinError};
use crate::oci::PinPattern;
use crate::quote::quoted;

/// The last report, which answers until it is too old.
#[derive(Default)]
pub struct UsageReports(Kept<Report>);

#[derive(Clone)]
struct Report {
    usage: Arc<Usage>,
    as_of: Timestamp,
}

impl UsageReports {
    async fn get(&self, mirror: &Mirror) -> Result<Report, Refused> {
        let make = async {
            let cache = Arc::clone(mirror.cache());
            cache.access_times.write(&cache.index).await;
            let as_of = cache.context.clock.now();
            let of = Arc::clone(&cache);
            let usage = usage(&cache.index, move |authority| !of.can_come_again(authority)).await?;
            Ok(Report { usage: Arc::new(usage), as_of })
        };
        self.0.get(make).await
    }
}

/// Which repositories.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// Over registry/repository, or over registries.
    pub glob: Option<&'a str>,
    /// A part of registry/repository.
    pub contains: Option<&'a str>,
}

/// The order of repositories. All but the name begin with the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    #[default]
    Name,
    Size,
    Own,
    Used,
    Tags,
    Manifests,
}

impl FromStr for Sort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "name" => Ok(Self::Name),
            "size" => Ok(Self::Size),
            "own" => Ok(Self::Own),
            "used" => Ok(Self::Used),
            "tags" => Ok(Self::Tags),
            "manifests" => Ok(Self::Manifests),
            _ => Err("it is one of name, size, own, used, tags, manifests"),
        }
    }
}

impl Sort {
    fn value(self, row: &RepositoryUsage) -> u64 {
        match self {
            Self::Name => 0,
            Self::Size => row.sums.own_bytes.saturating_add(row.sums.shared_bytes),
            Self::Own => row.sums.own_bytes,
            Self::Used => row.used.map_or(0, Timestamp::as_millis),
            Self::Tags => row.tags,
            Self::Manifests => row.manifests,
        }
    }
}

/// A page of repositories.
#[derive(Debug, Serialize)]
pub struct Repositories {
    pub repositories: Vec<RepositoryRow>,
    /// How many there are on all pages.
    pub total: usize,
    /// `after` of the next page.
    pub next: Option<String>,
    /// When this was counted.
    pub as_of: Timestamp,
}

/// One repository.
#[derive(Debug, Serialize)]
pub struct RepositoryRow {
    /// With its registry.
    pub repository: String,
    pub tags: u64,
    pub manifests: u64,
    /// Bytes that no other repository may read.
    pub own_bytes: u64,
    pub shared_bytes: u64,
    /// Bytes of both that no registry can give again.
    pub last_copy_bytes: u64,
    pub used: Option<Timestamp>,
}

/// Bytes by registry.
#[derive(Debug, Serialize)]
pub struct UsageReport {
    pub authorities: Vec<AuthorityRow>,
    pub stored_bytes: u64,
    /// Bytes that may be read in no repository: what is left of content that was revoked or removed.
    pub unreachable_bytes: u64,
    pub as_of: Timestamp,
}

/// One registry.
#[derive(Debug, Serialize)]
pub struct AuthorityRow {
    pub authority: String,
    pub repositories: u64,
    /// Bytes that no other registry's repositories may read.
    pub own_bytes: u64,
    pub shared_bytes: u64,
    pub last_copy_bytes: u64,
}

/// The repositories that are selected.
pub async fn repositories(
    mirror: &Mirror,
    reports: &UsageReports,
    Selection { glob, contains }: Selection<'_>,
    sort: Sort,
    page: &PageQuery,
) -> Result<Repositories, Refused> {
    let limit = page.limit()?;
    let after = page.after.as_deref().map(read_cursor).transpose()?;
    let glob = glob.map(|glob| read_glob(mirror, glob)).transpose()?;
    let Report { usage, as_of } = reports.get(mirror).await?;
    let mut rows: Vec<(u64, String, &RepositoryUsage)> = usage
        .repositories
        .iter()
        .filter(|row| glob.as_ref().is_none_or(|glob| names(glob, &row.authority, &row.repository)))
        .map(|row| (sort.value(row), format!("{}/{}", row.authority, row.repository), row))
        .filter(|(_, name, _)| contains.is_none_or(|part| name.contains(part)))
        .collect();
    rows.sort_by(|a, b| order((a.0, &a.1), (b.0, &b.1)));
    let total = rows.len();
    let is_behind = |row: &(u64, String, &RepositoryUsage)| {
        after.as_ref().is_none_or(|(value, name)| order((*value, name), (row.0, &row.1)) == Ordering::Less)
    };
    let mut rows = rows.into_iter().filter(is_behind);
    let found: Vec<_> = rows.by_ref().take(limit).collect();
    let next = rows.next().and_then(|_| found.last()).map(|(value, name, _)| format!("{value}/{name}"));
    let row = |(_, repository, row): (u64, String, &RepositoryUsage)| RepositoryRow {
        repository,
        tags: row.tags,
        manifests: row.manifests,
        own_bytes: row.sums.own_bytes,
        shared_bytes: row.sums.shared_bytes,
        last_copy_bytes: row.sums.last_copy_bytes,
        used: row.used,
    };
    Ok(Repositories { repositories: found.into_iter().map(row).collect(), total, next, as_of })
}

/// How much each registry holds.
pub async fn used(mirror: &Mirror, reports: &UsageReports) -> Result<UsageReport, Refused> {
    let Report { usage, as_of } = reports.get(mirror).await?;
    let row = |row: &AuthorityUsage| AuthorityRow {
        authority: row.authority.clone(),
        repositories: row.repositories,
        own_bytes: row.sums.own_bytes,
        shared_bytes: row.sums.shared_bytes,
        last_copy_bytes: row.sums.last_copy_bytes,
    };
    let authorities = usage.authorities.iter().map(row).collect();
    Ok(UsageReport { authorities, stored_bytes: usage.stored_bytes, unreachable_bytes: usage.unreachable_bytes, as_of })
}

/// The greatest value first, then by name.
fn order(a: (u64, &str), b: (u64, &str)) -> Ordering {
    b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1))
}

fn read_cursor(text: &str) -> Result<(u64, String), Refused> {
    let read = text.split_once('/').and_then(|(value, name)| Some((value.parse().ok()?, name.to_owned())));
    read.ok_or_else(|| Refused::invalid("after: it is not what `next` of a page says"))
}

/// A glob over `registry/repository`; one without a slash is over registries. One that is not configured any more may still
/// have content.
pub(in crate::jobs) fn read_glob(mirror: &Mirror, text: &str) -> Result<PinPattern, Refused> {
    let whole = if text.contains('/') { text.to_owned() } else { format!("{text}/**") };
    let read = match mirror.pin(&whole) {
        Err(PinError::UnknownRegistry) => whole.parse().map_err(PinError::Invalid),
        read => read,
    };
    let is_tagged = whole.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'));
    match read {
        Ok(glob) if !is_tagged => Ok(glob),
        Ok(_) | Err(_) => Err(Refused::new(
            RefusedCode::Invalid,
            format!("{}: it is no glob over registry/repository, as in \"docker.io/library/*\"", quoted(text)),
        )),
    }
}

fn names(glob: &PinPattern, authority: &str, repository: &str) -> bool {
    let names = authority.parse().ok().zip(repository.parse().ok());
    names.is_some_and(|(authority, repository)| glob.matches(&authority, &repository, None))
}
