//! Lists: pages of tags, and referrers.

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Each, Fact, Kind, LogForm};
use crate::clock::Timestamp;
use crate::index::revocations::Revocation;
use crate::index::schema::{self, Key, LISTS};
use crate::index::{IndexError, Scope};

/// Lists kept of one repository: pages of tags, and referrers by subject.
const MAX_LISTS: usize = 200;

/// A list as last fetched: its exact content, in the form its user gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRow {
    /// JSON.
    pub content: String,
    pub checked: Timestamp,
    #[serde(default)]
    pub hold_until: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutList {
    pub scope: Scope,
    pub list: String,
    pub row: ListRow,
}

impl Kind for PutList {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let Self { scope, list, row } = self;
        let mut lists = to.open_table(LISTS)?;
        lists.insert(Key::list(scope, list).as_tuple(), schema::json(row)?.as_slice())?;
        // Clients choose cursors and subjects: one repository's lists must not fill the disk.
        let mut surplus = Vec::new();
        for (nth, entry) in lists.range(schema::range(scope, "", schema::LAST))?.enumerate() {
            let name = entry?.0.value().3.to_owned();
            // The first tag list in order is the complete one, which is worth most.
            if nth >= MAX_LISTS && name != *list {
                surplus.push(name);
            }
        }
        for name in &surplus {
            lists.remove(Key::list(scope, name).as_tuple())?;
        }
        Ok(())
    }

    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        let known: Option<ListRow> = schema::row(&from.open_table(LISTS)?, &Key::list(&self.scope, &self.list))?;
        Ok(known.is_none_or(|known| known.checked < self.row.checked))
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
    let last = format!("{family}{}", schema::LAST);
    Ok(to.open_table(LISTS)?.retain_in(schema::range(scope, family, &last), |_, _| false)?)
}

pub(super) fn all(from: &ReadTransaction, each: Each<'_>) -> Result<(), IndexError> {
    schema::each_scoped(from, LISTS, |scope, _, list, row| {
        each(Fact::PutList(PutList { scope, list: list.to_owned(), row }))
    })
}
