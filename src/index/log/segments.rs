//! The files of the log: their names, the one that is being written, and how long they may get.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::framing::{self, Mark};

/// Journals may grow to this before a snapshot replaces them; later, to the size of the last one. Bytes.
const MIN_GROWTH: u64 = 64 * 1024 * 1024;
/// The same, in files: each start after a crash begins one.
const MAX_FILES: usize = 100;

/// How far journals go, or were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::index) struct Position {
    /// Of the journal.
    pub(in crate::index) number: u64,
    /// Bytes of it.
    pub(in crate::index) offset: u64,
}

/// The directory, and the names in it.
#[derive(Debug, Clone)]
pub(in crate::index) struct LogDirectory {
    directory: PathBuf,
}

/// What a directory of facts holds, by number.
#[derive(Debug, Default)]
pub(in crate::index) struct Listing {
    pub(in crate::index) snapshot: Option<u64>,
    /// Those that the snapshot does not hold, in order, with their sizes in bytes.
    pub(in crate::index) journals: Vec<(u64, u64)>,
    /// What the snapshot has made superfluous, and files that were never finished.
    pub(in crate::index) superseded: Vec<PathBuf>,
}

impl LogDirectory {
    pub(in crate::index) fn create(directory: PathBuf) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&directory)?;
        Ok(Self { directory })
    }

    pub(in crate::index) fn journal(&self, number: u64) -> PathBuf {
        self.directory.join(format!("journal-{number:012}.jsonl"))
    }

    pub(in crate::index) fn snapshot(&self, number: u64) -> PathBuf {
        self.directory.join(format!("snapshot-{number:012}.jsonl"))
    }

    /// A file that is not there yet.
    pub(in crate::index) fn create_file(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)
    }

    /// Makes names durable.
    pub(in crate::index) fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Writes, syncs and removes a file of so many bytes: whether there is room, and a disk that can be written.
    pub(in crate::index) fn probe(&self, bytes: usize) -> io::Result<()> {
        let path = self.directory.join("probe.tmp");
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; bytes])?;
            file.sync_all()
        });
        let removed = std::fs::remove_file(&path);
        written.and(removed)
    }

    pub(in crate::index) fn list(&self) -> io::Result<Listing> {
        let (mut journals, mut snapshots, mut superseded) = (Vec::new(), Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let number =
                |prefix: &str| name.strip_prefix(prefix)?.strip_suffix(".jsonl").and_then(|number| number.parse().ok());
            if let Some(number) = number("journal-") {
                journals.push((number, entry.metadata()?.len()));
            } else if let Some(number) = number("snapshot-") {
                snapshots.push(number);
            } else if entry.path().extension().is_some_and(|end| end == "tmp") {
                superseded.push(entry.path());
            }
        }
        journals.sort_unstable();
        let snapshot: Option<u64> = snapshots.iter().copied().max();
        superseded.extend(snapshots.into_iter().filter(|number| Some(*number) != snapshot).map(|n| self.snapshot(n)));
        let (held, journals): (Vec<_>, _) =
            journals.into_iter().partition(|(number, _)| snapshot.is_some_and(|snapshot| *number < snapshot));
        superseded.extend(held.into_iter().map(|(number, _)| self.journal(number)));
        Ok(Listing { snapshot, journals, superseded })
    }

    /// Removes what a snapshot holds. What cannot be removed now is tried again after the next one.
    pub(in crate::index) fn remove_superseded(&self) -> io::Result<()> {
        for path in self.list()?.superseded {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// The journal that is being written.
pub(in crate::index) struct Log {
    facts: LogDirectory,
    /// Where the next line goes.
    at: Position,
    file: Option<File>,
    /// Lines since the last sync: after one that fails, nobody knows which of them are on disk.
    unsynced: Vec<u8>,
    /// Bytes and files since the last snapshot.
    grown: (u64, usize),
    /// Growth that calls for a snapshot. Bytes.
    limit: u64,
}

impl Log {
    /// Goes on at `end`, in the file that ends there or in a new one. Writes nothing yet.
    pub(in crate::index) fn open(facts: LogDirectory, end: Position) -> io::Result<Self> {
        let listing = facts.list()?;
        let snapshot_bytes = match listing.snapshot {
            Some(number) => std::fs::metadata(facts.snapshot(number))?.len(),
            None => 0,
        };
        let path = facts.journal(end.number);
        let ends_there = end.offset > 0 && std::fs::metadata(&path).is_ok_and(|meta| meta.len() == end.offset);
        let file = if ends_there { Some(OpenOptions::new().append(true).open(&path)?) } else { None };
        let grown = (listing.journals.iter().map(|(_, bytes)| bytes).sum(), listing.journals.len());
        Ok(Self { facts, at: end, file, unsynced: Vec::new(), grown, limit: snapshot_bytes.max(MIN_GROWTH) })
    }

    /// Appends whole lines. They are durable after [`Log::sync`].
    pub(in crate::index) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let before = self.unsynced.len();
        self.unsynced.extend_from_slice(lines);
        let written = match &mut self.file {
            Some(file) => file.write_all(lines).map(|()| lines.len()),
            None => self.begin(),
        };
        match written {
            Ok(bytes) => {
                self.at.offset += bytes as u64;
                self.grown.0 += bytes as u64;
                Ok(())
            }
            Err(err) => {
                // Whoever wanted these lines is told, and may bring them again.
                self.unsynced.truncate(before);
                self.abandon();
                Err(err)
            }
        }
    }

    pub(in crate::index) fn sync(&mut self) -> io::Result<()> {
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
            Ok(()) => self.unsynced.clear(),
            Err(_) => self.abandon(),
        }
        synced
    }

    /// A new file, with the lines that may be lost with the last one. Returns its size in bytes.
    fn begin(&mut self) -> io::Result<usize> {
        let path = self.facts.journal(self.at.number);
        let mut file = match LogDirectory::create_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                self.abandon();
                LogDirectory::create_file(&self.facts.journal(self.at.number))?
            }
            created => created?,
        };
        let mut head = Vec::new();
        framing::write(&Mark::RoadsteadFacts(framing::VERSION), &mut head).map_err(io::Error::other)?;
        file.write_all(&head)?;
        file.write_all(&self.unsynced)?;
        self.facts.sync()?;
        self.file = Some(file);
        self.grown.1 += 1;
        Ok(head.len() + self.unsynced.len())
    }

    fn abandon(&mut self) {
        self.file = None;
        self.at = Position { number: self.at.number + 1, offset: 0 };
    }

    /// The end of what was synced, if all was.
    pub(in crate::index) const fn position(&self) -> Position {
        self.at
    }

    /// Whether a snapshot is worth its while.
    pub(in crate::index) const fn is_long(&self) -> bool {
        self.grown.0 > self.limit || self.grown.1 > MAX_FILES
    }

    /// The next line begins a new file, and a snapshot of what was written until now gets its number. Call it when all is
    /// synced.
    pub(in crate::index) fn rotate(&mut self) -> u64 {
        self.abandon();
        self.grown = (0, 0);
        self.at.number
    }

    /// A snapshot of so many bytes is there.
    pub(in crate::index) fn snapshot_taken(&mut self, bytes: u64) {
        self.limit = bytes.max(MIN_GROWTH);
    }
}
