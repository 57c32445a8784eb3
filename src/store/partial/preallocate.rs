//! Space on the disk for a partial file.
//!
//! The first byte does not wait for all of it: where the disk is far from full, only the beginning is set aside before it,
//! and the rest while bytes come. A refusal then fails the next write, like one of the disk.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::super::off_runtime;

/// Bytes set aside before the first one is written.
const AT_ONCE: u64 = 16 * 1024 * 1024;
/// Bytes set aside in one step: file systems let nobody write to the file meanwhile.
const STEP: u64 = 64 * 1024 * 1024;

/// Why the disk refused, once it has.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusal(Arc<OnceLock<Errno>>);

#[derive(Debug, Default)]
pub(super) struct Allocation {
    refusal: Refusal,
    running: Option<Running>,
}

/// Ends at its next step when dropped.
#[derive(Debug)]
struct Running {
    stop: Arc<AtomicBool>,
    job: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Refusal {
    /// For whoever is about to write.
    pub(super) fn check(&self) -> io::Result<()> {
        self.0.get().map_or(Ok(()), |errno| Err((*errno).into()))
    }
}

impl Allocation {
    pub(super) fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    /// Sets space aside for `range`; the file's length stays. `promised`: bytes of all partial files together. All is done
    /// when this returns, if the disk might not have so many twice.
    pub(super) async fn set_aside(&mut self, file: &Arc<File>, range: Range<u64>, promised: u64) -> io::Result<()> {
        let Range { start, end: size_bytes } = range;
        self.end().await;
        let at_once = Arc::clone(file);
        let done = off_runtime(move || {
            let is_ample = rustix::fs::fstatvfs(&*at_once)
                .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) / 2 >= promised.max(size_bytes));
            let end = if is_ample { size_bytes.min(start + AT_ONCE) } else { size_bytes };
            allocate(&at_once, start, end)?;
            Ok(end)
        })
        .await?;
        if done < size_bytes {
            let stop = Arc::new(AtomicBool::new(false));
            let (file, refusal, stopped) = (Arc::clone(file), self.refusal.clone(), Arc::clone(&stop));
            let job = tokio::task::spawn_blocking(move || {
                let mut at = done;
                while at < size_bytes && !stopped.load(Ordering::Relaxed) {
                    let end = size_bytes.min(at + STEP);
                    if let Err(errno) = allocate(&file, at, end) {
                        let _first = refusal.0.set(errno);
                        return;
                    }
                    at = end;
                }
            });
            self.running = Some(Running { stop, job });
        }
        Ok(())
    }

    /// Nothing is set aside any more when this returns: the file's end can be cut.
    pub(super) async fn end(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.stop.store(true, Ordering::Relaxed);
            let _ended = (&mut running.job).await;
        }
    }
}

fn allocate(file: &File, from: u64, end: u64) -> Result<(), Errno> {
    if from >= end {
        return Ok(());
    }
    // The file's length stays what was written: a resumed fill reads it.
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, end - from) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[tokio::test]
    async fn all_is_set_aside_in_the_end_and_the_length_stays() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut allocation = Allocation::default();
        let size = 2 * AT_ONCE;
        allocation.set_aside(&file, 0..size, size).await.unwrap();
        if let Some(mut running) = allocation.running.take() {
            (&mut running.job).await.unwrap();
        }
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 0);
        assert!(metadata.blocks() * 512 >= size, "{} blocks", metadata.blocks());
        allocation.refusal().check().unwrap();
    }

    #[tokio::test]
    async fn where_the_disk_might_not_have_it_nothing_is_left_for_later() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut allocation = Allocation::default();
        allocation.set_aside(&file, 0..2 * AT_ONCE, u64::MAX).await.unwrap();
        assert!(allocation.running.is_none());
    }

    #[test]
    fn a_refusal_is_told_to_whoever_writes() {
        let refusal = Refusal::default();
        refusal.check().unwrap();
        refusal.0.set(Errno::NOSPC).unwrap();
        assert!(crate::store::is_no_space(&refusal.check().unwrap_err()));
    }
}
