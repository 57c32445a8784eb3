//! What a crash left in `partial/`, which each start reads. Without an index, `blobs/` is walked.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::oci::Digest;

use super::partial::Sidecar;
use super::{Store, layout};

/// A partial file that an earlier process left behind.
#[derive(Debug)]
pub enum Leftover {
    /// It was linked into place: the index may not know the blob. Remove the partial name when it does.
    Committed { digest: Digest, size_bytes: u64, partial: PathBuf },
    /// A fill can go on from here at the next request.
    Resumable,
}

/// A stored blob, found by walking.
#[derive(Debug, Clone, Copy)]
pub struct StoredFile {
    pub digest: Digest,
    pub size_bytes: u64,
}

/// Looks at every partial file, and removes those that are of no use. What it cannot make sense of, it leaves alone:
/// nothing there is worth a start that fails. Blocking; for start-up.
pub fn recover(store: &Store) -> io::Result<Vec<Leftover>> {
    let mut leftovers = Vec::new();
    for authority in std::fs::read_dir(store.layout.partials())? {
        let authority = authority?.path();
        if !authority.is_dir() {
            continue;
        }
        let entries = match std::fs::read_dir(&authority) {
            Ok(entries) => entries,
            Err(err) => {
                tracing::warn!(path = %authority.display(), error = %err, "left alone");
                continue;
            }
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            match decide(store, &path) {
                Ok(leftover) => leftovers.extend(leftover),
                Err(err) => tracing::warn!(path = %path.display(), error = %err, "left alone"),
            }
        }
    }
    for partial in store.space.surplus_leftovers() {
        layout::remove_leftover(&partial)?;
        store.space.take_over(&partial);
    }
    Ok(leftovers)
}

fn decide(store: &Store, path: &Path) -> io::Result<Option<Leftover>> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(digest) = layout::digest_of_partial(name) else {
        // A sidecar goes with its file, or stays for it.
        let is_sidecar = path.extension().is_some_and(|end| end == "json") && path.with_extension("").exists();
        if !is_sidecar {
            layout::remove_if_there(path)?;
        }
        return Ok(None);
    };
    let stored = std::fs::metadata(store.layout.blob(digest)).ok();
    // Another file under that digest came from elsewhere, and this one is a download that was not finished.
    if stored.is_some_and(|stored| (stored.dev(), stored.ino()) == (metadata.dev(), metadata.ino())) {
        let partial = path.to_owned();
        return Ok(Some(Leftover::Committed { digest, size_bytes: metadata.len(), partial }));
    }
    let sidecar = layout::read_file(&layout::sidecar(path)).ok();
    let sidecar: Option<Sidecar> = sidecar.and_then(|text| serde_json::from_slice(&text).ok());
    let resumable = metadata.is_file()
        && sidecar.is_some_and(|sidecar| {
            sidecar.synced_bytes > 0 && sidecar.size_bytes.is_none_or(|size| sidecar.synced_bytes <= size)
        });
    if !resumable {
        layout::remove_if_there(&layout::sidecar(path))?;
        layout::remove_if_there(path)?;
        return Ok(None);
    }
    // Counted for as long as this process runs, or until a fill takes it over and counts it anew.
    store.space.count_leftover(path, metadata.len());
    Ok(Some(Leftover::Resumable))
}

/// Removes the name of a partial file whose blob the index has durably.
pub fn forget_partial(partial: &Path) -> io::Result<()> {
    layout::remove_if_there(&layout::sidecar(partial))?;
    layout::remove_if_there(partial)
}

/// Every stored blob, for an index that was lost. Blocking; its time grows with the number of blobs.
pub fn walk(store: &Store, mut each: impl FnMut(StoredFile)) -> io::Result<()> {
    for algorithm in crate::oci::Algorithm::ALL {
        for shard in std::fs::read_dir(store.layout.blobs().join(algorithm.name()))? {
            let shard = shard?.path();
            if !shard.is_dir() {
                continue;
            }
            for entry in std::fs::read_dir(shard)? {
                let entry = entry?;
                let name = entry.file_name();
                let digest = format!("{}:{}", algorithm.name(), name.to_string_lossy()).parse();
                if let Ok(digest) = digest {
                    each(StoredFile { digest, size_bytes: entry.metadata()?.len() });
                }
            }
        }
    }
    Ok(())
}

/// Whether the last process ended in good order, or there was none. From here on, this one has not. Blocking; for start-up.
pub fn take_clean_stop(store: &Store) -> io::Result<bool> {
    let clean_stop = store.layout.clean_stop();
    let was_clean = clean_stop.exists();
    if was_clean {
        layout::remove_if_there(&clean_stop)?;
        layout::sync_dir(store.layout.root())?;
    }
    Ok(was_clean)
}

/// Everything is written down. Blocking; the last act.
pub fn record_clean_stop(store: &Store) -> io::Result<()> {
    std::fs::File::create(store.layout.clean_stop())?.sync_all()?;
    layout::sync_dir(store.layout.root())
}
