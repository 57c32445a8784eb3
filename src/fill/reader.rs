//! One response body: the bytes of a range, at the reader's own pace.

use std::ops::Range;

use bytes::Bytes;

use super::error::FillError;
use super::pass_through::{PassThrough, PassThroughSource};
use super::progress::FillWatcher;
use crate::cache::blocks::BlockWatch;
use crate::store::{BlobFile, SEND_WINDOW};
use crate::upstream::Deadline;

/// Longest range that is given unproven, in bytes: the table of contents of a large layer, and no layer.
const LONGEST_LAZY: u64 = 4 * 1024 * 1024;

/// Where a blob's bytes come from.
pub enum BlobSource {
    /// HEAD was asked: there is nothing to read.
    Nothing,
    Memory(Bytes),
    Stored(BlobFile),
    Filling(FillSource),
    PassThrough(Box<PassThroughSource>),
    /// As upstream sends it, without proof.
    Unproven(Box<PassThroughSource>),
}

/// A running fill and its file.
pub struct FillSource {
    watcher: FillWatcher,
    file: BlobFile,
    /// Where a short range in the withheld tail comes from instead, if that is wanted.
    lazy: Option<Box<PassThroughSource>>,
}

impl FillSource {
    /// Waits until the fill has ended, without reading. Gives its error, if it failed.
    pub async fn into_end(mut self, deadline: Deadline) -> Option<FillError> {
        self.watcher.ended(deadline).await;
        self.watcher.failure()
    }
}

/// The next part of a range: bytes, or where they lie.
#[expect(clippy::large_enum_variant, reason = "a box would cost each part an allocation")]
pub enum BodyPart {
    Bytes(Bytes),
    /// At most [`SEND_WINDOW`] bytes of a file, in memory when the piece was made.
    File {
        file: BlobFile,
        offset: u64,
        length: usize,
        /// A slow client takes long to receive it.
        watch: Option<BlockWatch>,
    },
}

/// Gives the bytes of one range, and then perhaps of another. Dropping it changes nothing for others.
pub struct BlobReader {
    kind: Kind,
    at: u64,
    end: u64,
    watch: Option<BlockWatch>,
}

enum Kind {
    Memory(Bytes),
    File(BlobFile),
    Filling(FillSource),
    PassThrough(Box<PassThrough>),
}

impl FillSource {
    pub const fn new(watcher: FillWatcher, file: BlobFile, lazy: Option<Box<PassThroughSource>>) -> Self {
        Self { watcher, file, lazy }
    }
}

impl BlobSource {
    /// The source of `range`: upstream itself where a short range reaches into the tail of a fill that withholds it, and the
    /// configuration wants that.
    #[must_use]
    pub fn lazily(self, range: &Range<u64>) -> Self {
        let is_short = range.end - range.start <= LONGEST_LAZY;
        if let Self::Filling(FillSource { watcher, lazy: Some(lazy), .. }) = &self
            && range.end > lazy.withheld_from()
            && is_short
            && !watcher.is_proven()
        {
            return Self::Unproven(lazy.clone());
        }
        self
    }

    /// Reads `range`, which lies within the blob, until it is blocked.
    pub fn reader(self, range: Range<u64>, watch: Option<BlockWatch>) -> BlobReader {
        let kind = match self {
            Self::Nothing => Kind::Memory(Bytes::new()),
            Self::Memory(bytes) => Kind::Memory(bytes),
            Self::Stored(file) => Kind::File(file),
            Self::Filling(source) => Kind::Filling(source),
            Self::PassThrough(source) => Kind::PassThrough(Box::new(PassThrough::new(source))),
            Self::Unproven(source) => Kind::PassThrough(Box::new(PassThrough::unproven(source))),
        };
        BlobReader { kind, at: range.start, end: range.end, watch }
    }
}

impl BlobReader {
    /// Reads `range` next, which lies within the blob, in place of what is left of the range before.
    pub const fn go_to(&mut self, range: Range<u64>) {
        self.at = range.start;
        self.end = range.end;
    }

    /// The next bytes; `None` at the end of the range. After an error the response must be cut.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FillError> {
        let bytes = self.read_next().await?;
        self.refuse_blocked()?;
        Ok(bytes)
    }

    /// As [`Self::next`], without reading what lies in a file.
    pub async fn next_part(&mut self) -> Result<Option<BodyPart>, FillError> {
        let part = self.find_part().await?;
        self.refuse_blocked()?;
        Ok(part)
    }

    /// It may have been blocked while bytes were waited for.
    fn refuse_blocked(&mut self) -> Result<(), FillError> {
        match self.watch.as_mut().and_then(BlockWatch::blocked) {
            Some(blocked) => Err(FillError::Blocked(blocked)),
            None => Ok(()),
        }
    }

    async fn read_next(&mut self) -> Result<Option<Bytes>, FillError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let bytes = match &mut self.kind {
            Kind::Memory(bytes) => {
                let within = to_usize(self.at)..to_usize(self.end);
                if within.end > bytes.len() {
                    return Err(FillError::Internal("a range beyond the blob".to_owned()));
                }
                bytes.slice(within)
            }
            Kind::File(file) => read(file, self.at, self.end).await?,
            Kind::Filling(source) => {
                let readable = source.watcher.readable_from(self.at).await?;
                read(&source.file, self.at, readable.min(self.end)).await?
            }
            Kind::PassThrough(pass_through) => pass_through.next(self.at, self.end).await?,
        };
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }

    async fn find_part(&mut self) -> Result<Option<BodyPart>, FillError> {
        let (file, end) = match &mut self.kind {
            Kind::File(file) => (&*file, self.end),
            Kind::Filling(source) if self.at < self.end => {
                let readable = source.watcher.readable_from(self.at).await?;
                (&source.file, readable.min(self.end))
            }
            Kind::Memory(_) | Kind::Filling(_) | Kind::PassThrough(_) => {
                return Ok(self.read_next().await?.map(BodyPart::Bytes));
            }
        };
        if self.at >= end {
            return Ok(None);
        }
        let (offset, length) = (self.at, to_usize(end - self.at).min(SEND_WINDOW));
        self.at += length as u64;
        file.resident(offset..self.at).await.map_err(|err| unreadable(&err))?;
        Ok(Some(BodyPart::File { file: file.clone(), offset, length, watch: self.watch.clone() }))
    }
}

/// The error for a stored file that cannot be read.
pub fn unreadable(err: &std::io::Error) -> FillError {
    FillError::Internal(format!("a stored blob cannot be read: {err}"))
}

async fn read(file: &BlobFile, at: u64, end: u64) -> Result<Bytes, FillError> {
    file.read_some(at, to_usize(end - at)).await.map_err(|err| unreadable(&err))
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
