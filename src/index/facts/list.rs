//! Lists: pages of tags, and referrers. A content is kept once, however many lists have it.

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Each, Fact, Kind, LogForm};
use crate::clock::Timestamp;
use crate::index::revocations::Revocation;
use crate::index::schema::{self, Key, LAST, LIST_BYTES, LIST_CONTENTS, LIST_USES, LISTS, OwnedKey, SUMS};
use crate::index::{IndexError, Scope, is_default};
use crate::oci::{Algorithm, Authority, Digest};
use crate::shared_bytes::SharedBytes;

/// Lists kept of one repository: pages of tags, and referrers by subject.
const MAX_LISTS: usize = 200;
/// Bytes of one repository's lists.
const MAX_REPOSITORY_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes of one registry's lists.
const MAX_AUTHORITY_BYTES: u64 = 256 * 1024 * 1024;
/// The list of tags without paging, from which pages are cut while upstream cannot be asked: it goes last. The names of all
/// lists of tags begin with it, and end with the query of their page.
pub const ALL_TAGS: &str = "tags?";

/// A list as last fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRow {
    /// JSON, in the form in which it is answered.
    #[serde(with = "text")]
    pub content: Bytes,
    /// The query of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    pub checked: Timestamp,
    #[serde(default)]
    pub hold_until: Timestamp,
}

/// Bytes that are a text.
mod text {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, ser};

    pub(super) fn serialize<S: Serializer>(content: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(content).map_err(ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        String::deserialize(deserializer).map(Bytes::from)
    }
}

/// The row of a list. Its content is elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::index) struct KeptList {
    /// Of the content; rows of earlier releases hold the content itself.
    #[serde(default)]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(default)]
    pub(in crate::index) size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::index) next: Option<String>,
    pub(in crate::index) checked: Timestamp,
    #[serde(default)]
    hold_until: Timestamp,
}

impl KeptList {
    /// Whether the content has this text in it.
    pub(in crate::index) fn has_text(
        &self,
        contents: &impl ReadableTable<&'static str, &'static [u8]>,
        text: &str,
    ) -> Result<bool, IndexError> {
        let is_in = |content: &[u8]| content.windows(text.len()).any(|part| part == text.as_bytes());
        Ok(match (&self.content, self.digest) {
            (Some(content), _) => is_in(content.as_bytes()),
            (None, Some(digest)) => {
                contents.get(digest.to_string().as_str())?.is_some_and(|content| is_in(content.value()))
            }
            (None, None) => false,
        })
    }

    /// With a content of its own.
    fn with_content(
        self,
        contents: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Option<ListRow>, IndexError> {
        self.with(contents, |_, content| Ok(Bytes::copy_from_slice(content)))
    }

    fn with(
        self,
        contents: &impl ReadableTable<&'static str, &'static [u8]>,
        copy: impl FnOnce(Digest, &[u8]) -> Result<Bytes, IndexError>,
    ) -> Result<Option<ListRow>, IndexError> {
        let Self { digest, content, next, checked, hold_until, .. } = self;
        let content = match (content, digest) {
            (Some(content), _) => Some(copy(Digest::of(Algorithm::Sha256, content.as_bytes()), content.as_bytes())?),
            (None, Some(digest)) => {
                let content = contents.get(digest.to_string().as_str())?;
                content.map(|content| copy(digest, content.value())).transpose()?
            }
            (None, None) => None,
        };
        Ok(content.map(|content| ListRow { content, next, checked, hold_until }))
    }
}

/// A list with its content, which is that of all who have it.
pub(in crate::index) fn get(
    from: &ReadTransaction,
    key: &Key,
    shared: &SharedBytes<Digest>,
) -> Result<Option<ListRow>, IndexError> {
    let row: Option<KeptList> = schema::row(&from.open_table(LISTS)?, key)?;
    let Some(row) = row else { return Ok(None) };
    let owner = key.as_tuple().1;
    row.with(&from.open_table(LIST_CONTENTS)?, |digest, content| {
        Ok(shared.share(owner, &digest, content.len(), || Bytes::copy_from_slice(content))?)
    })
}

/// The rows while they change: a content goes with the last list that has it.
struct Lists<'t>(&'t WriteTransaction);

impl Lists<'_> {
    fn put(&self, key: (u32, &str, &str, &str), content: &[u8], row: &KeptList) -> Result<(), IndexError> {
        if let Some(digest) = row.digest {
            let (mut uses, name) = (self.0.open_table(LIST_USES)?, digest.to_string());
            let others = uses.get(name.as_str())?.map_or(0, |others| others.value());
            uses.insert(name.as_str(), others + 1)?;
            if others == 0 {
                self.0.open_table(LIST_CONTENTS)?.insert(name.as_str(), content)?;
            }
        }
        self.count(key.1, row.size_bytes, 0)?;
        let before = self.0.open_table(LISTS)?.insert(key, schema::json(row)?.as_slice())?.map(|row| read(row.value()));
        before.flatten().map_or(Ok(()), |before| self.release(key.1, &before))
    }

    fn remove(&self, key: (u32, &str, &str, &str)) -> Result<(), IndexError> {
        let before = self.0.open_table(LISTS)?.remove(key)?.map(|row| read(row.value()));
        before.flatten().map_or(Ok(()), |before| self.release(key.1, &before))
    }

    fn release(&self, authority: &str, row: &KeptList) -> Result<(), IndexError> {
        self.count(authority, 0, row.size_bytes)?;
        let Some(digest) = row.digest else { return Ok(()) };
        let (mut uses, name) = (self.0.open_table(LIST_USES)?, digest.to_string());
        let having = uses.get(name.as_str())?.map_or(0, |having| having.value());
        match having {
            0 | 1 => {
                uses.remove(name.as_str())?;
                self.0.open_table(LIST_CONTENTS)?.remove(name.as_str())?;
            }
            having => {
                uses.insert(name.as_str(), having - 1)?;
            }
        }
        Ok(())
    }

    fn count(&self, authority: &str, plus: u64, minus: u64) -> Result<(), IndexError> {
        let (mut sums, name) = (self.0.open_table(SUMS)?, format!("{LIST_BYTES}{authority}"));
        let now = sums.get(name.as_str())?.map_or(0, |sum| sum.value());
        match now.saturating_add(plus).saturating_sub(minus) {
            0 => sums.remove(name.as_str())?,
            next => sums.insert(name.as_str(), next)?,
        };
        Ok(())
    }

    /// Removes the lists checked longest ago until no more than so many, of so many bytes, are left of these. `newest` stays.
    fn trim(
        &self,
        range: std::ops::RangeInclusive<(u32, &str, &str, &str)>,
        newest: (u32, &str, &str, &str),
        (most, most_bytes): (usize, u64),
    ) -> Result<(), IndexError> {
        let (mut lists, mut bytes): (Vec<(bool, Timestamp, OwnedKey, u64)>, u64) = (Vec::new(), 0);
        for entry in self.0.open_table(LISTS)?.range(range)? {
            let (key, row) = entry?;
            let (key, row) = (key.value(), read(row.value()));
            let (checked, size_bytes) = row.map_or_else(Default::default, |row| (row.checked, row.size_bytes));
            bytes += size_bytes;
            if key != newest {
                let owned = (key.0, key.1.to_owned(), key.2.to_owned(), key.3.to_owned());
                lists.push((key.3 == ALL_TAGS, checked, owned, size_bytes));
            }
        }
        let mut count = lists.len() + 1;
        if count <= most && bytes <= most_bytes {
            return Ok(());
        }
        lists.sort_unstable_by_key(|list| (list.0, list.1));
        for (_, _, (domain, authority, repository, list), size_bytes) in lists {
            if count <= most && bytes <= most_bytes {
                break;
            }
            self.remove((domain, &authority, &repository, &list))?;
            (count, bytes) = (count - 1, bytes - size_bytes);
        }
        Ok(())
    }

    fn authority_bytes(&self, authority: &str) -> Result<u64, IndexError> {
        let name = format!("{LIST_BYTES}{authority}");
        Ok(self.0.open_table(SUMS)?.get(name.as_str())?.map_or(0, |sum| sum.value()))
    }
}

fn read(row: &[u8]) -> Option<KeptList> {
    serde_json::from_slice(row).ok()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutList {
    pub scope: Scope,
    pub list: String,
    pub row: ListRow,
}

impl Kind for PutList {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let Self { scope, list, row: ListRow { content, next, checked, hold_until } } = self;
        let row = KeptList {
            digest: Some(Digest::of(Algorithm::Sha256, content)),
            content: None,
            size_bytes: content.len() as u64,
            next: next.clone(),
            checked: *checked,
            hold_until: *hold_until,
        };
        let (lists, key) = (Lists(to), Key::list(scope, list));
        let key = key.as_tuple();
        lists.put(key, content, &row)?;
        // Clients choose cursors and subjects, and upstreams what they answer: neither may fill the disk.
        lists.trim(schema::range(scope, "", LAST), key, (MAX_LISTS, MAX_REPOSITORY_BYTES))?;
        if lists.authority_bytes(key.1)? > MAX_AUTHORITY_BYTES {
            let all = (key.0, key.1, "", "")..=(key.0, key.1, LAST, LAST);
            lists.trim(all, key, (usize::MAX, MAX_AUTHORITY_BYTES / 4 * 3))?;
        }
        Ok(())
    }

    /// A busy list is checked every minute, and may be long.
    fn log_form(&self, before: &WriteTransaction) -> Result<LogForm, IndexError> {
        let Self { scope, list, row } = self;
        let known: Option<KeptList> = schema::row(&before.open_table(LISTS)?, &Key::list(scope, list))?;
        let is_known = known.is_some_and(|known| {
            known.next == row.next
                && known.size_bytes == row.content.len() as u64
                && known.digest == Some(Digest::of(Algorithm::Sha256, &row.content))
        });
        if !is_known {
            return Ok(LogForm::Whole);
        }
        let (scope, list) = (scope.clone(), list.clone());
        let stamp = StampList { scope, list, checked: row.checked, hold_until: row.hold_until };
        Ok(LogForm::Short(Box::new(Fact::StampList(stamp))))
    }

    fn weight(&self) -> usize {
        // A long list takes as long to write as many rows.
        1 + self.row.content.len() / 1024
    }

    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        let known: Option<KeptList> = schema::row(&from.open_table(LISTS)?, &Key::list(&self.scope, &self.list))?;
        Ok(known.is_none_or(|known| known.checked < self.row.checked))
    }

    fn new_row(&self) -> Option<(&Authority, u64)> {
        let Self { scope, list, row } = self;
        Some((&scope.authority, scope.row_bytes(list.len() + row.content.len() + 256)))
    }
}

/// A list was found to be what it was: what the log keeps of such a [`PutList`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StampList {
    pub scope: Scope,
    pub list: String,
    pub checked: Timestamp,
    #[serde(default, skip_serializing_if = "is_default")]
    pub hold_until: Timestamp,
}

impl Kind for StampList {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let (mut lists, key) = (to.open_table(LISTS)?, Key::list(&self.scope, &self.list));
        let row: Option<KeptList> = schema::row(&lists, &key)?;
        if let Some(row) = row {
            let row = KeptList { checked: self.checked, hold_until: self.hold_until, ..row };
            lists.insert(key.as_tuple(), schema::json(&row)?.as_slice())?;
        }
        Ok(())
    }
}

/// Lists whose names begin with `family`: upstream no longer has them, or refuses them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DropLists {
    pub scope: Scope,
    pub family: String,
}

impl Kind for DropLists {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        drop_lists(to, &self.scope, &self.family)
    }

    fn revocations(&self) -> Vec<Revocation> {
        vec![Revocation::Lists(self.scope.clone(), self.family.clone())]
    }

    /// Clients ask for any number of made-up names, which upstream does not have, or refuses.
    fn log_form(&self, before: &WriteTransaction) -> Result<LogForm, IndexError> {
        let is_there = schema::has_rows(&before.open_table(LISTS)?, &self.scope, &self.family)?;
        Ok(if is_there { LogForm::Whole } else { LogForm::Nothing })
    }
}

pub(super) fn drop_lists(to: &WriteTransaction, scope: &Scope, family: &str) -> Result<(), IndexError> {
    let last = format!("{family}{LAST}");
    let mut keys = Vec::new();
    for entry in to.open_table(LISTS)?.range(schema::range(scope, family, &last))? {
        keys.push(entry?.0.value().3.to_owned());
    }
    keys.iter().try_for_each(|list| Lists(to).remove(Key::list(scope, list).as_tuple()))
}

/// The lists of a registry, or of all.
pub(super) fn drop_all(to: &WriteTransaction, of: Option<&Authority>) -> Result<(), IndexError> {
    let mut keys: Vec<OwnedKey> = Vec::new();
    for entry in to.open_table(LISTS)?.iter()? {
        let key = entry?.0;
        let (domain, authority, repository, list) = key.value();
        if of.is_none_or(|of| of.as_str() == authority) {
            keys.push((domain, authority.to_owned(), repository.to_owned(), list.to_owned()));
        }
    }
    keys.iter().try_for_each(|key| drop_one(to, key))
}

pub(super) fn drop_one(
    to: &WriteTransaction,
    (domain, authority, repository, list): &OwnedKey,
) -> Result<(), IndexError> {
    Lists(to).remove((*domain, authority, repository, list))
}

pub(super) fn all(from: &ReadTransaction, each: Each<'_>) -> Result<(), IndexError> {
    let contents = from.open_table(LIST_CONTENTS)?;
    schema::each_scoped(from, LISTS, |scope, _, list, row: KeptList| match row.with_content(&contents)? {
        Some(row) => each(Fact::PutList(PutList { scope, list: list.to_owned(), row })),
        None => Ok(()),
    })
}
