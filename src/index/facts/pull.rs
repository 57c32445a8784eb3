//! Who pulled what. Only the database has it: it is lost with the index.

use std::sync::Arc;

use redb::{ReadableTable as _, WriteTransaction};

use super::Kind;
use crate::clock::Timestamp;
use crate::index::IndexError;
use crate::index::schema::{PULL_BYTES, PULLS, SUMS};
use crate::oci::{Authority, Digest, Repository, Tag};

/// What a row takes besides its texts. Bytes.
const ROW_BYTES: u64 = 64;
/// Rows that one change drops at most: the next one goes on.
const MAX_DROPPED: usize = 5000;

/// Pulls of one manifest by one client, by one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    pub authority: Authority,
    pub repository: Repository,
    pub digest: Digest,
    /// `None`: it was asked for by its digest.
    pub tag: Option<Tag>,
    /// The name of an identity, or an address.
    pub who: Arc<str>,
    pub first: Timestamp,
    pub last: Timestamp,
    pub count: u64,
}

/// Pulls since they were last noted. Drops the oldest days: those before `first_day`, and what is too much.
#[derive(Debug, Clone)]
pub struct NotePulls {
    pub pulls: Vec<Pull>,
    pub first_day: u64,
    pub max_bytes: u64,
}

impl Kind for NotePulls {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let (mut rows, mut sums) = (to.open_table(PULLS)?, to.open_table(SUMS)?);
        let mut bytes = sums.get(PULL_BYTES)?.map_or(0, |sum| sum.value());
        for Pull { authority, repository, digest, tag, who, first, last, count } in &self.pulls {
            let (name, tag) = (digest.to_string(), tag.as_ref().map_or("", Tag::as_str));
            let key = (last.day(), authority.as_str(), repository.as_str(), name.as_str(), tag, &**who);
            let (first, last) = (first.as_millis(), last.as_millis());
            let known = rows.get(key)?.map(|row| row.value());
            let row = known.map_or((first, last, *count), |(earliest, latest, before)| {
                (earliest.min(first), latest.max(last), before.saturating_add(*count))
            });
            rows.insert(key, row)?;
            bytes += if known.is_none() { size_of(key) } else { 0 };
        }
        for _dropped in 0..MAX_DROPPED {
            let Some(oldest) = rows.first()? else { break };
            let key = oldest.0.value();
            if key.0 >= self.first_day && bytes <= self.max_bytes {
                break;
            }
            bytes = bytes.saturating_sub(size_of(key));
            drop(oldest);
            rows.pop_first()?;
        }
        sums.insert(PULL_BYTES, bytes)?;
        Ok(())
    }

    fn weight(&self) -> usize {
        self.pulls.len()
    }
}

fn size_of((_, authority, repository, digest, tag, who): (u64, &str, &str, &str, &str, &str)) -> u64 {
    ROW_BYTES + (authority.len() + repository.len() + digest.len() + tag.len() + who.len()) as u64
}
