//! The files of the log, by number.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::index) struct Position {
    /// The journal's number.
    pub(in crate::index) number: u64,
    /// Bytes from its start.
    pub(in crate::index) offset: u64,
}

/// The directory, and the names in it.
#[derive(Debug, Clone)]
pub(in crate::index) struct LogDirectory {
    directory: PathBuf,
}

/// The files in the directory, by number.
#[derive(Debug, Default)]
pub(in crate::index) struct Listing {
    pub(in crate::index) snapshot: Option<u64>,
    /// Journals that the snapshot does not hold, in order, with their sizes in bytes.
    pub(in crate::index) journals: Vec<(u64, u64)>,
    /// Files that the snapshot has made superfluous, or that were never finished.
    pub(in crate::index) superseded: Vec<PathBuf>,
}

impl Listing {
    /// Whether the journals still go as far as this.
    pub(in crate::index) fn reaches(&self, position: Position) -> bool {
        let Position { number, offset } = position;
        offset == 0 || self.journals.iter().any(|(journal, bytes)| *journal == number && *bytes >= offset)
    }

    /// The number of the first journal that is not there.
    pub(in crate::index) fn next(&self) -> u64 {
        self.journals.last().map(|(number, _)| *number).max(self.snapshot).unwrap_or_default() + 1
    }
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

    /// Removes files that a snapshot has made superfluous. If that fails, the next snapshot tries it again.
    pub(in crate::index) fn remove_superseded(&self) -> io::Result<()> {
        for path in self.list()?.superseded {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}
