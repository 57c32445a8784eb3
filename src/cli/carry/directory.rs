//! A directory with a layout or a `dir:` as a tar archive, made while it is read. Links are not followed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use roadstead::jobs::bundle::docker_archive::MANIFEST_FILE;
use roadstead::jobs::bundle::layout::{INDEX_FILE, LAYOUT_FILE};
use roadstead::jobs::bundle::receipt::RECEIPT_FILE;
use roadstead::jobs::bundle::tar_writer::{TAR_END, tar_bytes, tar_header, tar_padding};

/// Files that say what the others are, in the order in which they are sent.
const FIRST: [&str; 5] = [LAYOUT_FILE, INDEX_FILE, MANIFEST_FILE, RECEIPT_FILE, "version"];

/// A directory as an archive.
pub(super) struct DirectoryArchive {
    left: VecDeque<(String, PathBuf)>,
    current: Box<dyn Read + Send>,
    has_ended: bool,
    /// About how long the archive is.
    pub(super) bytes: u64,
}

impl DirectoryArchive {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let mut names = Vec::new();
        list(root, "", &mut names)?;
        let blobs = root.join("blobs");
        if blobs.is_dir() {
            for entry in std::fs::read_dir(&blobs)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    let algorithm = entry.file_name().to_string_lossy().into_owned();
                    list(&entry.path(), &format!("blobs/{algorithm}/"), &mut names)?;
                }
            }
        }
        let rank = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
        names.sort_by(|(one, ..), (other, ..)| (rank(one), one).cmp(&(rank(other), other)));
        let bytes = names.iter().map(|(_, _, size)| tar_bytes(*size)).sum();
        let left = names.into_iter().map(|(name, path, _)| (name, path)).collect();
        Ok(Self { left, current: Box::new(io::empty()), has_ended: false, bytes })
    }
}

fn list(directory: &Path, prefix: &str, names: &mut Vec<(String, PathBuf, u64)>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.path().symlink_metadata()?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if metadata.is_file() && name.len() <= 100 && name.is_ascii() {
            names.push((name, entry.path(), metadata.len()));
        }
    }
    Ok(())
}

impl Read for DirectoryArchive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() || self.has_ended {
                return Ok(read);
            }
            let Some((name, path)) = self.left.pop_front() else {
                self.current = Box::new(Cursor::new(TAR_END));
                self.has_ended = true;
                continue;
            };
            let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
            let file = File::options().read(true).custom_flags(no_link).open(&path)?;
            let size_bytes = file.metadata()?.len();
            let padding = vec![0; tar_padding(size_bytes)];
            let content = Exactly { file, left: size_bytes };
            self.current =
                Box::new(Cursor::new(tar_header(&name, size_bytes)).chain(content).chain(Cursor::new(padding)));
        }
    }
}

/// A file of which the size was written down: one that shrinks meanwhile is an error.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.file.read(buffer)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file of the directory became shorter"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use roadstead::jobs::bundle::tar_reader::TarReader;

    use super::*;

    #[test]
    fn a_directory_becomes_an_archive_without_its_links() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("blobs/sha256")).unwrap();
        std::fs::write(root.path().join("blobs/sha256/aa"), "abc").unwrap();
        std::fs::write(root.path().join("index.json"), "{}").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("blobs/sha256/bb")).unwrap();
        let mut archive = Vec::new();
        DirectoryArchive::open(root.path()).unwrap().read_to_end(&mut archive).unwrap();
        let mut reader = TarReader::new(archive.as_slice());
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            names.push(entry.name);
        }
        assert_eq!(names, ["index.json", "blobs/sha256/aa"]);
    }
}
