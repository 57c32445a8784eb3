use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::oci::{Algorithm, Authority, Digest};

/// Where things are. Paths are built from checked values only.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        let layout = Self { root: root.to_owned() };
        for algorithm in Algorithm::ALL {
            make_dir(&root.join("blobs").join(algorithm.name()))?;
        }
        make_dir(&layout.partials())?;
        // A name is on the disk when the directory that holds it is synced, up to the root and its own name.
        for dir in [layout.blobs(), root.to_owned()] {
            sync_dir(&dir)?;
        }
        if let Some(above) = root.parent().filter(|above| !above.as_os_str().is_empty()) {
            // It may belong to somebody else, who keeps it.
            let _not_ours = sync_dir(above);
        }
        for probe in layout.probes() {
            remove_if_there(&probe)?;
        }
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Two levels keep directories small: 256 of them hold a million blobs with 4,000 names each.
    pub(super) fn blob(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        let shard: String = hex.chars().take(2).collect();
        self.blobs().join(digest.algorithm().name()).join(shard).join(hex)
    }

    /// The two names of a file that is written to learn whether the disk works.
    pub(super) fn probes(&self) -> [PathBuf; 2] {
        [self.partials().join("probe"), self.blobs().join("probe")]
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// There only between a clean stop and the next start.
    pub(super) fn clean_stop(&self) -> PathBuf {
        self.root.join("STOPPED")
    }

    /// Where the background check is.
    pub(super) fn scrub_cursor(&self) -> PathBuf {
        self.root.join("VERIFY")
    }

    /// Blobs of imports that nothing names yet.
    pub(super) fn staged(&self) -> PathBuf {
        self.root.join("STAGED")
    }

    /// Jobs to go on with.
    pub(super) fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    pub(super) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(super) fn partial(&self, authority: &Authority, digest: Digest) -> PathBuf {
        let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
        self.partials().join(authority.as_str()).join(name)
    }
}

/// Directories of blobs whose own names are on the disk, as far as this process knows. Another fill, or an earlier process,
/// may have made one and not have synced it.
#[derive(Debug, Default)]
pub(super) struct Shards(Mutex<HashSet<PathBuf>>);

impl Shards {
    pub(super) fn ensure(&self, shard: &Path) -> io::Result<()> {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(shard) {
            return Ok(());
        }
        make_dir(shard)?;
        if let Some(parent) = shard.parent() {
            sync_dir(parent)?;
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(shard.to_owned());
        Ok(())
    }
}

/// The sidecar of a partial file.
pub(super) fn sidecar(partial: &Path) -> PathBuf {
    partial.with_extension("json")
}

pub(super) fn digest_of_partial(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(path)
}

pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(path)
}

/// Opens what has a stored file's name for reading. Waits for nobody: a FIFO would have it wait for a writer.
pub(super) fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Reads a small file of the storage whole.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open_at_once(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "something that is no file is in its place"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a small file of the storage by way of `temporary`, in the same directory: whole or not at all, whatever happens
/// meanwhile.
pub(super) fn write_durably(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    remove_if_there(temporary)?;
    let mut file = create_file(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Removes a partial file that nobody works on, and its sidecar; gives its bytes.
pub(super) fn remove_leftover(partial: &Path) -> io::Result<u64> {
    let size_bytes = std::fs::metadata(partial).map_or(0, |metadata| metadata.len());
    remove_if_there(&sidecar(partial))?;
    remove_if_there(partial)?;
    // Of an authority that a client made up, nothing stays. One that is not empty is not removed.
    let _in_use = partial.parent().map(std::fs::remove_dir);
    Ok(size_bytes)
}

/// Makes names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removing what is not there is done.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}
