//! What has a stored blob's name: its file, or something that somebody else has put there.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use super::layout;
use super::quarantine::FileId;

/// What has a stored blob's name.
pub(super) enum Opened {
    /// Its file, and the size of that in bytes.
    File(File, u64),
    /// A FIFO, a device, a socket or a directory, which somebody has put there. Its bytes are not the blob's.
    Other(FileId),
}

/// Which file has a stored blob's name, as far as can be seen without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl FileStamp {
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// `None` if no file is there. Blocking.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self {
                device: metadata.dev(),
                inode: metadata.ino(),
                size_bytes: metadata.len(),
                changed: (metadata.mtime(), metadata.mtime_nsec()),
            })),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }
}

/// Opens what has a stored blob's name, and looks at its type before anything is read.
pub(super) fn open_stored(path: &Path) -> io::Result<Opened> {
    let file = match layout::open_at_once(path) {
        Ok(file) => file,
        // What cannot be opened at all, as a socket, may be no file.
        Err(err) => match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => return Ok(Opened::Other(FileId::of(&metadata, None))),
            Ok(_) | Err(_) => return Err(err),
        },
    };
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok(Opened::File(file, metadata.len()))
    } else {
        Ok(Opened::Other(FileId::open(&Arc::new(file))?))
    }
}
