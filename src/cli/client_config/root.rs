//! A folder that stands for `/`. Root writes below it, and others may have put links there: they are followed as the root's own
//! system would, and never lead out of it (T85).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Largest file of a client, in bytes.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// What a file is called until it is whole.
const UNFINISHED: &str = ".roadstead-unfinished";

pub(super) struct Root(OwnedFd);

/// A file that is there.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
    /// User and group.
    pub(super) owner: (u32, u32),
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// What is at `path`; `None` if there is nothing.
    pub(super) fn read(&self, path: &str) -> Result<Option<Found>, String> {
        let failure = |err: io::Error| format!("/{path}: {err}");
        let (folder, name) = split(path);
        let Some(folder) = self.folder(folder).map_err(failure)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(format!("/{path} is a symbolic link: it is left alone")),
            file => file.map_err(|err| failure(err.into()))?,
        };
        let stat = rustix::fs::fstat(&file).map_err(|err| failure(err.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(format!("/{path} is no file: it is left alone"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failure)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(format!("/{path} is larger than 16 MiB"));
        }
        Ok(Some(Found { bytes, mode: stat.st_mode & 0o7777, owner: (stat.st_uid, stat.st_gid) }))
    }

    /// Makes or replaces the file at `path`: whoever reads it, or finds it after a crash, has the old content or the new one.
    pub(super) fn write(&self, path: &str, file: &Found) -> Result<(), String> {
        let write = || -> io::Result<()> {
            let (folder, name) = split(path);
            let folder = self.folder(folder)?.ok_or(io::ErrorKind::NotFound)?;
            let unfinished = format!("{name}{UNFINISHED}");
            match rustix::fs::unlinkat(&folder, &unfinished, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(err) => return Err(err.into()),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut made = File::from(rustix::fs::openat(&folder, &unfinished, flags, Mode::from_raw_mode(0o600))?);
            made.write_all(&file.bytes)?;
            let stat = rustix::fs::fstat(&made)?;
            if (stat.st_uid, stat.st_gid) != file.owner {
                std::os::unix::fs::fchown(&made, Some(file.owner.0), Some(file.owner.1))?;
            }
            rustix::fs::fchmod(&made, Mode::from_raw_mode(file.mode))?;
            made.sync_all()?;
            rustix::fs::renameat(&folder, &unfinished, &folder, name)?;
            sync(&folder)
        };
        write().map_err(|err| format!("/{path}: {err}"))
    }

    pub(super) fn remove(&self, path: &str) -> Result<(), String> {
        let remove = || -> io::Result<()> {
            let (folder, name) = split(path);
            let Some(folder) = self.folder(folder)? else { return Ok(()) };
            match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
                Ok(()) => sync(&folder),
                Err(Errno::NOENT) => Ok(()),
                Err(err) => Err(err.into()),
            }
        };
        remove().map_err(|err| format!("/{path}: {err}"))
    }

    /// Makes a folder and those above it, and gives the ones that were not there, from the top.
    pub(super) fn make_folder(&self, path: &str, mode: u32) -> Result<Vec<String>, String> {
        let mut new = Vec::new();
        let ends = path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at).chain([path.len()]);
        for part in ends.filter_map(|end| path.get(..end)) {
            let failure = |err: io::Error| format!("/{part}: {err}");
            if self.folder(part).map_err(failure)?.is_some() {
                continue;
            }
            let (above, name) = split(part);
            let above = self.folder(above).map_err(failure)?.ok_or_else(|| format!("/{part}: it has no folder"))?;
            rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(mode)).map_err(|err| failure(err.into()))?;
            sync(&above).map_err(failure)?;
            new.push(part.to_owned());
        }
        Ok(new)
    }

    /// Removes a folder, unless something is in it.
    pub(super) fn remove_empty_folder(&self, path: &str) {
        let (above, name) = split(path);
        if let Ok(Some(above)) = self.folder(above) {
            let _something_is_in_it = rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR);
        }
    }

    /// `None` if it is not there. Empty: the root itself.
    fn folder(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOSYS) => self.folder_without_links(path),
            Err(err) => Err(err.into()),
        }
    }

    /// For kernels before 5.6: links are refused.
    fn folder_without_links(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = self.0.try_clone()?;
        for name in path.split('/') {
            folder = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => return Ok(None),
                Err(err) => return Err(err.into()),
            };
        }
        Ok(Some(folder))
    }
}

/// The folder, empty for the root, and the name in it.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn sync(folder: &OwnedFd) -> io::Result<()> {
    // One that is only a path cannot be synced.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(folder.as_fd(), ".", flags, Mode::empty())?;
    Ok(rustix::fs::fsync(folder)?)
}
