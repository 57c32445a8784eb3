//! Rows of upstreams that have too many: how much all take, and which were the least used.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _};

use crate::index::facts::{RowTable, TagRow};
use crate::index::schema::{OwnedKey, PINNED, RECENCY};
use crate::index::sums::rows::{RowOwner, RowSum, RowSums, Rows};
use crate::index::{Change, DropRows, Index, IndexError};
use crate::oci::Authority;

/// Rows looked at in one transaction while some are dropped.
const SEEN: usize = 10_000;
const SECONDS_OF_DAY: u64 = 86_400;
/// Rows dropped in one step.
const STEP: usize = 500;

/// Measures what the rows of each upstream take, without waiting for the writer or keeping it waiting.
pub async fn measure_rows(index: &Index) -> Result<RowSums, IndexError> {
    let (view, before) = (index.view.clone(), index.view.rows.sums());
    let measured = index.read(move |from| Ok(Pass::new(from, &view.rows, None)?.measure(from)?.sums)).await?;
    index.view.rows.measured(&before, measured);
    Ok(index.view.rows.sums())
}

/// Drops the least used rows of an upstream, in small steps, until about so many bytes are left. What pins keep stays, and
/// what is about content that no upstream can give again. Returns the bytes that went.
pub async fn drop_rows(index: &Index, upstream: &str, left_bytes: u64) -> Result<u64, IndexError> {
    let mut dropped = 0;
    // Half an image is of no use: of one day, repositories go as a whole. Where that does too little, one has them all.
    for by in [By::Repository, By::Row] {
        let (view, name) = (index.view.clone(), upstream.to_owned());
        let found = index.read(move |from| Pass::new(from, &view.rows, Some(&name))?.measure(from)).await?;
        let sum = found.sums.get(upstream).map_or(0, |sum| sum.bytes);
        let surplus = sum.saturating_sub(left_bytes);
        if dropped < surplus
            && let Some(cut) = Cut::of(&found.days, surplus, by)
        {
            dropped += drop_cut(index, upstream, cut).await?;
        }
    }
    Ok(dropped)
}

async fn drop_cut(index: &Index, upstream: &str, cut: Cut) -> Result<u64, IndexError> {
    let (mut at, mut dropped) = (Some((RowTable::ALL[0], OwnedKey::default())), 0);
    while let Some(from_here) = at {
        let (view, name) = (index.view.clone(), upstream.to_owned());
        let step = index.read(move |from| Pass::new(from, &view.rows, Some(&name))?.step(from, from_here, cut)).await?;
        at = step.next;
        if !step.keys.is_empty() {
            index.apply(vec![Change::from(DropRows { table: step.table, keys: step.keys, day: cut.day })]).await?;
            index.view.rows.dropped(upstream, step.bytes);
            dropped += step.bytes;
        }
        tokio::task::yield_now().await;
    }
    Ok(dropped)
}

/// What stays or goes as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Repository,
    Row,
}

/// What goes: all rows from before a day, and a share of that day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    day: u64,
    /// Of `WHOLE`.
    share: u64,
    by: By,
}

/// All rows of a day.
const WHOLE: u64 = 1 << 32;

impl Cut {
    /// `None` if nothing is to go, or may go.
    fn of(days: &BTreeMap<u64, u64>, surplus: u64, by: By) -> Option<Self> {
        let mut left = surplus;
        for (day, bytes) in days.iter().filter(|_| surplus > 0) {
            if left <= *bytes {
                let share = u128::from(left) * u128::from(WHOLE) / u128::from((*bytes).max(1));
                return Some(Self { day: *day, share: u64::try_from(share).unwrap_or(WHOLE), by });
            }
            left -= bytes;
        }
        // Not even all that may go is enough.
        days.last_key_value().filter(|_| surplus > 0).map(|(day, _)| Self { day: *day, share: WHOLE, by })
    }

    fn takes(&self, day: u64, (_, authority, repository, what): (u32, &str, &str, &str)) -> bool {
        let mut hasher = DefaultHasher::new();
        (authority, repository).hash(&mut hasher);
        if self.by == By::Row {
            what.hash(&mut hasher);
        }
        day < self.day || (day == self.day && hasher.finish() % WHOLE < self.share)
    }
}

/// One pass over all rows, or over those of one upstream.
struct Pass<'a> {
    rows: &'a Rows,
    upstream: Option<&'a str>,
    recency: ReadOnlyTable<&'static str, (&'static str, u8, u64, u64)>,
    pinned: ReadOnlyTable<&'static str, u64>,
    /// Rows come by registry: whose the last one was.
    last: Option<(String, Option<RowOwner>)>,
}

#[derive(Default)]
struct Measured {
    sums: RowSums,
    /// Bytes that may go, by the day of their last use.
    days: BTreeMap<u64, u64>,
}

struct Step {
    table: RowTable,
    keys: Vec<OwnedKey>,
    bytes: u64,
    next: Option<(RowTable, OwnedKey)>,
}

impl<'a> Pass<'a> {
    fn new(from: &ReadTransaction, rows: &'a Rows, upstream: Option<&'a str>) -> Result<Self, IndexError> {
        let (recency, pinned) = (from.open_table(RECENCY)?, from.open_table(PINNED)?);
        Ok(Self { rows, upstream, recency, pinned, last: None })
    }

    fn owner(&mut self, authority: &str) -> Option<&RowOwner> {
        if self.last.as_ref().is_none_or(|(last, _)| last != authority) {
            let owner = authority.parse::<Authority>().ok().and_then(|authority| self.rows.owner_of(&authority));
            self.last = Some((authority.to_owned(), owner));
        }
        let owner = self.last.as_ref().and_then(|(_, owner)| owner.as_ref());
        owner.filter(|owner| self.upstream.is_none_or(|upstream| upstream == owner.upstream))
    }

    /// The day of a row's last use, if it may go.
    fn day(&self, table: RowTable, key: (u32, &str, &str, &str), row: &[u8]) -> Result<Option<u64>, IndexError> {
        let digest = if table == RowTable::Tags {
            let Ok(row) = serde_json::from_slice::<TagRow>(row) else { return Ok(Some(0)) };
            if row.is_pinned || row.alias.is_some() {
                return Ok(None);
            }
            row.digest.map(|digest| digest.to_string())
        } else {
            table.digest(key).map(str::to_owned)
        };
        let Some(digest) = digest else { return Ok(Some(table.day(row).unwrap_or(0))) };
        let stored = self.recency.get(digest.as_str())?;
        let is_last_copy = stored.as_ref().is_some_and(|stored| stored.value().0.is_empty());
        if is_last_copy || self.pinned.get(digest.as_str())?.is_some() {
            return Ok(None);
        }
        // What tells nothing itself is as old as what it is about.
        let of_content = || stored.map_or(0, |stored| stored.value().2 / SECONDS_OF_DAY);
        Ok(Some(table.day(row).unwrap_or_else(of_content)))
    }

    fn measure(&mut self, from: &ReadTransaction) -> Result<Measured, IndexError> {
        let (mut sums, mut days): (RowSums, BTreeMap<u64, u64>) = Default::default();
        for table in RowTable::ALL {
            for entry in from.open_table(table.definition())?.iter()? {
                let (key, row) = entry?;
                let (key, row) = (key.value(), row.value());
                let Some(owner) = self.owner(key.1) else { continue };
                let bytes = table.bytes(key, row);
                match sums.get_mut(owner.upstream.as_str()) {
                    Some(sum) => sum.bytes += bytes,
                    None => drop(sums.insert(owner.upstream.clone(), RowSum { bytes, bound: owner.bound })),
                }
                if self.upstream.is_some()
                    && let Some(day) = self.day(table, key, row)?
                {
                    *days.entry(day).or_default() += bytes;
                }
            }
        }
        Ok(Measured { sums, days })
    }

    fn step(&mut self, from: &ReadTransaction, at: (RowTable, OwnedKey), cut: Cut) -> Result<Step, IndexError> {
        let (table, (domain, authority, repository, what)) = at;
        let start = (domain, authority.as_str(), repository.as_str(), what.as_str());
        let mut step = Step { table, keys: Vec::new(), bytes: 0, next: None };
        for (seen, entry) in from.open_table(table.definition())?.range(start..)?.enumerate() {
            let (key, row) = entry?;
            let (key, row) = (key.value(), row.value());
            let owned = || (key.0, key.1.to_owned(), key.2.to_owned(), key.3.to_owned());
            if seen >= SEEN || step.keys.len() >= STEP {
                step.next = Some((table, owned()));
                return Ok(step);
            }
            if self.owner(key.1).is_none() {
                continue;
            }
            let Some(day) = self.day(table, key, row)? else { continue };
            if cut.takes(day, key) {
                step.bytes += table.bytes(key, row);
                step.keys.push(owned());
            }
        }
        let next = RowTable::ALL.into_iter().skip_while(|other| *other != table).nth(1);
        step.next = next.map(|next| (next, OwnedKey::default()));
        Ok(step)
    }
}
