//! What has a stored blob's name: its file, or something that somebody else has put there.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::layout;
use super::quarantine::FileId;

/// What has a stored blob's name.
pub(super) enum Opened {
    File(File),
    /// A FIFO, a device, a socket or a directory, which somebody has put there. Its bytes are not the blob's.
    Other(FileId),
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
    if file.metadata()?.is_file() { Ok(Opened::File(file)) } else { Ok(Opened::Other(FileId::open(&Arc::new(file))?)) }
}
