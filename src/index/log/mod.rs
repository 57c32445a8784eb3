//! The log of facts beside the blobs. It is the truth: a fact is durable when the log is synced, and the database is a view
//! of the log that can be made anew.
//!
//! ```text
//! <root>/facts/journal-<n>.jsonl    facts in the order in which they were written (see `framing`)
//! <root>/facts/snapshot-<n>.jsonl   all facts from before journal n
//! ```
//!
//! The newest snapshot and the journals from its number on are all that is known. The database remembers how far it has
//! taken the log in, in the transaction that took it. The next start replays the rest.

pub(super) mod backup;
pub(super) mod framing;
pub(super) mod replay;
pub(super) mod segments;
pub(super) mod snapshot;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};

use framing::Mark;
use segments::{LogDirectory, Position};

/// The log may grow to this before a snapshot replaces it; later, to the size of the last one. Bytes.
const MIN_GROWTH: u64 = 64 * 1024 * 1024;
/// The same, in files: each start after a crash begins one.
const MAX_FILES: usize = 100;
/// Lines that may wait for a sync. Bytes.
const MAX_UNSYNCED: usize = 4 * 1024 * 1024;

/// The end of the log, where it is written.
pub(super) struct Log {
    directory: LogDirectory,
    /// The next line goes here.
    at: Position,
    file: Option<File>,
    /// Lines since the last sync. After a sync that failed, any of them may be missing on the disk.
    unsynced: Vec<u8>,
    /// The file is to be cut here: its writer was told that the lines behind were not written.
    refused: Option<Position>,
    /// Bytes and files since the last snapshot.
    grown: (u64, usize),
    /// Growth that calls for a snapshot. Bytes.
    limit: u64,
    /// The index knows more than the log tells, until a snapshot is taken.
    lacks_snapshot: bool,
}

impl Log {
    /// Goes on at `end`, in the file that ends there or in a new one. The files that it finds are durable when it returns.
    pub(super) fn open(directory: LogDirectory, end: Position) -> io::Result<Self> {
        let listing = directory.list()?;
        let snapshot_bytes = match listing.snapshot {
            Some(number) => std::fs::metadata(directory.snapshot(number))?.len(),
            None => 0,
        };
        let path = directory.journal(end.number);
        let ends_there = end.offset > 0 && std::fs::metadata(&path).is_ok_and(|meta| meta.len() == end.offset);
        let file = if ends_there { Some(OpenOptions::new().append(true).open(&path)?) } else { None };
        // A killed process leaves lines that are read and not synced. The database must not run ahead of them.
        if let Some((number, _)) = listing.journals.last() {
            File::open(directory.journal(*number))?.sync_data()?;
            directory.sync()?;
        }
        let grown = (listing.journals.iter().map(|(_, bytes)| bytes).sum(), listing.journals.len());
        let limit = snapshot_bytes.max(MIN_GROWTH);
        Ok(Self { directory, at: end, file, unsynced: Vec::new(), refused: None, grown, limit, lacks_snapshot: false })
    }

    pub(super) const fn directory(&self) -> &LogDirectory {
        &self.directory
    }

    /// Appends whole lines, all or none. They are durable after [`Log::sync`].
    pub(super) fn append(&mut self, lines: impl Into<Vec<u8>>) -> io::Result<()> {
        let lines = lines.into();
        if lines.is_empty() {
            return Ok(());
        }
        let before = self.unsynced.len();
        if before == 0 {
            self.unsynced = lines;
        } else {
            self.unsynced.extend_from_slice(&lines);
        }
        let new = self.unsynced.get(before..).unwrap_or_default();
        let written = match &mut self.file {
            Some(file) => file.write_all(new).map(|()| new.len()),
            None => self.begin(),
        };
        match written {
            Ok(bytes) => {
                self.at.offset += bytes as u64;
                self.grown.0 += bytes as u64;
                Ok(())
            }
            Err(err) => {
                self.refuse(before, self.at);
                Err(err)
            }
        }
    }

    /// The same, and durable when it returns. Lines that cannot be synced are taken back.
    pub(super) fn append_durably(&mut self, lines: impl Into<Vec<u8>>) -> io::Result<()> {
        let (before, lines) = (self.unsynced.len(), lines.into());
        let length = lines.len() as u64;
        self.append(lines)?;
        let end = Position { offset: self.at.offset.saturating_sub(length), ..self.at };
        self.sync().inspect_err(|_| self.refuse(before, end))
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.cut_refused()?;
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let synced = match &self.file {
            Some(file) => file.sync_data(),
            // The file of these lines was given up.
            None => self.begin().map(|bytes| self.at.offset += bytes as u64).and_then(|()| match &self.file {
                Some(file) => file.sync_data(),
                None => Ok(()),
            }),
        };
        match synced {
            // Its room goes too: it was made for the longest list.
            Ok(()) => self.unsynced = Vec::new(),
            Err(_) => self.abandon(),
        }
        synced
    }

    /// Takes lines back whose writer is told that they were not written. Their file is cut now, or before any other is
    /// begun: they must not be read at the next start.
    fn refuse(&mut self, keep_unsynced: usize, end: Position) {
        self.unsynced.truncate(keep_unsynced);
        self.refused = Some(end);
        self.abandon();
        // Tried again before the next line is written.
        let _cut_later = self.cut_refused();
    }

    fn cut_refused(&mut self) -> io::Result<()> {
        let Some(end) = self.refused else { return Ok(()) };
        match OpenOptions::new().write(true).open(self.directory.journal(end.number)) {
            // Unless the directory itself is away: the file comes back with it.
            Err(err) if err.kind() == io::ErrorKind::NotFound => self.directory.sync()?,
            Err(err) => return Err(err),
            Ok(file) => {
                if file.metadata()?.len() > end.offset {
                    file.set_len(end.offset)?;
                    file.sync_data()?;
                }
            }
        }
        self.refused = None;
        Ok(())
    }

    /// A new file, with the lines that may be lost with the last one. Returns its size in bytes.
    fn begin(&mut self) -> io::Result<usize> {
        self.cut_refused()?;
        let path = self.directory.journal(self.at.number);
        let mut file = match LogDirectory::create_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                self.abandon();
                LogDirectory::create_file(&self.directory.journal(self.at.number))?
            }
            created => created?,
        };
        let mut head = Vec::new();
        framing::write(&Mark::RoadsteadFacts(framing::VERSION), &mut head).map_err(io::Error::other)?;
        file.write_all(&head)?;
        file.write_all(&self.unsynced)?;
        self.directory.sync()?;
        self.file = Some(file);
        self.grown.1 += 1;
        Ok(head.len() + self.unsynced.len())
    }

    fn abandon(&mut self) {
        self.file = None;
        self.at = Position { number: self.at.number + 1, offset: 0 };
    }

    /// Whether so much waits for a sync that it should not wait: it is in memory.
    pub(super) const fn needs_sync(&self) -> bool {
        self.unsynced.len() >= MAX_UNSYNCED
    }

    /// The end of what was synced, if all was.
    pub(super) const fn position(&self) -> Position {
        self.at
    }

    /// Whether it has grown long enough for a snapshot.
    pub(super) const fn is_long(&self) -> bool {
        self.lacks_snapshot || self.grown.0 > self.limit || self.grown.1 > MAX_FILES
    }

    /// Has a snapshot taken soon, however short the log is: the index knows more than the log tells.
    pub(super) const fn lack_snapshot(&mut self) {
        self.lacks_snapshot = true;
    }

    pub(super) const fn lacks_snapshot(&self) -> bool {
        self.lacks_snapshot
    }

    /// The next line begins a new file, and a snapshot of what was written until now gets its number. Call it when all is
    /// synced.
    pub(super) fn rotate(&mut self) -> u64 {
        self.abandon();
        self.grown = (0, 0);
        self.at.number
    }

    /// A snapshot of so many bytes was taken.
    pub(super) fn snapshot_taken(&mut self, bytes: u64) {
        self.limit = bytes.max(MIN_GROWTH);
        self.lacks_snapshot = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if the lines had reached the file.
    fn write_behind(path: &std::path::Path, lines: &[u8]) {
        OpenOptions::new().append(true).open(path).unwrap().write_all(lines).unwrap();
    }

    #[test]
    fn lines_that_were_refused_are_not_read_at_the_next_start_and_others_are() {
        let root = tempfile::tempdir().unwrap();
        let directory = LogDirectory::create(root.path().join("facts")).unwrap();
        let mut log = Log::open(directory.clone(), Position { number: 1, offset: 0 }).unwrap();
        let read = || {
            let files = directory.list().unwrap().journals.into_iter();
            files.map(|(number, _)| std::fs::read_to_string(directory.journal(number)).unwrap()).collect::<String>()
        };
        log.append_durably(b"first\n").unwrap();
        // Cannot be written to.
        log.file = Some(File::open(directory.journal(1)).unwrap());
        write_behind(&directory.journal(1), b"refused\ntor");
        log.append(b"refused\ntorn\n").unwrap_err();
        assert!(!read().contains("refused"), "{}", read());
        log.append(b"second\n").unwrap();
        // Can be written to and not be synced.
        let (reader, writer) = io::pipe().unwrap();
        log.file = Some(File::from(std::os::fd::OwnedFd::from(writer)));
        write_behind(&directory.journal(2), b"refused\n");
        log.append_durably(b"refused\n").unwrap_err();
        drop(reader);
        assert!(!read().contains("refused"), "{}", read());
        log.append_durably(b"third\n").unwrap();
        let all = read();
        assert!(
            ["first", "second", "third"].iter().all(|line| all.contains(line)) && !all.contains("refused"),
            "{all}"
        );
    }
}
