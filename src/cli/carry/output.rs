//! Where an export goes: a file, a directory, standard output. What is not whole has no name.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use roadstead::jobs::bundle::docker_archive::MANIFEST_FILE;
use roadstead::jobs::bundle::layout::{INDEX_FILE, LAYOUT_FILE, blob_path, digest_of_path};
use roadstead::jobs::bundle::receipt::RECEIPT_FILE;
use roadstead::jobs::bundle::tar_reader::{TarKind, TarReader};

/// Bytes that are copied at a time.
const CHUNK: usize = 1024 * 1024;

/// The kind of an output.
#[derive(Debug, Clone)]
pub(super) enum Output {
    Stdout,
    Archive(PathBuf),
    Directory(PathBuf),
}

impl Output {
    /// `-`, a name that ends in `.tar`, or a directory.
    pub(super) fn of(path: &Path) -> Self {
        let is_archive = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
        if path == Path::new("-") {
            Self::Stdout
        } else if is_archive || (path.exists() && !path.is_dir()) {
            Self::Archive(path.to_owned())
        } else {
            // Without a `/` at its end: what is written first stands beside it.
            Self::Directory(path.components().collect())
        }
    }

    /// The output of one part of several, as in `bundle.2-of-3.tar`.
    pub(super) fn part(&self, part: usize, parts: usize) -> Self {
        if parts < 2 {
            return self.clone();
        }
        let numbered = |path: &Path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
            path.with_file_name(format!("{stem}.{part}-of-{parts}{}", extension.unwrap_or_default()))
        };
        match self {
            Self::Stdout => Self::Stdout,
            Self::Archive(path) => Self::Archive(numbered(path)),
            Self::Directory(path) => Self::Directory(numbered(path)),
        }
    }

    /// Its name for a message.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::Archive(path) | Self::Directory(path) => path.display().to_string(),
        }
    }

    /// The file beside it that is the sender's record; none for standard output.
    pub(super) fn receipt(&self) -> Option<PathBuf> {
        match self {
            Self::Stdout => None,
            Self::Archive(path) | Self::Directory(path) => {
                let mut name = path.file_name().unwrap_or_default().to_owned();
                name.push(".receipt");
                Some(path.with_file_name(name))
            }
        }
    }

    /// Whether it may be written: a directory that holds something is not.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Self::Directory(path) = self
            && path.extension().is_some_and(|end| ["gz", "tgz", "zst", "zstd"].iter().any(|packed| end == *packed))
        {
            return Err(
                "bundles are not packed: their layers are; name it `.tar`, or pipe `-` into a packer".to_owned()
            );
        }
        if let Self::Directory(path) = self
            && path.exists()
        {
            let is_empty = path.is_dir() && path.read_dir().is_ok_and(|mut entries| entries.next().is_none());
            return if is_empty { Ok(()) } else { Err(format!("{} is there, and is not empty", path.display())) };
        }
        Ok(())
    }

    /// Writes an archive of `bytes`. `progress` is told how far it is.
    pub(super) fn write(&self, from: &mut dyn Read, bytes: u64, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                copy(from, &mut out, bytes, progress)?;
                out.flush()
            }
            Self::Archive(path) => write_file(path, &mut |out| copy(from, out, bytes, progress)),
            Self::Directory(path) => unpack(path, from, progress),
        }
    }
}

/// Writes a file under another name, and gives it its own when it is whole and on the disk.
pub(super) fn write_file(path: &Path, write: &mut dyn FnMut(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).custom_flags(no_link).open(&part);
    let mut file = file?;
    let written = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&part, path));
    if let Err(err) = written {
        let _left = std::fs::remove_file(&part);
        return Err(err);
    }
    sync_directory_of(path)
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn copy(from: &mut dyn Read, to: &mut dyn io::Write, bytes: u64, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            let is_whole = copied == bytes;
            return if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        to.write_all(buffer.get(..read).unwrap_or_default())?;
        copied += read as u64;
        progress(copied);
    }
}

/// Unpacks a layout. Only names that a layout has are written.
fn unpack(path: &Path, from: &mut dyn Read, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    if part.exists() {
        return Err(io::Error::other(format!("{} is left of another export: remove it", part.display())));
    }
    std::fs::create_dir(&part)?;
    let unpacked = unpack_into(&part, from, progress).and_then(|()| {
        if path.exists() {
            std::fs::remove_dir(path)?;
        }
        std::fs::rename(&part, path)
    });
    if let Err(err) = unpacked {
        let _left = std::fs::remove_dir_all(&part);
        return Err(err);
    }
    sync_directory_of(path)
}

fn unpack_into(root: &Path, from: &mut dyn Read, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut archive = TarReader::new(from);
    let mut written = 0;
    let mut directories = std::collections::BTreeSet::from([root.to_owned()]);
    while let Some(entry) = archive.next_entry().map_err(io::Error::other)? {
        let name = match digest_of_path(&entry.name) {
            Some(("", digest)) => blob_path(digest),
            None if is_plain(&entry.name) => entry.name.clone(),
            Some(_) | None => continue,
        };
        if entry.kind != TarKind::File {
            continue;
        }
        let to = root.join(name);
        if let Some(directory) = to.parent().filter(|directory| !directories.contains(*directory)) {
            std::fs::create_dir_all(directory)?;
            directories.extend(directory.ancestors().take_while(|above| *above != root).map(Path::to_owned));
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&to)?;
        let mut left = entry.size_bytes;
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let read = archive.read(buffer.get_mut(..most).unwrap_or_default())?;
            file.write_all(buffer.get(..read).unwrap_or_default())?;
            left -= read as u64;
            written += read as u64;
            progress(written);
        }
        file.sync_all()?;
    }
    for directory in directories {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn is_plain(name: &str) -> bool {
    matches!(name, LAYOUT_FILE | INDEX_FILE | MANIFEST_FILE | RECEIPT_FILE)
}
