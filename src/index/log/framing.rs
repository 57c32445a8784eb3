//! How facts are written beside the blobs: a line each, `<checksum> <JSON>`, the checksum being the first eight digits of
//! the JSON's SHA-256. A line that is torn or damaged costs that fact only.
//!
//! The first line is `{"roadstead_facts":1}`: the version of this form, not of the kinds of facts (see [`Fact`]). The last
//! one of a snapshot is `{"end":{"facts":…}}`.

use std::io::{self, BufRead, Read as _};

use serde::{Deserialize, Serialize};

use crate::index::IndexError;
use crate::index::facts::Fact;
use crate::oci::{Algorithm, Digest};

/// The form that this release writes. A file of a newer form is not read.
pub(in crate::index) const VERSION: u32 = 1;
const CHECKSUM_LENGTH: usize = 8;
/// Bytes. The longest lines are lists; a longer one is damage.
const MAX_LINE: u64 = 64 * 1024 * 1024;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::index) enum Mark {
    RoadsteadFacts(u32),
    End {
        facts: u64,
    },
    /// A fact of older releases: a blob was gone. The next request for it finds that again.
    RemoveBlob {
        digest: Digest,
    },
}

pub(in crate::index) enum Line {
    Fact(Box<Fact>),
    Mark(Mark),
    /// Whole, and of a kind that this release does not know.
    Unknown,
    Damaged,
}

/// Writes one line behind `out`.
pub(in crate::index) fn write(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), IndexError> {
    let start = out.len();
    out.extend_from_slice(&[b' '; CHECKSUM_LENGTH + 1]);
    serde_json::to_writer(&mut *out, value).map_err(|_unserialisable| IndexError::BadRow)?;
    let (head, json) = out.split_at_mut(start + CHECKSUM_LENGTH + 1);
    let sum = checksum(json);
    for (to, from) in head.iter_mut().skip(start).zip(sum) {
        *to = from;
    }
    out.push(b'\n');
    Ok(())
}

/// The next line; `None` at the end. `buffer` is used again. A last line without its end was torn: no caller was told that
/// it was written.
pub(in crate::index) fn read(from: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Option<Line>> {
    buffer.clear();
    let length = from.by_ref().take(MAX_LINE).read_until(b'\n', buffer)?;
    Ok(match buffer.as_slice() {
        [line @ .., b'\n'] => Some(parse(line)),
        _ => (length as u64 == MAX_LINE).then_some(Line::Damaged),
    })
}

fn parse(line: &[u8]) -> Line {
    let Some((sum, [b' ', json @ ..])) = line.split_at_checked(CHECKSUM_LENGTH) else { return Line::Damaged };
    if !checksum(json).eq(sum.iter().copied()) {
        return Line::Damaged;
    }
    if let Ok(fact) = serde_json::from_slice(json) {
        return Line::Fact(fact);
    }
    serde_json::from_slice(json).map_or(Line::Unknown, Line::Mark)
}

fn checksum(json: &[u8]) -> impl Iterator<Item = u8> {
    Digest::of(Algorithm::Sha256, json).hex().into_bytes().into_iter().take(CHECKSUM_LENGTH)
}
