//! Facts, one file for each kind, and what the database derives from them.
//!
//! In the log a fact is an object with one key, its kind. Kinds and their fields keep their meaning for ever: a release may
//! add some, with defaults for what older ones wrote, and reads past those that it does not know.
//!
//! A new kind takes a type with its [`Kind`] in one of these files, and a line in the list below.

mod blob;
mod denial;
mod derived;
mod expiry;
mod grant;
mod list;
mod manifest;
mod orders;
mod pull;
mod removal;
mod surplus;
mod tag;
mod unrecoverable;

use std::borrow::Cow;

use redb::{ReadTransaction, WriteTransaction};
use serde::{Deserialize, Serialize};

pub use blob::{BeginEviction, BlobRow, EndEviction, PutBlob, RemoveMissing};
pub use denial::{DropAllGrants, DropGrants, DropPublicGrants};
pub use derived::{DropReferrers, MarkPinned, NoteAccesses, NoteObtainable, Unmark};
pub use expiry::DropExpired;
pub(in crate::index) use expiry::is_unused;
pub use grant::{GrantBlob, GrantManifest, GrantRow, UseGrant};
pub use list::{ALL_TAGS, DropLists, ListRow, PutList, StampList};
pub(in crate::index) use list::{KeptList, get as list};
pub use manifest::{PutChildren, PutManifestType, PutReferrer, ReferrerRow};
pub(in crate::index) use orders::block::each as each_block;
pub use orders::block::{BlockRow, PutBlock, RemoveBlock};
pub use orders::pin::{PutPin, RemovePin};
pub use pull::{NotePulls, Pull};
pub use removal::{RemoveGrants, RemoveRepository, RemoveTag};
pub use surplus::DropRows;
pub(in crate::index) use surplus::RowTable;
pub use tag::{AliasTarget, HistoryEntry, PinTag, PutAlias, PutTag, StampTag, TagRow, UnpinTag};
pub use unrecoverable::{PutUnrecoverable, Unrecoverable};

use super::IndexError;
use super::generation::Generations;
use super::revocations::Revocation;
use crate::oci::{Authority, Digest};

/// The effect of a kind of change, and what follows from it.
pub(super) trait Kind {
    /// Writes it into the tables.
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError>;

    /// Outdates facts in memory that were read before. Call it when the change is visible.
    fn bump(&self, _generations: &Generations) {}

    /// The revocations it makes: they are never dropped for want of room.
    fn revocations(&self) -> Vec<Revocation> {
        Vec::new()
    }

    /// Whether it tells what became of the bytes of a blob, or what they say: no upstream can be asked for that.
    fn is_of_bytes(&self) -> bool {
        false
    }

    /// What it does to the sums of stored bytes.
    fn moves_bytes(&self) -> BytesMoved {
        BytesMoved::None
    }

    /// About how many rows it changes, by its kind.
    fn weight(&self) -> usize {
        1
    }

    /// Whose row it makes or makes anew, and about how many bytes that takes, for rows that cost nothing to have made.
    fn new_row(&self) -> Option<(&Authority, u64)> {
        None
    }

    /// Its form in the log. Call it before it is applied.
    fn log_form(&self, _before: &WriteTransaction) -> Result<LogForm, IndexError> {
        Ok(LogForm::Whole)
    }

    /// Whether a backup brings news by it: the index does not know it, or knows something older. Backups hold the state of
    /// things, and not how it came about.
    fn is_news(&self, _from: &ReadTransaction) -> Result<bool, IndexError> {
        Ok(false)
    }

    /// Whether a rebuild remembers it behind the blobs that were found.
    fn outlives_loss(&self, _to: &WriteTransaction) -> Result<bool, IndexError> {
        Ok(true)
    }
}

/// How a change moves the sums of stored bytes.
pub(super) enum BytesMoved {
    None,
    Put(Digest),
    Removed(Vec<Digest>),
    /// Another registry can give them.
    Origin,
}

pub(super) enum LogForm {
    Whole,
    /// Another fact says it in fewer words.
    Short(Box<Fact>),
    /// It changes nothing.
    Nothing,
}

/// Takes each fact of a snapshot.
pub(super) type Each<'a> = &'a mut dyn FnMut(Fact) -> Result<(), IndexError>;

macro_rules! facts {
    ($($(#[$attribute:meta])* $kind:ident,)+) => {
        /// A change that the log keeps.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Fact {
            $($(#[$attribute])* $kind($kind),)+
        }

        impl Fact {
            #[cfg(test)]
            const COUNT: usize = [$(stringify!($kind)),+].len();

            fn kind(&self) -> &dyn Kind {
                match self {
                    $(Self::$kind(fact) => fact,)+
                }
            }
        }

        $(impl From<$kind> for Change {
            fn from(fact: $kind) -> Self {
                Self::Fact(Fact::$kind(fact))
            }
        })+
    };
}

macro_rules! derived {
    ($($kind:ident,)+) => {
        /// A change that only the database has: it is made anew from facts, or learnt again.
        #[derive(Debug, Clone)]
        pub enum Derived {
            $($kind($kind),)+
        }

        impl Derived {
            fn kind(&self) -> &dyn Kind {
                match self {
                    $(Self::$kind(derived) => derived,)+
                }
            }
        }

        $(impl From<$kind> for Change {
            fn from(derived: $kind) -> Self {
                Self::Derived(Derived::$kind(derived))
            }
        })+
    };
}

facts! {
    PutTag,
    StampTag,
    PutList,
    StampList,
    DropLists,
    PutManifestType,
    GrantManifest,
    GrantBlob,
    UseGrant,
    DropGrants,
    DropPublicGrants,
    DropAllGrants,
    DropExpired,
    PutBlob,
    RemoveMissing,
    BeginEviction,
    EndEviction,
    #[serde(rename = "put_lost")]
    PutUnrecoverable,
    PutChildren,
    PutReferrer,
    PutPin,
    RemovePin,
    PinTag,
    UnpinTag,
    PutAlias,
    RemoveTag,
    RemoveGrants,
    RemoveRepository,
    PutBlock,
    RemoveBlock,
    DropRows,
}

derived! {
    NoteAccesses,
    NoteObtainable,
    MarkPinned,
    Unmark,
    DropReferrers,
    NotePulls,
}

/// One of a batch. Those of one batch become visible together.
#[derive(Debug, Clone)]
pub enum Change {
    Fact(Fact),
    Derived(Derived),
}

impl From<Fact> for Change {
    fn from(fact: Fact) -> Self {
        Self::Fact(fact)
    }
}

impl Change {
    fn kind(&self) -> &dyn Kind {
        match self {
            Self::Fact(fact) => fact.kind(),
            Self::Derived(derived) => derived.kind(),
        }
    }

    pub(super) fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        self.kind().apply(to)
    }

    pub(super) fn bump(&self, generations: &Generations) {
        self.kind().bump(generations);
    }

    pub(super) fn revocations(&self) -> Vec<Revocation> {
        self.kind().revocations()
    }

    pub(super) fn is_denial(&self) -> bool {
        !self.revocations().is_empty()
    }

    pub(super) fn is_of_bytes(&self) -> bool {
        self.kind().is_of_bytes()
    }

    pub(super) fn moves_bytes(&self) -> BytesMoved {
        self.kind().moves_bytes()
    }

    pub(super) fn weight(&self) -> usize {
        self.kind().weight()
    }

    pub(super) fn new_row(&self) -> Option<(&Authority, u64)> {
        self.kind().new_row()
    }

    /// Its form in the log; `None` if it may be lost with the index.
    pub(super) fn log_form(&self, before: &WriteTransaction) -> Result<Option<Cow<'_, Fact>>, IndexError> {
        let Self::Fact(fact) = self else { return Ok(None) };
        Ok(match fact.kind().log_form(before)? {
            LogForm::Whole => Some(Cow::Borrowed(fact)),
            LogForm::Short(fact) => Some(Cow::Owned(*fact)),
            LogForm::Nothing => None,
        })
    }
}

impl Fact {
    pub(super) fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        self.kind().is_news(from)
    }

    pub(super) fn outlives_loss(&self, to: &WriteTransaction) -> Result<bool, IndexError> {
        self.kind().outlives_loss(to)
    }
}

/// All facts of one moment, in an order in which they can be applied. Rows that cannot be read are left out.
pub(super) fn all(from: &ReadTransaction, each: Each<'_>) -> Result<(), IndexError> {
    blob::all(from, each)?;
    manifest::all(from, each)?;
    grant::all(from, each)?;
    tag::all(from, each)?;
    list::all(from, each)?;
    orders::pin::all(from, each)?;
    orders::block::all(from, each)?;
    unrecoverable::all(from, each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::log::framing::{self, Line, Mark};

    fn parse(json: &str) -> Line {
        let mut line = Vec::new();
        framing::write(&serde_json::from_str::<serde_json::Value>(json).unwrap(), &mut line).unwrap();
        framing::read(&mut line.as_slice(), &mut Vec::new()).unwrap().unwrap()
    }

    /// One line of each kind as an earlier release wrote it: they are read, and written the same.
    #[test]
    fn the_written_form_of_every_kind_stays() {
        let written = include_str!("written_form.jsonl");
        let mut kinds = std::collections::BTreeSet::new();
        for json in written.lines() {
            let Line::Fact(fact) = parse(json) else { panic!("{json}") };
            assert_eq!(serde_json::to_string(&fact).unwrap(), json);
            kinds.insert(json.split('"').nth(1).unwrap().to_owned());
        }
        assert_eq!(kinds.len(), Fact::COUNT, "{kinds:?}");
    }

    #[test]
    fn a_kind_that_is_no_longer_written_is_read_past() {
        let digest = Digest::of(crate::oci::Algorithm::Sha256, b"");
        let line = parse(&format!(r#"{{"remove_blob":{{"digest":"{digest}"}}}}"#));
        assert!(matches!(line, Line::Mark(Mark::RemoveBlob { .. })));
    }
}
