//! One process per storage, and a layout that it knows.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{OpenError, layout};

const VERSION: u32 = 1;

/// Locks `root`, which is created if missing. The lock lasts as long as the file is open.
pub(super) fn acquire(root: &Path) -> Result<File, OpenError> {
    let failed = |err| OpenError::Io { path: root.to_owned(), err };
    layout::make_dir(root).map_err(failed)?;
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(root.join("LOCK"))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The pid is a help for the operator; without it the message still stands.
            let _unreadable = lock.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(OpenError::InUse { path: root.to_owned(), pid });
        }
        Err(TryLockError::Error(err)) => return Err(failed(err)),
    }
    if let Err(err) = write_pid(&mut lock) {
        // The lock is what counts; on a full disk it still holds.
        tracing::warn!(path = %root.display(), error = %err, "the process id cannot be noted in LOCK");
    }
    check_version(root)?;
    Ok(lock)
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn check_version(root: &Path) -> Result<(), OpenError> {
    let failed = |err| OpenError::Io { path: root.to_owned(), err };
    let path = root.join("VERSION");
    match layout::read_file(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) {
        Ok(found) if found.trim() == VERSION.to_string() => Ok(()),
        // A crash while the very first start wrote it.
        Ok(found) if found.trim_matches(['\0', '\n', ' ']).is_empty() => write_version(root).map_err(failed),
        Ok(found) => Err(OpenError::TooNew { path: root.to_owned(), found: found.trim().to_owned(), known: VERSION }),
        Err(err) if err.kind() == io::ErrorKind::NotFound => write_version(root).map_err(failed),
        Err(err) => Err(failed(err)),
    }
}

fn write_version(root: &Path) -> io::Result<()> {
    layout::write_durably(&root.join("VERSION"), &root.join("VERSION.tmp"), format!("{VERSION}\n").as_bytes())
}
