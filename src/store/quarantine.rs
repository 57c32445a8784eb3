//! Where stored files go whose bytes are wrong: out of everybody's reach, and kept a while for who looks into it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Digest, Store, layout, off_runtime};
use crate::clock::Timestamp;

/// Files kept. The oldest go first.
const MAX_FILES: usize = 100;
/// Bytes kept. A larger file is removed at once.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;
const MAX_AGE: Duration = Duration::from_hours(30 * 24);

impl Store {
    /// Takes a stored file out of reach: from here on it is a miss. Its row is the caller's to remove.
    pub async fn quarantine(&self, digest: Digest, now: Timestamp) -> io::Result<()> {
        let (blob, quarantine) = (self.layout.blob(digest), self.layout.quarantine());
        let (space, held, trouble) = (Arc::clone(&self.space), Arc::clone(&self.held), Arc::clone(&self.trouble));
        off_runtime(move || {
            let size_bytes = match std::fs::metadata(&blob) {
                Ok(metadata) => metadata.len(),
                Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(err) => return Err(err),
            };
            let name = format!("{:013}-{}-{}", now.as_millis(), digest.algorithm().name(), digest.hex());
            let moved = layout::make_dir(&quarantine).and_then(|()| std::fs::rename(&blob, quarantine.join(name)));
            if moved.is_err() {
                // Not to be read is what matters.
                std::fs::remove_file(&blob)?;
            }
            // Of one that was removed, what somebody has open still takes its space; one that was moved is not counted.
            if moved.is_err() {
                held.removed(digest, size_bytes);
            }
            space.forget_stored(size_bytes);
            if let Some(shard) = blob.parent()
                && let Err(err) = trouble.sync_removal(shard)
            {
                tracing::warn!(%digest, %err, "wrong bytes that were moved away may be back after a power cut");
            }
            // What cannot be thinned out now is thinned out at the next one.
            let _later = thin_out(&quarantine, now);
            Ok(())
        })
        .await?;
        let _was_unreadable = self.trouble.can_read(digest);
        Ok(())
    }
}

/// Removes what is too much, or too old: names begin with the time.
fn thin_out(quarantine: &Path, now: Timestamp) -> io::Result<()> {
    let mut kept: Vec<(PathBuf, u64)> = Vec::new();
    for entry in std::fs::read_dir(quarantine)? {
        let entry = entry?;
        kept.push((entry.path(), entry.metadata()?.len()));
    }
    kept.sort();
    let mut bytes: u64 = kept.iter().map(|(_, size_bytes)| size_bytes).sum();
    let mut files = kept.len();
    for (path, size_bytes) in kept {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let since = name.split_once('-').and_then(|(millis, _)| millis.parse().ok()).map(Timestamp::from_millis);
        let is_old = since.is_none_or(|since| now.since(since) > MAX_AGE);
        if !is_old && files <= MAX_FILES && bytes <= MAX_BYTES {
            break;
        }
        layout::remove_if_there(&path)?;
        files -= 1;
        bytes -= size_bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_are_too_old() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(40 * 86_400_000);
        let name = |nth: u64| format!("{:013}-sha256-{nth}", now.as_millis() - 1000 + nth);
        for nth in 0..120 {
            std::fs::write(directory.path().join(name(nth)), "x").unwrap();
        }
        std::fs::write(directory.path().join(format!("{:013}-sha256-old", 1)), "x").unwrap();
        thin_out(directory.path(), now).unwrap();
        let left = || std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left(), MAX_FILES);
        assert!(!directory.path().join(name(19)).exists() && directory.path().join(name(20)).exists());
        thin_out(directory.path(), now.plus(MAX_AGE + Duration::from_secs(2))).unwrap();
        assert_eq!(left(), 0);
    }
}
